package netlink

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestPreferFailsOverAndBack(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	wire := newISP(t, ispAddr)
	wire.startDNS(firstPool, "--dhcp-option=6,10.77.0.1")
	air := newISPOn(t, "wlan0", "02:00:5e:00:53:02", "10.88.0.1/24")
	air.startDNS("10.88.0.50,10.88.0.50,2m", "--dhcp-option=6,10.88.0.1")
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	var sources []Source
	for n, name := range []string{"eth0", "wlan0"} {
		cfg := testConfig(t)
		cfg.Interface, cfg.Metric, cfg.ResolvConf = name, 100*(n+1), ""
		s, err := NewClient(cfg)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, s)
	}
	p, err := Prefer(resolv, nil, sources...)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, p)
	on := func(name, route string) {
		t.Helper()
		s.until("an address on "+name, func(e Event) bool { return e.Lease.Interface == name })
		if got := ip(t, "route", "get", "192.0.2.7"); !strings.Contains(got, route) {
			t.Errorf("the way out is %q; want %q", got, route)
		}
		server, _, _ := strings.Cut(strings.TrimPrefix(route, "via "), " ")
		eventually(t, "the name servers are those of "+name, func() bool {
			b, _ := os.ReadFile(resolv)
			return strings.Contains(string(b), "nameserver "+server+"\n")
		})
	}
	on("eth0", "via 10.77.0.1 dev eth0")
	eventually(t, "both have routes", func() bool { return strings.Count(ip(t, "route", "show", "default"), "default") == 2 })
	wire.inside("ip", "link", "set", "isp0", "down")
	on("wlan0", "via 10.88.0.1 dev wlan0")
	wire.inside("ip", "link", "set", "isp0", "up")
	on("eth0", "via 10.77.0.1 dev eth0")
	// The cable is in again, and the network behind it is dead: its lease is kept,
	// and not used while there is another.
	wire.inside("ip", "link", "set", "isp0", "down")
	on("wlan0", "via 10.88.0.1 dev wlan0")
	wire.stopDNS()
	wire.inside("ip", "address", "flush", "dev", "isp0")
	wire.inside("ip", "link", "set", "isp0", "up")
	eventually(t, "the lease is kept", func() bool {
		return strings.Contains(ip(t, "route", "show", "default", "dev", "eth0"), strconv.Itoa(100+doubtMetric))
	})
	if got := ip(t, "route", "get", "192.0.2.7"); !strings.Contains(got, "dev wlan0") {
		t.Errorf("the way out is %q", got)
	}
	wire.inside("ip", "address", "add", ispAddr, "dev", "isp0")
	wire.startDNS(firstPool, "--dhcp-option=6,10.77.0.1")
	s.until("an address on eth0", func(e Event) bool { return e.Lease.Interface == "eth0" })
	s.stop()
	s.until("the end", func(e Event) bool { return e.Kind == Lost })
	if left := ip(t, "route", "show", "default"); left != "" {
		t.Errorf("routes are still there: %s", left)
	}
}
