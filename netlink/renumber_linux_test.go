package netlink

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/netlink/internal/isptest"
	"flexphone/netlink/internal/link"
)

// A routerSpeaks sends router advertisements into the phone's link.
type routerSpeaks struct {
	t   testing.TB
	tap *link.Tap
}

func routerOf(t testing.TB, i *isptest.ISP) *routerSpeaks {
	r := &routerSpeaks{t: t}
	i.Do(func() error {
		l, err := link.Read("isp0")
		if err != nil {
			return err
		}
		r.tap, err = link.OpenTap(l.Index, unix.ETH_P_IPV6, routerFilter(), nil)
		return err
	})
	t.Cleanup(func() { r.tap.Discard() })
	return r
}

func (r *routerSpeaks) say(router netip.Addr, life uint32, dns []netip.Addr, prefixes ...netip.Prefix) {
	r.t.Helper()
	if err := r.tap.Send(raOf(router, life, dns, prefixes...), MAC{0x33, 0x33, 0, 0, 0, 1}); err != nil {
		r.t.Fatal(err)
	}
}

// every repeats it until the function that it returns is called.
func (r *routerSpeaks) every(d time.Duration, router netip.Addr, prefixes ...netip.Prefix) (stop func()) {
	tick, done, ended := time.NewTicker(d), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			_ = r.tap.Send(raOf(router, 7200, nil, prefixes...), MAC{0x33, 0x33, 0, 0, 0, 1})
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		tick.Stop()
	}
}

func (r *runningSource) first(p netip.Prefix) Lease {
	r.T.Helper()
	return r.until("an address in "+p.String(), func(e Event) bool { return p.Contains(e.Lease.Addr()) }).Lease
}

// waitForAgent waits until the agent hears routers, as the kernel does: what only one of
// them has heard is no test of both.
func waitForAgent(t testing.TB) {
	t.Helper()
	isptest.Eventually(t, "IPv6 is there", func() bool {
		return strings.Contains(isptest.IP(t, "-6", "address", "show", "dev", "eth0"), "fe80::")
	})
	isptest.Eventually(t, "there is a packet socket for IPv6", func() bool {
		b, err := os.ReadFile("/proc/self/net/packet")
		return err == nil && strings.Contains(string(b), " 86dd ")
	})
}

// TestRenumberingWithoutGoodbye: a router comes back with another prefix and says
// nothing of the old one, whichever of the two is the lower number.
func TestRenumberingWithoutGoodbye(t *testing.T) {
	for name, prefixes := range map[string][2]netip.Prefix{"up": {prefixP, prefixQ}, "down": {prefixQ, prefixP}} {
		t.Run(name, func(t *testing.T) {
			if !isptest.InNamespace(t) {
				return
			}
			i := newISP6(t)
			cfg := testConfig(t)
			s := startSix(t, cfg, nil)
			waitForAgent(t)
			r := routerOf(t, i)
			r.say(routerA, 7200, nil, prefixes[0])
			s.first(prefixes[0])
			stop := r.every(2*oneBreath, routerA, prefixes[1]) // as a router that starts does
			l := s.first(prefixes[1])
			if !slices.ContainsFunc(l.IPv6, prefixes[0].Contains) && len(l.IPv6) != 1 {
				t.Errorf("addresses are %v", l.IPv6)
			}
			// The kernel uses it no more, and says so.
			isptest.Eventually(t, "the old address is deprecated", func() bool {
				return strings.Contains(isptest.IP(t, "-6", "address", "show", "dev", "eth0", "deprecated"), prefixes[0].Addr().String())
			})
			if got := isptest.IP(t, "-6", "route", "get", "2001:db8:1::99"); !strings.Contains(got, "src "+prefixes[1].Addr().String()) {
				t.Errorf("the kernel would use %s", got)
			}
			stop()
			stop = r.every(2*oneBreath, routerA, prefixes[0]) // the first again
			defer stop()
			s.first(prefixes[0])
		})
	}
}

// TestTwoRoutersTakeTurns: each says its own name servers and prefix, again and
// again; the phone's addresses and resolv.conf(5) stay as they are.
func TestTwoRoutersTakeTurns(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := newISP6(t)
	cfg := testConfig(t)
	s := startSix(t, cfg, nil)
	waitForAgent(t)
	r := routerOf(t, i)
	dnsA, dnsB := netip.MustParseAddr("2001:db8:1::53"), netip.MustParseAddr("2001:db8:2::53")
	r.say(routerA, 600, []netip.Addr{dnsA}, prefixP)
	r.say(routerB, 600, []netip.Addr{dnsB}, prefixQ)
	l := s.until("both of both", func(e Event) bool { return len(e.Lease.IPv6) == 2 && len(e.Lease.DNS) == 2 }).Lease
	isptest.Eventually(t, "both are written", func() bool {
		b, _ := os.ReadFile(cfg.ResolvConf)
		return strings.Contains(string(b), dnsA.String()) && strings.Contains(string(b), dnsB.String())
	})
	for range 20 {
		r.say(routerA, 600, []netip.Addr{dnsA}, prefixP)
		r.say(routerB, 600, []netip.Addr{dnsB}, prefixQ)
	}
	r.say(routerB, 0, []netip.Addr{dnsB}, prefixQ) // a goodbye, which is acted on
	told := 0
	seen := s.until("one name server", func(e Event) bool {
		if len(e.Lease.DNS) == 2 && len(e.Lease.IPv6) == 2 {
			told++
		}
		return len(e.Lease.DNS) == 1
	})
	if told > 0 {
		t.Errorf("%d events while nothing changed", told)
	}
	if seen.Lease.DNS[0] != dnsA {
		t.Errorf("name servers are %v", seen.Lease.DNS)
	}
	if l.IPv6[0] != seen.Lease.IPv6[0] {
		t.Errorf("the first address was %v and is %v", l.IPv6[0], seen.Lease.IPv6[0])
	}
}
