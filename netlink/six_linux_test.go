package netlink

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"flexphone/netlink/internal/isptest"
)

const ispAddr6 = "2001:db8:77::1/64"

// newISP6 is an ISP with IPv6, in a network where nobody looks for doubled
// addresses: that takes a second each.
func newISP6(t testing.TB) *isptest.ISP {
	t.Helper()
	const path = "/proc/sys/net/ipv6/conf/default/accept_dad"
	if os.WriteFile(path, []byte("0"), 0o644) != nil {
		t.Skip("this kernel has no IPv6")
	}
	i := isptest.New(t, isptest.Addr)
	for _, name := range []string{"isp0/accept_dad", "all/forwarding"} {
		value := map[string]string{"isp0/accept_dad": "0", "all/forwarding": "1"}[name]
		i.Inside("sh", "-c", "echo "+value+" > /proc/sys/net/ipv6/conf/"+name)
	}
	i.Inside("ip", "link", "set", "isp0", "down") // forget the link-local address in doubt
	i.Inside("ip", "link", "set", "isp0", "up")
	i.Inside("ip", "address", "add", ispAddr6, "dev", "isp0", "nodad")
	return i
}

// routers makes dnsmasq advertise the network, with this mode.
func routers(mode string) []string {
	return []string{
		"--enable-ra", "--ra-param=isp0,4,600", "--dhcp-range=2001:db8:77::" + mode,
		"--dhcp-option=option6:dns-server,[2001:db8:77::1]", "--dhcp-option=option6:domain-search,six.example",
	}
}

func startSix(t testing.TB, cfg Config, four Source) *runningSource {
	t.Helper()
	s, err := WithIPv6(cfg, four)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, s)
}

// until waits for an event that ok accepts, past others but Lost.
func (r *runningSource) until(what string, ok func(Event) bool) Event {
	r.T.Helper()
	for {
		e := r.Any()
		if ok(e) {
			return e
		}
		if e.Kind == Lost {
			r.T.Fatalf("lost %v because %q; want %s", e.Lease.Addrs(), e.Reason, what)
		}
	}
}

func TestSixOnALinkOfBothKinds(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := newISP6(t)
	i.StartDNS(isptest.FirstPool, routers(",ra-only,5m")...)
	cfg := testConfig(t)
	four, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := startSix(t, cfg, four)
	e := s.until("both addresses", func(e Event) bool { return len(e.Lease.IPv6) > 0 && e.Lease.Addr().Is4() })
	want := netip.MustParseAddr("2001:db8:77::5eff:fe00:5301") // EUI-64 of testMAC
	if l := e.Lease; !slices.Equal(l.Addrs(), []netip.Addr{netip.MustParseAddr("10.77.0.50"), want}) || len(l.StoringServers) == 0 {
		t.Errorf("addresses are %v", l.Addrs())
	}
	// The IPv4 network fails; IPv6 goes on.
	i.StopDNS()
	isptest.IP(t, "link", "set", "eth0", "down")
	s.until("nothing", func(e Event) bool { return e.Kind == Lost })
	i.StartDNS("10.77.0.90,10.77.0.91,2m", routers(",ra-only,5m")...)
	isptest.IP(t, "link", "set", "eth0", "up")
	s.until("both addresses", func(e Event) bool { return len(e.Lease.Addrs()) == 2 })
	s.Stop() // what routers say may be told until then
	s.until("the end", func(e Event) bool { return e.Kind == Lost })
	if left := isptest.IP(t, "-4", "address", "show", "dev", "eth0"); left != "" {
		t.Errorf("IPv4 addresses are still there: %s", left)
	}
}

func TestSixAlone(t *testing.T) {
	for _, tt := range []struct{ name, mode, want string }{
		{"made by the kernel", ",ra-only,5m", "2001:db8:77::5eff:fe00:5301"},
		{"made by the kernel, the rest by DHCPv6", ",ra-stateless,5m", "2001:db8:77::5eff:fe00:5301"},
		{"leased", "100,2001:db8:77::100,64,5m", "2001:db8:77::100"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !isptest.InNamespace(t) {
				return
			}
			i := newISP6(t)
			// Another network's IPv4 pool: nothing of it can be leased here.
			i.StartDNS("198.51.100.9,198.51.100.9,2m", routers(tt.mode)...)
			cfg := testConfig(t)
			inner := cfg
			inner.ResolvConf = ""
			four, err := NewClient(inner)
			if err != nil {
				t.Fatal(err)
			}
			s := startSix(t, cfg, four)
			dns := netip.MustParseAddr("2001:db8:77::1")
			l := s.until("an address and a name server", func(e Event) bool {
				return slices.Contains(e.Lease.DNS, dns)
			}).Lease
			if l.Addr() != netip.MustParseAddr(tt.want) || !l.Router.IsLinkLocalUnicast() || l.MAC.String() != isptest.MAC || l.Expiry.IsZero() {
				t.Errorf("lease is %+v", l)
			}
			isptest.Eventually(t, "resolv.conf is written", func() bool {
				b, _ := os.ReadFile(cfg.ResolvConf)
				return strings.Contains(string(b), "search six.example\nnameserver 2001:db8:77::1\n")
			})
			s.Stop()
			s.want(Lost)
			if strings.HasPrefix(tt.mode, "100") {
				i.WaitLog("DHCPRELEASE")
				if left := isptest.IP(t, "-6", "address", "show", "dev", "eth0"); strings.Contains(left, tt.want) {
					t.Errorf("the address is still there: %s", left)
				}
			}
		})
	}
}

// TestOnlyIPv6: dnsmasq would give an IPv4 address and says by option 108 that
// the network prefers none; a phone that has IPv6 takes it at its word.
func TestOnlyIPv6(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := newISP6(t)
	i.StartDNS(isptest.FirstPool, append(routers(",ra-only,5m"), "--dhcp-option=108,0:0:7:8")...)
	cfg := testConfig(t)
	inner := cfg
	inner.ResolvConf, inner.OnlyIPv6 = "", true
	four, err := NewClient(inner)
	if err != nil {
		t.Fatal(err)
	}
	s := startSix(t, cfg, four)
	l := s.want(Bound).Lease
	if want := netip.MustParseAddr("2001:db8:77::5eff:fe00:5301"); !slices.Equal(l.Addrs(), []netip.Addr{want}) {
		t.Errorf("addresses are %v; want %v alone", l.Addrs(), want)
	}
	i.WaitLog("DHCPOFFER", "10.77.0.50")
	s.Stop()
	if log := i.Logged(); strings.Contains(log, "DHCPREQUEST") {
		t.Errorf("an IPv4 address was asked for:\n%s", log)
	}
}
