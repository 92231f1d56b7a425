package netlink

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"flexphone/netlink/internal/isptest"
)

// TestShunnedRoutes: those of a lease, of a fixed address and of IPv6 routers come after
// others' and back, in this kernel.
func TestShunnedRoutes(t *testing.T) {
	route := func(t *testing.T, family, want string) {
		t.Helper()
		isptest.Eventually(t, "the route has "+want, func() bool {
			list := isptest.IP(t, family, "route", "show", "default")
			return strings.Count(list, "default") == 1 && strings.Contains(list, want+" ")
		})
	}
	both := func(t *testing.T, s Source, family, front, back string) {
		t.Helper()
		route(t, family, front)
		if !Shun(s, true) {
			t.Fatal("it cannot")
		}
		route(t, family, back)
		Shun(s, false)
		route(t, family, front)
	}
	t.Run("of a lease and of IPv6", func(t *testing.T) {
		if !isptest.InNamespace(t) {
			return
		}
		i := newISP6(t)
		if _, err := os.Stat("/proc/sys/net/ipv6/conf/all/ra_defrtr_metric"); err != nil {
			t.Skip("this kernel gives routers' routes one metric (before Linux 5.12)")
		}
		i.StartDNS(isptest.FirstPool, routers(",ra-only,5m")...)
		cfg := testConfig(t)
		cfg.Metric = 100
		four, err := NewClient(cfg)
		if err != nil {
			t.Fatal(err)
		}
		s, err := WithIPv6(cfg, four)
		if err != nil {
			t.Fatal(err)
		}
		r := start(t, s)
		r.until("both addresses", func(e Event) bool { return len(e.Lease.IPv6) > 0 && e.Lease.Addr().Is4() })
		both(t, s, "-4", "metric 100", "metric 1100")
		both(t, s, "-6", "metric 1124", "metric 2124")
	})
	t.Run("of a fixed address", func(t *testing.T) {
		if !isptest.InNamespace(t) {
			return
		}
		isptest.New(t, isptest.Addr)
		cfg := testConfig(t)
		cfg.Metric = 100
		s, err := Static(cfg, Fixed{Prefix: netip.MustParsePrefix("10.77.0.20/24"), Router: netip.MustParseAddr("10.77.0.1")})
		if err != nil {
			t.Fatal(err)
		}
		start(t, s).want(Bound)
		both(t, s, "-4", "metric 100", "metric 1100")
	})
	t.Run("of somebody else", func(t *testing.T) {
		w, err := Watch(testConfig(t))
		if err != nil {
			t.Fatal(err)
		}
		six, err := WatchIPv6(testConfig(t), w)
		if err != nil {
			t.Fatal(err)
		}
		if Shun(w, true) || Shun(six, true) {
			t.Error("it changes routes that are not ours")
		}
	})
}
