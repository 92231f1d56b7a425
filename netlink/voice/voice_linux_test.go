package voice

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	rtnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"flexphone/internal/mac"
	"flexphone/netlink"
	"flexphone/netlink/internal/isptest"
	"flexphone/netlink/internal/link"
	"flexphone/netlink/internal/lldp"
)

// A running is a Source under test.
type running struct {
	*isptest.Running[netlink.Event]
}

func start(t testing.TB, s netlink.Source) running { return running{isptest.Start(t, s)} }

// want waits for the next event, which must be of this kind.
func (r running) want(kind netlink.EventKind) netlink.Event {
	r.T.Helper()
	e := r.Any()
	if e.Kind != kind {
		r.T.Fatalf("event %v of %v (%s); want %v", e.Kind, e.Lease.Prefix, e.Reason, kind)
	}
	return e
}

func testConfig(t testing.TB) netlink.Config {
	return netlink.Config{Interface: "eth0", Log: isptest.Log(t)}
}

// assertInstalled checks that the kernel agrees with l.
func assertInstalled(t testing.TB, l netlink.Lease) {
	t.Helper()
	isptest.AssertAddress(t, l.Interface, l.Prefix, l.Router)
}

// theirs is the MAC of a switch.
var theirs = mac.Address{2, 0, 0x5e, 0, 0x53, 2}

// switchSays is the LLDPDU of a switch with a policy for voice.
func switchSays(p lldp.Policy) []byte {
	return lldp.Build(theirs, "switch", lldp.Connectivity, p.Life, p, true)
}

// A tagger stands in for a kernel without 802.1Q: every VLAN is the interface
// itself. It notes which were asked for.
type tagger struct{ made chan int }

func startVoice(t *testing.T, want Config) (running, tagger) {
	t.Helper()
	s, err := OnVLAN(testConfig(t), want, func(cfg netlink.Config) (netlink.Source, error) { return netlink.NewClient(cfg) })
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
	case <-time.After(isptest.Patience):
		t.Fatalf("VLAN %d was never made", vlan)
	}
}

// A lanSwitch speaks LLDP-MED at the other end of the cable.
type lanSwitch struct {
	t     *testing.T
	port  *link.Tap
	heard chan []byte
}

func newLANSwitch(t *testing.T, i *isptest.ISP) *lanSwitch {
	t.Helper()
	w := &lanSwitch{t: t, heard: make(chan []byte, 16)}
	i.Do(func() error {
		l, err := link.Read("isp0")
		if err != nil {
			return err
		}
		w.port, err = link.OpenTap(l.Index, lldp.EtherType, link.All(), w.heard)
		return errors.Join(err, w.port.Join(lldp.Group()))
	})
	ended := make(chan struct{})
	go func() { w.port.Read(); close(ended) }()
	t.Cleanup(func() { w.port.Close(); <-ended })
	return w
}

func (w *lanSwitch) say(p lldp.Policy) {
	w.t.Helper()
	if err := w.port.Send(switchSays(p), lldp.Group()); err != nil {
		w.t.Fatal(err)
	}
}

// answer has the switch speak of voice to telephones alone, and to these at once,
// until stop is called. What it says first may be lost: its end of the cable may
// not be ready.
func (w *lanSwitch) answer(p lldp.Policy) (stop func()) {
	ended, quit := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case b := <-w.heard:
				if !strings.Contains(string(b), lldp.OUI) {
					w.t.Errorf("the phone says %x", b)
				}
				w.port.Send([]byte("noise"), lldp.Group())
				w.port.Send(switchSays(p), lldp.Group())
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit); <-ended }
}

const voiceLife = 2 * time.Minute

