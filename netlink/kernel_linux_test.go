package netlink

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"flexphone/netlink/internal/isptest"
	"flexphone/netlink/internal/link"
)

// classless builds option 121 from pairs of a destination and a router.
func classless(pairs ...string) []byte {
	var b []byte
	for ; len(pairs) > 0; pairs = pairs[2:] {
		dst, via := netip.MustParsePrefix(pairs[0]), netip.MustParseAddr(pairs[1])
		b = append(b, byte(dst.Bits()))
		b = append(b, dst.Addr().AsSlice()[:(dst.Bits()+7)/8]...)
		b = append(b, via.AsSlice()...)
	}
	return b
}

// The kernel asks again soon for a neighbour that does not answer, and gives up no
// sooner than by itself. Whoever has set less is left alone.
func TestARPIsHastened(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	const folder = "/proc/sys/net/ipv4/neigh/lo/"
	for _, tt := range []struct{ was, retry, tries string }{{"1000", "200", "15"}, {"100", "100", "3"}, {"200", "200", "3"}} {
		for name, value := range map[string]string{"retrans_time_ms": tt.was, "mcast_solicit": "3"} {
			if err := os.WriteFile(folder+name, []byte(value), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		hastenARP("lo")
		for name, want := range map[string]string{"retrans_time_ms": tt.retry, "mcast_solicit": tt.tries} {
			if b, err := os.ReadFile(folder + name); err != nil || strings.TrimSpace(string(b)) != want {
				t.Errorf("of %s ms it made %s %q, %v; want %s", tt.was, name, b, err, want)
			}
		}
	}
	hastenARP("no-such-interface")
}

// TestOddLeases: what servers in the field send, installed by this kernel. The
// address is there, and the routes that can be; the others are not missed.
func TestOddLeases(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	isptest.New(t, "192.0.2.1/24")
	many := []string{"0.0.0.0/0", "192.0.2.1"}
	for i := range 100 {
		many = append(many, "10.1."+strconv.Itoa(i)+".0/24", "192.0.2.1")
	}
	const byRouter = "default via 192.0.2.1 "
	host := []byte{255, 255, 255, 255}
	for _, tt := range []struct {
		name    string
		edit    func(dhcpv4.Options)
		routes  []string // that there are
		without []string // and are not
	}{
		{"nothing odd", func(o dhcpv4.Options) {}, []string{byRouter}, nil},
		{"router: broadcast", func(o dhcpv4.Options) { o[3] = []byte{192, 0, 2, 255} }, nil, []string{"default"}},
		{"router: the network", func(o dhcpv4.Options) { o[3] = []byte{192, 0, 2, 0} }, nil, []string{"default"}},
		{"router: its own address", func(o dhcpv4.Options) { o[3] = simAddr.AsSlice() }, nil, []string{"default"}},
		{"routers: the first bad", func(o dhcpv4.Options) { o[3] = []byte{192, 0, 2, 255, 192, 0, 2, 1} }, []string{byRouter}, nil},
		{"router of another network", func(o dhcpv4.Options) { o[3] = []byte{198, 51, 100, 1} }, []string{"default via 198.51.100.1 "}, nil},
		{"link-local router of a host alone", func(o dhcpv4.Options) { o[1], o[3] = host, []byte{169, 254, 1, 1} }, []string{"default via 169.254.1.1 "}, nil},
		{"link-local router of a network", func(o dhcpv4.Options) { o[3] = []byte{169, 254, 1, 1} }, []string{"default via 169.254.1.1 "}, nil},
		{"121: link-local", func(o dhcpv4.Options) {
			o[121] = classless("169.254.169.254/32", "192.0.2.1", "0.0.0.0/0", "169.254.1.1")
		},
			[]string{"default via 169.254.1.1 ", "169.254.169.254 via 192.0.2.1 "}, nil},
		{"121: a router on the link of a host alone", func(o dhcpv4.Options) {
			o[1], o[121] = host, classless("198.51.100.1/32", "0.0.0.0", "0.0.0.0/0", "198.51.100.1")
		}, []string{"default via 198.51.100.1 ", "198.51.100.1 dev eth0 "}, nil},
		{"121: via its own address", func(o dhcpv4.Options) { o[121] = classless("10.88.0.0/16", simAddr.String(), "0.0.0.0/0", "192.0.2.1") },
			[]string{byRouter}, []string{"10.88"}},
		{"121: via broadcast", func(o dhcpv4.Options) { o[121] = classless("10.88.0.0/16", "192.0.2.255", "0.0.0.0/0", "192.0.2.1") },
			[]string{byRouter}, []string{"10.88"}},
		{"121: twice the same", func(o dhcpv4.Options) {
			o[121] = classless("10.88.0.0/16", "192.0.2.1", "10.88.0.0/16", "192.0.2.2", "0.0.0.0/0", "192.0.2.1")
		}, []string{byRouter, "10.88.0.0/16 via 192.0.2.1 "}, []string{"192.0.2.2"}},
		{"121: twice all", func(o dhcpv4.Options) { o[121] = classless("0.0.0.0/0", "192.0.2.1", "0.0.0.0/0", "192.0.2.2") }, []string{byRouter}, []string{"192.0.2.2"}},
		{"121: the own network", func(o dhcpv4.Options) { o[121] = classless("192.0.2.0/24", "192.0.2.1", "0.0.0.0/0", "192.0.2.1") },
			[]string{byRouter, "192.0.2.0/24 dev eth0 proto kernel"}, []string{"192.0.2.0/24 via"}},
		{"121: the own address", func(o dhcpv4.Options) { o[121] = classless("192.0.2.50/32", "192.0.2.1", "0.0.0.0/0", "192.0.2.1") }, []string{byRouter}, nil},
		{"121: halves", func(o dhcpv4.Options) { o[121] = classless("0.0.0.0/1", "192.0.2.1", "128.0.0.0/1", "192.0.2.1") },
			[]string{"0.0.0.0/1 via 192.0.2.1 ", "128.0.0.0/1 via 192.0.2.1 "}, nil},
		{"121: multicast, as for television", func(o dhcpv4.Options) { o[121] = classless("224.0.0.0/4", "192.0.2.1", "0.0.0.0/0", "192.0.2.1") }, []string{byRouter}, nil},
		{"121: reserved", func(o dhcpv4.Options) { o[121] = classless("240.0.0.0/4", "192.0.2.1", "0.0.0.0/0", "192.0.2.1") }, []string{byRouter}, nil},
		{"121: broadcast", func(o dhcpv4.Options) {
			o[121] = classless("255.255.255.255/32", "192.0.2.1", "0.0.0.0/0", "192.0.2.1")
		}, []string{byRouter}, nil},
		{"121: loopback", func(o dhcpv4.Options) { o[121] = classless("127.0.0.0/8", "192.0.2.1", "0.0.0.0/0", "192.0.2.1") }, []string{byRouter}, []string{"127."}},
		{"121: a hundred", func(o dhcpv4.Options) { o[121] = classless(many...) }, []string{byRouter, "10.1.99.0/24 via 192.0.2.1 "}, nil},
		{"33: one impossible", func(o dhcpv4.Options) {
			o[33] = slices.Concat([]byte{10, 88, 0, 1}, simAddr.AsSlice(), []byte{10, 0, 0, 0, 192, 0, 2, 1})
		}, []string{byRouter, "10.0.0.0/8 via 192.0.2.1 "}, []string{"10.88"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parseReply(testPacket(tt.edit), simMAC)
			if err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			l, err := r.lease(now)
			if err != nil {
				t.Fatal(err)
			}
			eth0, err := link.Read("eth0")
			if err != nil {
				t.Fatal(err)
			}
			if !eth0.Enabled {
				if err := link.Enable(eth0.Index); err != nil {
					t.Fatal(err)
				}
			}
			at := site{ifname: "eth0", index: eth0.Index, mtu: eth0.MTU}
			for range 2 { // and once more, as at a renewal
				if err := at.install(l, Lease{}, now); err != nil {
					t.Fatal(err)
				}
				if ok, err := at.has(l); !ok || err != nil {
					t.Errorf("it is missed at once (%v), and would be installed for ever", err)
				}
			}
			if got := at.notTaken(); got != "" {
				t.Errorf("the kernel refused %s", got)
			}
			have := isptest.IP(t, "-4", "route")
			for _, r := range tt.routes {
				if !strings.Contains(have, r) {
					t.Errorf("there is no route %q:\n%s", r, have)
				}
			}
			for _, r := range tt.without {
				if strings.Contains(have, r) {
					t.Errorf("there is a route %q:\n%s", r, have)
				}
			}
			if err := removeLease(eth0.Index, l); err != nil {
				t.Fatal(err)
			}
			if have := isptest.IP(t, "-4", "route"); have != "" {
				t.Errorf("left behind:\n%s", have)
			}
		})
	}
	t.Run("routes that the kernel refuses", func(t *testing.T) {
		eth0, err := link.Read("eth0")
		if err != nil {
			t.Fatal(err)
		}
		router := netip.MustParseAddr("192.0.2.1")
		l := Lease{Prefix: netip.MustParsePrefix("192.0.2.50/24"), Router: netip.MustParseAddr("192.0.2.255"), Routes: []Route{
			{netip.MustParsePrefix("10.0.0.0/8"), router}, {netip.MustParsePrefix("10.0.0.0/9"), netip.MustParseAddr("192.0.2.255")},
		}}
		at := site{ifname: "eth0", index: eth0.Index}
		if err := at.install(l, Lease{}, time.Now()); err != nil {
			t.Fatal(err)
		}
		if ok, err := at.has(l); !ok || err != nil {
			t.Errorf("missed at once (%v)", err)
		}
		if got, want := at.notTaken(), "0.0.0.0/0 via 192.0.2.255, 10.0.0.0/9 via 192.0.2.255"; got != want {
			t.Errorf("refused: %q; want %q", got, want)
		}
		isptest.IP(t, "route", "delete", "10.0.0.0/8")
		if ok, err := at.has(l); ok || err != nil {
			t.Errorf("what was removed is not missed (%v)", err)
		}
	})
}

// TestMTU: what a server says of it, on a link of 1500 bytes.
func TestMTU(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	isptest.New(t, "192.0.2.1/24")
	isptest.IP(t, "link", "set", "eth0", "up")
	eth0, err := link.Read("eth0")
	if err != nil {
		t.Fatal(err)
	}
	at := site{ifname: "eth0", index: eth0.Index, mtu: eth0.MTU}
	old := Lease{}
	for _, tt := range []struct {
		told, link int
		route      string
	}{
		{1400, 1400, ""}, {0, 1500, ""}, {9000, 1500, ""}, {0xffff, 1500, ""}, {576, 1280, "mtu 576"}, {1279, 1280, "mtu 1279"}, {1280, 1280, ""}, {1500, 1500, ""}, {0, 1500, ""},
	} {
		l := Lease{Prefix: netip.MustParsePrefix("192.0.2.50/24"), Router: netip.MustParseAddr("192.0.2.1"), MTU: tt.told}
		if err := at.install(l, old, time.Now()); err != nil {
			t.Fatal(err)
		}
		old = l
		if is, err := link.Read("eth0"); err != nil || is.MTU != tt.link {
			t.Errorf("told %d, the link has %d, %v; want %d", tt.told, is.MTU, err, tt.link)
		}
		if route := isptest.IP(t, "route", "show", "default"); !strings.Contains(route, tt.route) || tt.route == "" && strings.Contains(route, "mtu") {
			t.Errorf("told %d, the route is %s; want %q", tt.told, route, tt.route)
		}
		if six := isptest.IP(t, "-6", "address", "show", "dev", "eth0"); !strings.Contains(six, "fe80::") {
			t.Errorf("told %d, there is no IPv6 left", tt.told)
		}
	}
}

// Who asks for an address that was refused gets no answer, and one for another has it. What an
// operator has set stays.
func TestAnswerARP(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := isptest.New(t, isptest.Addr)
	isptest.IP(t, "link", "set", "eth0", "up")
	isptest.IP(t, "address", "add", "10.77.0.50/24", "dev", "eth0")
	const file = "/proc/sys/net/ipv4/conf/eth0/arp_ignore"
	for _, tt := range []struct {
		was, during, after string
		answered           bool
	}{{"0", "8", "0", false}, {"1", "1", "1", true}} {
		if err := os.WriteFile(file, []byte(tt.was), 0o644); err != nil {
			t.Skip(err)
		}
		is := func(want string) {
			t.Helper()
			if b, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(b)) != want {
				t.Errorf("arp_ignore is %q, %v; want %s", b, err, want)
			}
		}
		answerARP("eth0", false)
		is(tt.during)
		i.Inside("ip", "neighbour", "flush", "all")
		i.Do(func() error { // is not taken, but asked for
			c, err := net.Dial("udp4", "10.77.0.50:9")
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte{0})
			return err
		})
		asked := ""
		for end := time.Now().Add(isptest.Patience); !strings.Contains(asked, "lladdr") && !strings.Contains(asked, "FAILED") && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			asked = i.Inside("ip", "neighbour", "show", "10.77.0.50", "dev", "isp0")
		}
		if known := strings.Contains(asked, "lladdr"); known != tt.answered {
			t.Errorf("with %s: answered %v: %s", tt.during, known, asked)
		}
		answerARP("eth0", true)
		is(tt.after)
	}
}
