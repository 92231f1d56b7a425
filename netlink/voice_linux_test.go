package netlink

import (
	"errors"
	"strings"
	"testing"
	"time"

	rtnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A tagger stands in for a kernel without 802.1Q: every VLAN is the interface
// itself. It notes which were asked for.
type tagger struct{ made chan int }

func startVoice(t *testing.T, want Voice) (*runningSource, tagger) {
	t.Helper()
	s, err := OnVoiceVLAN(testConfig(t), want, func(cfg Config) (Source, error) { return NewClient(cfg) })
	if err != nil {
		t.Fatal(err)
	}
	tags := tagger{make(chan int, 16)}
	v := s.(*voice)
	v.make = func(ifname string, vlan int) (string, error) { tags.made <- vlan; return ifname, nil }
	v.remove = func(string) error { return nil }
	return start(t, s), tags
}

func (g tagger) want(t *testing.T, vlan int) {
	t.Helper()
	select {
	case got := <-g.made:
		if got != vlan {
			t.Errorf("VLAN %d was made; want %d", got, vlan)
		}
	case <-time.After(patience):
		t.Fatalf("VLAN %d was never made", vlan)
	}
}

func TestVoiceFollowsTheSwitch(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	i := newISP(t, ispAddr)
	i.startDNS(firstPool)
	frames := make(chan []byte, 16)
	var port *tap
	i.do(func() error {
		l, err := readLink("isp0")
		if err != nil {
			return err
		}
		port, err = openTap(l.index, etherLLDP, lldpFilter(), frames)
		return errors.Join(err, port.join(lldpGroup()))
	})
	ended := make(chan struct{})
	go func() { port.read(); close(ended) }()
	say := func(b []byte) {
		t.Helper()
		if err := port.send(b, lldpGroup()); err != nil {
			t.Fatal(err)
		}
	}
	// A switch speaks of voice to telephones alone, and to these at once. What
	// it says first may be lost: its end of the cable may not be ready.
	answered, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(answered)
		for {
			select {
			case b := <-frames:
				if !strings.Contains(string(b), medOUI) {
					t.Errorf("the phone says %x", b)
				}
				port.send([]byte("noise"), lldpGroup())
				port.send(switchSays(voicePolicy{vlan: 42, life: 2 * time.Minute}), lldpGroup())
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { port.close(); <-ended })
	s, tags := startVoice(t, Voice{Wait: time.Minute})
	tags.want(t, 42)
	close(stop)
	<-answered
	l := s.want(Bound).Lease
	assertInstalled(t, l)
	say(switchSays(voicePolicy{vlan: 43, life: 2 * time.Minute}))
	tags.want(t, 43)
	assertInstalled(t, s.want(Bound).Lease)
	say(switchSays(voicePolicy{life: 2 * time.Minute})) // untagged
	assertInstalled(t, s.want(Bound).Lease)
	s.stop()
	s.want(Lost)
	if len(tags.made) != 0 {
		t.Errorf("VLAN %d was made", <-tags.made)
	}
}

func TestVoiceFollowsTheDHCPServer(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	i := newISP(t, ispAddr)
	i.startDNS(firstPool, "--dhcp-option=132,44")
	s, tags := startVoice(t, Voice{Wait: time.Millisecond})
	tags.want(t, 44)
	assertInstalled(t, s.want(Bound).Lease)
}

func TestVoiceWithoutAnyVLAN(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	newISP(t, ispAddr).startDNS(firstPool)
	s, tags := startVoice(t, Voice{Wait: time.Millisecond})
	assertInstalled(t, s.want(Bound).Lease)
	if len(tags.made) != 0 {
		t.Errorf("VLAN %d was made", <-tags.made)
	}
}

func TestVoiceOnARealVLAN(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	i := newISP(t, ispAddr)
	ip(t, "link", "set", "eth0", "up")
	l, err := readLink("eth0")
	if err != nil {
		t.Fatal(err)
	}
	probe := &rtnl.Vlan{LinkAttrs: rtnl.LinkAttrs{Name: "probe", ParentIndex: l.index}, VlanId: 9}
	if err := rtnl.LinkAdd(probe); errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("this kernel has no 802.1Q (CONFIG_VLAN_8021Q)")
	} else if err != nil {
		t.Fatal(err)
	}
	ip(t, "link", "delete", "probe")
	i.inside("ip", "link", "add", "link", "isp0", "name", "tagged", "type", "vlan", "id", "42")
	i.inside("ip", "address", "add", "10.99.0.1/24", "dev", "tagged")
	i.inside("ip", "link", "set", "tagged", "up")
	i.startDNS("10.99.0.50,10.99.0.50,2m", "--interface=tagged")
	s, err := OnVoiceVLAN(testConfig(t), Voice{VLAN: 42}, func(cfg Config) (Source, error) { return NewClient(cfg) })
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, s)
	if l := r.want(Bound).Lease; l.Interface != "eth0.42" || l.Prefix.String() != "10.99.0.50/24" {
		t.Errorf("lease is %+v", l)
	}
	r.stop()
	if left, _ := readLink("eth0.42"); left.index != 0 {
		t.Error("the VLAN's interface is still there")
	}
}