func TestVoiceFollowsTheSwitch(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := isptest.New(t, isptest.Addr)
	i.StartDNS(isptest.FirstPool)
	w := newLANSwitch(t, i)
	stop := w.answer(lldp.Policy{VLAN: 42, Life: voiceLife})
	s, tags := startVoice(t, Config{Wait: time.Minute})
	tags.want(t, 42)
	stop()
	l := s.want(netlink.Bound).Lease
	assertInstalled(t, l)
	w.say(lldp.Policy{VLAN: 43, Life: voiceLife})
	tags.want(t, 43)
	assertInstalled(t, s.want(netlink.Bound).Lease)
	phone := lldp.Build(mac.Address{2, 0, 0, 0, 0, 9}, "phone", 3, voiceLife, lldp.Policy{VLAN: 66}, true)
	if err := w.port.Send(phone, lldp.Group()); err != nil { // which sets no policy
		t.Fatal(err)
	}
	w.say(lldp.Policy{Life: voiceLife}) // untagged
	assertInstalled(t, s.want(netlink.Bound).Lease)
	w.say(lldp.Policy{VLAN: 44, Life: voiceLife})
	tags.want(t, 44)
	assertInstalled(t, s.want(netlink.Bound).Lease)
	w.say(lldp.Policy{}) // a switch that says goodbye
	assertInstalled(t, s.want(netlink.Bound).Lease)
	w.say(lldp.Policy{VLAN: 45, Life: voiceLife})
	tags.want(t, 45)
	assertInstalled(t, s.want(netlink.Bound).Lease)
	withdrawn := lldp.Build(theirs, "switch", lldp.Connectivity, voiceLife, lldp.Policy{}, false)
	if err := w.port.Send(withdrawn, lldp.Group()); err != nil {
		t.Fatal(err)
	}
	assertInstalled(t, s.want(netlink.Bound).Lease)
	s.Stop()
	s.want(netlink.Lost)
	if len(tags.made) != 0 {
		t.Errorf("VLAN %d was made", <-tags.made)
	}
}

func TestVoiceFollowsTheDHCPServer(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := isptest.New(t, isptest.Addr)
	i.StartDNS(isptest.FirstPool, "--dhcp-option=132,44")
	s, tags := startVoice(t, Config{Wait: time.Millisecond})
	tags.want(t, 44)
	assertInstalled(t, s.want(netlink.Bound).Lease)
}

func TestVoiceWithoutAnyVLAN(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	isptest.New(t, isptest.Addr).StartDNS(isptest.FirstPool)
	s, tags := startVoice(t, Config{Wait: time.Millisecond})
	assertInstalled(t, s.want(netlink.Bound).Lease)
	if len(tags.made) != 0 {
		t.Errorf("VLAN %d was made", <-tags.made)
	}
}

// TestVoiceWithoutTags: a kernel that makes no VLAN keeps the phone on the untagged
// network, and says so.
func TestVoiceWithoutTags(t *testing.T) {
	for name, want := range map[string]Config{"by settings": {VLAN: 42}, "by DHCP option 132": {Wait: time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			if !isptest.InNamespace(t) {
				return
			}
			isptest.New(t, isptest.Addr).StartDNS(isptest.FirstPool, "--dhcp-option=132,44")
			var said bytes.Buffer
			cfg := testConfig(t)
			cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
			s, err := OnVLAN(cfg, want, func(cfg netlink.Config) (netlink.Source, error) { return netlink.NewClient(cfg) })
			if err != nil {
				t.Fatal(err)
			}
			s.(*voice).make = func(string, int) (string, error) { return "", unix.EOPNOTSUPP }
			r := start(t, s)
			if l := r.want(netlink.Bound).Lease; l.Interface != "eth0" {
				t.Errorf("bound on %s", l.Interface)
			}
			r.Stop()
			r.want(netlink.Lost)
			if n := strings.Count(said.String(), "makes no VLAN"); n != 1 {
				t.Errorf("said %d times:\n%s", n, said.String())
			}
		})
	}
}

// TestVoiceComesBackWithItsInterface: an adapter that is pulled takes its VLAN with
// it, and both are back when it is plugged in.
func TestVoiceComesBackWithItsInterface(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	s, tags := startVoice(t, Config{VLAN: 42})
	plug := func(i *isptest.ISP) {
		i.Cable("eth0", isptest.MAC)
		i.Inside("ip", "address", "add", isptest.Addr, "dev", "isp0")
		i.Inside("ip", "link", "set", "isp0", "up")
	}
	i := isptest.New(t, isptest.Addr)
	i.StartDNS(isptest.FirstPool)
	tags.want(t, 42)
	assertInstalled(t, s.want(netlink.Bound).Lease)
	isptest.IP(t, "link", "delete", "eth0")
	s.want(netlink.Lost)
	i.StopDNS()
	plug(i)
	i.StartDNS(isptest.FirstPool)
	assertInstalled(t, s.want(netlink.Bound).Lease)
}

