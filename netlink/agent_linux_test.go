package netlink_test

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flexphone/netlink"
	"flexphone/netlink/internal/isptest"
	"flexphone/netlink/internal/link"
	"flexphone/netlink/internal/lldp"
	"flexphone/netlink/internal/noise"
	"flexphone/netlink/voice"
)

// TestAgentAmongNoise: a whole agent on a link where 10,000 packets of each kind are
// nearly right: DHCP replies to its own exchanges, router advertisements and LLDP.
func TestAgentAmongNoise(t *testing.T) {
	if testing.Short() {
		t.Skip("30,000 packets take minutes in a guest; run where the others are")
	}
	if !isptest.InNamespace(t) {
		return
	}
	i := netlink.NewISP6(t)
	cfg := netlink.Config{Interface: "eth0", ResolvConf: filepath.Join(t.TempDir(), "resolv.conf")} // and no log: a line for each
	s, err := voice.OnVLAN(cfg, voice.Config{Wait: time.Millisecond}, func(cfg netlink.Config) (netlink.Source, error) {
		four, err := netlink.NewClient(cfg)
		if err != nil {
			return nil, err
		}
		return netlink.WithIPv6(cfg, four)
	})
	if err != nil {
		t.Fatal(err)
	}
	four, sent := netlink.LeaseAmongNoise(t, i)
	r := isptest.Start(t, s)
	if e := r.Any(); e.Kind != netlink.Bound {
		t.Fatalf("%v of %v", e.Kind, e.Lease.Addrs())
	}
	advertise, nearly := netlink.AdvertiseAmongNoise(t, i)
	want := netip.MustParseAddr("2001:db8:1::5eff:fe00:5301")
	advertise()
	for e := r.Any(); !slices.Equal(e.Lease.Addrs(), []netip.Addr{four, want}); e = r.Any() {
		if e.Kind == netlink.Lost {
			t.Fatalf("lost because %q", e.Reason)
		}
	}
	var port *link.Tap
	i.Do(func() error {
		l, err := link.Read("isp0")
		if err != nil {
			return err
		}
		port, err = link.OpenTap(l.Index, lldp.EtherType, link.All(), nil)
		return err
	})
	defer port.Discard()
	m := noise.New(t) // of this goroutine
	for k := range noise.Many {
		if err := port.Send(m.LLDP(), lldp.Group()); err != nil {
			t.Fatal(err)
		}
		nearly()
		if k%1000 == 0 {
			advertise()
		}
	}
	for sent.Load() < noise.Many { // it asks each second
		if e := r.Any(); e.Kind != netlink.Renewed || !slices.Equal(e.Lease.Addrs(), []netip.Addr{four, want}) || e.Lease.Interface != "eth0" {
			t.Fatalf("%v of %v on %s", e.Kind, e.Lease.Addrs(), e.Lease.Interface)
		}
	}
	t.Logf("%d DHCP replies", sent.Load())
	if addrs := isptest.IP(t, "-4", "-o", "address", "show", "dev", "eth0"); strings.Count(addrs, "inet ") != 1 || !strings.Contains(addrs, four.String()) {
		t.Errorf("addresses are %s", addrs)
	}
	if addrs := isptest.IP(t, "-6", "-o", "address", "show", "dev", "eth0", "scope", "global", "-deprecated"); !strings.Contains(addrs, want.String()) {
		t.Errorf("IPv6 addresses are %s", addrs)
	}
}
