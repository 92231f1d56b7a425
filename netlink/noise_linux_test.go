package netlink

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"flexphone/netlink/internal/isptest"
	"flexphone/netlink/internal/link"
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
	n := newNoise(t)
	i := newISP6(t)
	i.Inside("ip", "address", "add", simServer.String()+"/24", "dev", "isp0")
	cfg := testConfig(t)
	cfg.Log = nil // a line for each
	s, err := OnVoiceVLAN(cfg, Voice{Wait: time.Millisecond}, func(cfg Config) (Source, error) {
		four, err := NewClient(cfg)
		if err != nil {
			return nil, err
		}
		return WithIPv6(cfg, four)
	})
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	serve(t, i, func(d *dhcpv4.DHCPv4) [][]byte {
		var out [][]byte
		// What comes before the right answer fits into a socket's buffer.
		noisy := func(many int) {
			for many += len(out); len(out) < many; {
				b := n.reply(d.TransactionID, MAC(d.ClientHWAddr))
				r, err := parseReply(b, MAC(d.ClientHWAddr))
				if err != nil || r.kind == dhcpv4.MessageTypeOffer || r.server != simServer { // else it is the server's word
					out = append(out, b)
				}
			}
		}
		renewal := d.MessageType() == requestType && addrFrom(d.ClientIPAddr) == simAddr
		if renewal {
			noisy(100)
		}
		for _, r := range pool(simAddr)(d) {
			r.xid, r.t1, r.t2, r.time = d.TransactionID, time.Second, 20*time.Second, 30*time.Second
			out = append(out, encodeReply(r, MAC(d.ClientHWAddr)))
		}
		if renewal {
			noisy(1000)
		}
		sent.Add(int64(len(out)))
		return out
	})
	r := start(t, s)
	r.want(Bound)
	router := routerOf(t, i)
	want := netip.MustParseAddr("2001:db8:1::5eff:fe00:5301")
	router.say(routerA, 7200, nil, prefixP)
	r.until("both addresses", func(e Event) bool { return slices.Equal(e.Lease.Addrs(), []netip.Addr{simAddr, want}) })
	var port *link.Tap
	i.Do(func() error {
		l, err := link.Read("isp0")
		if err != nil {
			return err
		}
		port, err = link.OpenTap(l.Index, etherLLDP, lldpFilter(), nil)
		return err
	})
	defer port.Discard()
	m := newNoise(t) // of this goroutine
	for k := range manyPackets {
		if err := port.Send(m.lldp(), lldpGroup()); err != nil {
			t.Fatal(err)
		}
		if err := router.tap.Send(m.advertisement(), MAC{0x33, 0x33, 0, 0, 0, 1}); err != nil {
			t.Fatal(err)
		}
		if k%1000 == 0 {
			router.say(routerA, 7200, nil, prefixP)
		}
	}
	for end := time.Now().Add(time.Minute); sent.Load() < manyPackets && time.Now().Before(end); {
		if e := r.Any(); e.Kind != Renewed || !slices.Equal(e.Lease.Addrs(), []netip.Addr{simAddr, want}) || e.Lease.Interface != "eth0" {
			t.Fatalf("%v of %v on %s", e.Kind, e.Lease.Addrs(), e.Lease.Interface)
		}
	}
	t.Logf("%d DHCP replies", sent.Load())
	if addrs := isptest.IP(t, "-4", "-o", "address", "show", "dev", "eth0"); strings.Count(addrs, "inet ") != 1 || !strings.Contains(addrs, simAddr.String()) {
		t.Errorf("addresses are %s", addrs)
	}
	if addrs := isptest.IP(t, "-6", "-o", "address", "show", "dev", "eth0", "scope", "global", "-deprecated"); !strings.Contains(addrs, want.String()) {
		t.Errorf("IPv6 addresses are %s", addrs)
	}
}