// TestVoiceOnARealVLAN: frames with IEEE 802.1Q tags, a DHCP server behind the
// tag, and each of the ways by which a phone learns of it.
func TestVoiceOnARealVLAN(t *testing.T) {
	const tagged, moved = "10.99.0.50/24", "10.98.0.50/24"
	for _, tt := range []struct {
		name string
		want Config
		isp  []string // more words for dnsmasq
		play func(t *testing.T, w *lanSwitch, r running)
	}{
		{"by settings", Config{VLAN: 42}, nil, nil},
		{"by DHCP option 132", Config{Wait: time.Millisecond}, []string{"--dhcp-option=132,42"}, nil},
		{"by LLDP-MED", Config{Wait: time.Minute}, nil, func(t *testing.T, w *lanSwitch, r running) {
			w.say(lldp.Policy{VLAN: 43, Life: voiceLife}) // somebody configures the switch anew
			if l := r.want(netlink.Bound).Lease; l.Interface != "eth0.43" || l.Prefix.String() != moved {
				t.Errorf("moved to %v on %s", l.Prefix, l.Interface)
			}
			if left, _ := link.Read("eth0.42"); left.Index != 0 {
				t.Error("the interface of the VLAN that was left is still there")
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !isptest.InNamespace(t) {
				return
			}
			i := isptest.New(t, isptest.Addr)
			isptest.IP(t, "link", "set", "eth0", "up")
			needVLAN(t)
			for id, addr := range map[string]string{"42": "10.99.0.1/24", "43": "10.98.0.1/24"} {
				i.Inside("ip", "link", "add", "link", "isp0", "name", "isp0."+id, "type", "vlan", "id", id)
				i.Inside("ip", "address", "add", addr, "dev", "isp0."+id)
				i.Inside("ip", "link", "set", "isp0."+id, "up")
			}
			i.StartDNS(isptest.FirstPool, append(tt.isp, "--interface=isp0.42", "--interface=isp0.43",
				"--dhcp-range=10.99.0.50,10.99.0.50,2m", "--dhcp-range=10.98.0.50,10.98.0.50,2m")...)
			w := newLANSwitch(t, i)
			stop := func() {}
			if tt.play != nil {
				stop = w.answer(lldp.Policy{VLAN: 42, Life: voiceLife})
			}
			s, err := OnVLAN(testConfig(t), tt.want, func(cfg netlink.Config) (netlink.Source, error) { return netlink.NewClient(cfg) })
			if err != nil {
				t.Fatal(err)
			}
			r := start(t, s)
			l := r.want(netlink.Bound).Lease
			stop()
			if l.Interface != "eth0.42" || l.Prefix.String() != tagged {
				t.Errorf("lease is %+v", l)
			}
			i.WaitLog("DHCPACK(isp0.42)", "10.99.0.50", isptest.MAC)
			assertInstalled(t, l)
			if tt.play != nil {
				tt.play(t, w, r)
			}
			r.Stop()
			r.want(netlink.Lost)
			for _, name := range []string{"eth0.42", "eth0.43"} {
				if left, _ := link.Read(name); left.Index != 0 {
					t.Errorf("%s is still there", name)
				}
			}
		})
	}
}

// needVLAN skips the test where the kernel puts no tags on frames.
func needVLAN(t *testing.T) {
	t.Helper()
	l, err := link.Read("eth0")
	if err != nil {
		t.Fatal(err)
	}
	probe := &rtnl.Vlan{LinkAttrs: rtnl.LinkAttrs{Name: "probe", ParentIndex: l.Index}, VlanId: 9}
	if err := rtnl.LinkAdd(probe); errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("this kernel has no 802.1Q (CONFIG_VLAN_8021Q); that of qemu-virt has, see `make test-guest-kernel`")
	} else if err != nil {
		t.Fatal(err)
	}
	isptest.IP(t, "link", "delete", "probe")
}
