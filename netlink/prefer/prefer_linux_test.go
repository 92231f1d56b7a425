package prefer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flexphone/netlink"
	"flexphone/netlink/internal/isptest"
)

// A running is a Source under test.
type running struct {
	*isptest.Running[netlink.Event]
}

// until waits for an event that ok accepts, past others but Lost.
func (r running) until(what string, ok func(netlink.Event) bool) {
	r.T.Helper()
	for {
		e := r.Any()
		if ok(e) {
			return
		}
		if e.Kind == netlink.Lost {
			r.T.Fatalf("lost %v because %q; want %s", e.Lease.Addrs(), e.Reason, what)
		}
	}
}

func TestPreferFailsOverAndBack(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	wire := isptest.New(t, isptest.Addr)
	wire.StartDNS(isptest.FirstPool, "--dhcp-option=6,10.77.0.1")
	air := isptest.NewOn(t, "wlan0", "02:00:5e:00:53:02", "10.88.0.1/24")
	air.StartDNS("10.88.0.50,10.88.0.50,2m", "--dhcp-option=6,10.88.0.1")
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	var sources []netlink.Source
	for n, name := range []string{"eth0", "wlan0"} {
		cfg := netlink.Config{Log: isptest.Log(t)}
		cfg.Interface, cfg.Metric = name, 100*(n+1)
		s, err := netlink.NewClient(cfg)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, s)
	}
	p, err := New(resolv, nil, sources...)
	if err != nil {
		t.Fatal(err)
	}
	s := running{isptest.Start(t, p)}
	on := func(name, route string) {
		t.Helper()
		s.until("an address on "+name, func(e netlink.Event) bool { return e.Lease.Interface == name })
		if got := isptest.IP(t, "route", "get", "192.0.2.7"); !strings.Contains(got, route) {
			t.Errorf("the way out is %q; want %q", got, route)
		}
		server, _, _ := strings.Cut(strings.TrimPrefix(route, "via "), " ")
		isptest.Eventually(t, "the name servers are those of "+name, func() bool {
			b, _ := os.ReadFile(resolv)
			return strings.Contains(string(b), "nameserver "+server+"\n")
		})
	}
	on("eth0", "via 10.77.0.1 dev eth0")
	isptest.Eventually(t, "both have routes", func() bool { return strings.Count(isptest.IP(t, "route", "show", "default"), "default") == 2 })
	wire.Inside("ip", "link", "set", "isp0", "down")
	on("wlan0", "via 10.88.0.1 dev wlan0")
	wire.Inside("ip", "link", "set", "isp0", "up")
	on("eth0", "via 10.77.0.1 dev eth0")
	// The cable is in again, and the network behind it is dead: its lease is kept,
	// and not used while there is another.
	wire.Inside("ip", "link", "set", "isp0", "down")
	on("wlan0", "via 10.88.0.1 dev wlan0")
	wire.StopDNS()
	wire.Inside("ip", "address", "flush", "dev", "isp0")
	wire.Inside("ip", "link", "set", "isp0", "up")
	isptest.Eventually(t, "the lease is kept", func() bool {
		return strings.Contains(isptest.IP(t, "route", "show", "default", "dev", "eth0"), "metric 1100")
	})
	if got := isptest.IP(t, "route", "get", "192.0.2.7"); !strings.Contains(got, "dev wlan0") {
		t.Errorf("the way out is %q", got)
	}
	wire.Inside("ip", "address", "add", isptest.Addr, "dev", "isp0")
	wire.StartDNS(isptest.FirstPool, "--dhcp-option=6,10.77.0.1")
	s.until("an address on eth0", func(e netlink.Event) bool { return e.Lease.Interface == "eth0" })
	s.Stop()
	s.until("the end", func(e netlink.Event) bool { return e.Kind == netlink.Lost })
	if left := isptest.IP(t, "route", "show", "default"); left != "" {
		t.Errorf("routes are still there: %s", left)
	}
}
