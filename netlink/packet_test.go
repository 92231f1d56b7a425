package netlink

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/bpf"
)

// testPacket is a decent ACK, with its options changed by edit.
func testPacket(edit func(dhcpv4.Options)) []byte {
	d, err := dhcpv4.FromBytes(encodeReply(goodReply(dhcpv4.MessageTypeAck, simAddr), simMAC))
	if err != nil {
		panic(err)
	}
	edit(d.Options)
	return d.ToBytes()
}

// options returns packet's option field, up to and without End.
func withOptions(packet []byte, opts ...byte) []byte {
	return append(slices.Clone(packet[:optsAt]), opts...)
}

var (
	typeAck  = []byte{53, 1, 5}
	serverID = []byte{54, 4, 192, 0, 2, 1}
	oneHour  = []byte{51, 4, 0, 0, 14, 16}
)

func TestParseReplyRefuses(t *testing.T) {
	good := testPacket(func(dhcpv4.Options) {})
	if _, err := parseReply(good, simMAC); err != nil {
		t.Fatal(err)
	}
	change := func(at int, v byte) []byte {
		b := slices.Clone(good)
		b[at] = v
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":                      nil,
		"a cut header":                 good[:optsAt-1],
		"a request":                    change(0, 1),
		"another hardware type":        change(1, 6),
		"a short hardware address":     change(2, 5),
		"another client":               change(33, 9),
		"no cookie":                    change(headerLen, 0),
		"no message type":              testPacket(func(o dhcpv4.Options) { delete(o, 53) }),
		"a long message type":          testPacket(func(o dhcpv4.Options) { o[53] = []byte{5, 5} }),
		"a DISCOVER":                   testPacket(func(o dhcpv4.Options) { o[53] = []byte{1} }),
		"no server identifier":         testPacket(func(o dhcpv4.Options) { delete(o, 54) }),
		"a short server identifier":    testPacket(func(o dhcpv4.Options) { o[54] = []byte{192, 0, 2} }),
		"a broadcast server":           testPacket(func(o dhcpv4.Options) { o[54] = []byte{255, 255, 255, 255} }),
		"an option past the end":       withOptions(good, slices.Concat(typeAck, serverID, []byte{51, 4, 0, 0})...),
		"an option without length":     withOptions(good, slices.Concat(typeAck, serverID, []byte{51})...),
		"an overload of 4":             testPacket(func(o dhcpv4.Options) { o[52] = []byte{4} }),
		"an overload past the field":   overloaded(1, fileAt, append(make([]byte, 126), 3, 4)),
		"an overload with a bad sname": overloaded(2, snameAt, []byte{3, 200}),
	} {
		if r, err := parseReply(b, simMAC); err == nil {
			t.Errorf("%s: accepted as %+v", name, r)
		}
	}
}

// overloaded is a reply with options in a header field.
func overloaded(v byte, at int, field []byte) []byte {
	b := withOptions(testPacket(func(dhcpv4.Options) {}), slices.Concat(typeAck, serverID, oneHour, []byte{52, 1, v, 255})...)
	copy(b[at:], field)
	return b
}

// long is an option in as many pieces as n bytes need (RFC 3396).
func long(code byte, n int) (out []byte) {
	for ; n > 0; n -= 255 {
		k := min(n, 255)
		out = append(append(out, code, byte(k)), make([]byte, k)...)
	}
	return out
}

func TestParseReplyForgives(t *testing.T) {
	good := testPacket(func(dhcpv4.Options) {})
	router := netip.MustParseAddr("192.0.2.7")
	tests := []struct {
		name   string
		packet []byte
		want   func(reply) bool
	}{
		{"no End", withOptions(good, slices.Concat(typeAck, serverID, oneHour)...), func(r reply) bool { return r.time == time.Hour }},
		{"a file field of options", overloaded(1, fileAt, []byte{3, 4, 192, 0, 2, 7, 255}), func(r reply) bool { return r.with.Router == router }},
		{"a server name field of options", overloaded(2, snameAt, []byte{3, 4, 192, 0, 2, 7}), func(r reply) bool { return r.with.Router == router }},
		{"an option in pieces", withOptions(good, slices.Concat(typeAck, serverID, []byte{66, 2, 'a', 'b', 0, 66, 2, 'c', 'd', 255})...),
			func(r reply) bool { return slices.Equal(r.with.StoringServers, []string{"abcd"}) }},
		{"a mask with holes", testPacket(func(o dhcpv4.Options) { o[1] = []byte{255, 0, 255, 0} }), func(r reply) bool { return r.bits == 0 }},
		{"a mask of nothing", testPacket(func(o dhcpv4.Options) { o[1] = []byte{0, 0, 0, 0} }), func(r reply) bool { return r.bits == 0 }},
		{"a mask of everything", testPacket(func(o dhcpv4.Options) { o[1] = []byte{255, 255, 255, 255} }), func(r reply) bool { return r.bits == 32 }},
		{"a multicast router", testPacket(func(o dhcpv4.Options) { o[3] = []byte{224, 0, 0, 1} }), func(r reply) bool { return !r.with.Router.IsValid() }},
		{"a router list with a bad one", testPacket(func(o dhcpv4.Options) { o[3] = []byte{0, 0, 0, 0, 192, 0, 2, 7} }), func(r reply) bool { return r.with.Router == router }},
		{"a router, and NUL", testPacket(func(o dhcpv4.Options) { o[3] = []byte{192, 0, 2, 7, 0} }), func(r reply) bool {
			return r.with.Router == router && slices.Equal(r.odd, []string{"routers of 5 bytes"})
		}},
		{"a router cut short", testPacket(func(o dhcpv4.Options) { o[3] = []byte{192, 0, 2} }), func(r reply) bool { return !r.with.Router.IsValid() }},
		{"a name server, and NUL", testPacket(func(o dhcpv4.Options) { o[6] = []byte{192, 0, 2, 7, 0} }), func(r reply) bool { return slices.Equal(r.with.DNS, []netip.Addr{router}) }},
		{"a static route, and a piece", testPacket(func(o dhcpv4.Options) { o[33] = []byte{10, 88, 0, 1, 192, 0, 2, 7, 10, 88} }), func(r reply) bool {
			return slices.Equal(r.with.Routes, []Route{{netip.MustParsePrefix("10.88.0.1/32"), router}})
		}},
		{"an MTU too small", testPacket(func(o dhcpv4.Options) { o[26] = []byte{0, 68} }), func(r reply) bool { return r.with.MTU == 0 }},
		{"a lease time cut short", testPacket(func(o dhcpv4.Options) { o[51] = []byte{0, 0, 14} }), func(r reply) bool { return r.time == 0 }},
		{"a storing server with a line feed", testPacket(func(o dhcpv4.Options) { o[66] = []byte("a\nb") }), func(r reply) bool { return slices.Equal(r.with.StoringServers, []string{"a b"}) }},
		{"a storing server with a bell", testPacket(func(o dhcpv4.Options) { o[66] = []byte("a\ab") }), func(r reply) bool { return r.with.StoringServers == nil }},
		{"a storing server with a NUL", testPacket(func(o dhcpv4.Options) { o[66] = []byte("storing.example\x00") }), func(r reply) bool { return slices.Equal(r.with.StoringServers, []string{"storing.example"}) }},
		{"option 160 alone", testPacket(func(o dhcpv4.Options) { delete(o, 66); o[160] = []byte("10.0.0.1:5684") }), func(r reply) bool { return slices.Equal(r.with.StoringServers, []string{"10.0.0.1:5684"}) }},
		{"classless routes", testPacket(func(o dhcpv4.Options) { o[121] = []byte{0, 192, 0, 2, 7, 24, 198, 51, 100, 0, 0, 0, 0} }),
			func(r reply) bool {
				return r.with.Router == router && len(r.with.Routes) == 1 && r.with.Routes[0] == Route{Dst: netip.MustParsePrefix("198.51.100.0/24")}
			}},
		{"classless routes without a default", testPacket(func(o dhcpv4.Options) { o[121] = []byte{24, 198, 51, 100, 192, 0, 2, 7} }),
			func(r reply) bool { return !r.with.Router.IsValid() && len(r.with.Routes) == 1 }},
		{"classless routes malformed", testPacket(func(o dhcpv4.Options) { o[121] = []byte{33, 198, 51, 100, 192, 0, 2, 7} }),
			func(r reply) bool { return r.with.Router == simServer && len(r.with.Routes) == 0 }},
		{"domains to search", testPacket(func(o dhcpv4.Options) { o[119] = []byte("\x03eng\x03isp\x07example\x00\x05sales\xc0\x04") }),
			func(r reply) bool {
				return slices.Equal(r.with.Domains, []string{"eng.isp.example", "sales.isp.example"})
			}},
		{"a domain with a label of dots", testPacket(func(o dhcpv4.Options) { o[119] = []byte("\x05a..bc\x07example\x00") }), func(r reply) bool { return r.with.Domains == nil }},
		{"domains that point at themselves", testPacket(func(o dhcpv4.Options) { o[119] = []byte{0xc0, 0} }), func(r reply) bool { return r.with.Domains == nil }},
		{"routes of old", testPacket(func(o dhcpv4.Options) {
			o[33] = []byte{10, 0, 0, 0, 192, 0, 2, 7, 198, 51, 100, 9, 192, 0, 2, 7, 0, 0, 0, 0, 192, 0, 2, 7}
		}),
			func(r reply) bool {
				return slices.Equal(r.with.Routes, []Route{{netip.MustParsePrefix("10.0.0.0/8"), router}, {netip.MustParsePrefix("198.51.100.9/32"), router}})
			}},
		{"routes of old and of today", testPacket(func(o dhcpv4.Options) {
			o[33] = []byte{10, 0, 0, 0, 192, 0, 2, 7}
			o[121] = []byte{24, 198, 51, 100, 192, 0, 2, 7}
		}), func(r reply) bool { return len(r.with.Routes) == 1 && r.with.Routes[0].Dst.Bits() == 24 }},
		{"a list of servers to load from", testPacket(func(o dhcpv4.Options) { delete(o, 66); o[150] = []byte{10, 0, 0, 1, 10, 0, 0, 2} }), func(r reply) bool { return slices.Equal(r.with.StoringServers, []string{"10.0.0.1", "10.0.0.2"}) }},
		{"a storing server in another maker's option before that in the common one", testPacket(func(o dhcpv4.Options) {
			o[160] = []byte(" coaps://[2001:db8::2]:5684\r\n\x00")
			o[150] = []byte{10, 0, 0, 1}
		}),
			func(r reply) bool {
				return slices.Equal(r.with.StoringServers, []string{"coaps://[2001:db8::2]:5684", "storing.example", "10.0.0.1"})
			}},
		{"a storing server in four bytes", testPacket(func(o dhcpv4.Options) { delete(o, 66); o[160] = []byte{10, 77, 0, 1} }), func(r reply) bool { return slices.Equal(r.with.StoringServers, []string{"10.77.0.1"}) }},
		{"storing servers in eight bytes", testPacket(func(o dhcpv4.Options) { delete(o, 66); o[160] = []byte{10, 77, 0, 9, 10, 77, 0, 1} }), func(r reply) bool { return slices.Equal(r.with.StoringServers, []string{"10.77.0.9", "10.77.0.1"}) }},
		{"the same of printable bytes", testPacket(func(o dhcpv4.Options) { delete(o, 66); o[160] = []byte("\nMd2\nMd3") }), func(r reply) bool {
			return slices.Equal(r.with.StoringServers, []string{"10.77.100.50", "10.77.100.51"})
		}},
		{"storing servers in bytes of option 66", testPacket(func(o dhcpv4.Options) { o[66] = []byte{192, 0, 2, 9, 0, 0, 0, 0, 192, 0, 2, 1} }), func(r reply) bool { return slices.Equal(r.with.StoringServers, []string{"192.0.2.9", "192.0.2.1"}) }},
		{"an address and a piece of one", testPacket(func(o dhcpv4.Options) { delete(o, 66); o[160] = []byte{192, 0, 2, 9, 192} }), func(r reply) bool { return r.with.StoringServers == nil }},
		{"text that four divides, with a NUL", testPacket(func(o dhcpv4.Options) { delete(o, 66); o[160] = []byte("192.0.2.9\n192.0.2.12\x00\x00\x00\x00") }), func(r reply) bool { return slices.Equal(r.with.StoringServers, []string{"192.0.2.9 192.0.2.12"}) }},
		{"text that four divides, behind a newline", testPacket(func(o dhcpv4.Options) { delete(o, 66); o[160] = []byte("\n192.0.2.9\n\x00") }), func(r reply) bool { return slices.Equal(r.with.StoringServers, []string{"192.0.2.9"}) }},
		{"a storing server of four letters", testPacket(func(o dhcpv4.Options) { delete(o, 66); o[160] = []byte("pbx1") }), func(r reply) bool { return slices.Equal(r.with.StoringServers, []string{"pbx1"}) }},
		{"four bytes that are no host", testPacket(func(o dhcpv4.Options) { delete(o, 66); o[160] = []byte{0, 0, 0, 0} }), func(r reply) bool { return r.with.StoringServers == nil }},
		{"a storing server twice", testPacket(func(o dhcpv4.Options) { o[160] = []byte(`"storing.example"`) }), func(r reply) bool { return slices.Equal(r.with.StoringServers, []string{"storing.example"}) }},
		{"a list of storing servers", testPacket(func(o dhcpv4.Options) { o[66] = []byte("10.0.0.1, 10.0.0.2") }), func(r reply) bool { return slices.Equal(r.with.StoringServers, []string{"10.0.0.1, 10.0.0.2"}) }},
		{"two domains in one option", testPacket(func(o dhcpv4.Options) { o[15] = []byte("corp.example, example.com.\n\x00") }), func(r reply) bool { return slices.Equal(r.with.Domains, []string{"corp.example", "example.com"}) }},
		{"domains of both options", testPacket(func(o dhcpv4.Options) {
			o[15] = []byte("Corp.example ad_2.example")
			o[119] = []byte("\x04corp\x07example\x00")
		}), func(r reply) bool { return slices.Equal(r.with.Domains, []string{"corp.example", "ad_2.example"}) }},
		{"domains that cannot be", testPacket(func(o dhcpv4.Options) { o[15] = []byte("büro.example -x..y a:b example.com") }), func(r reply) bool { return slices.Equal(r.with.Domains, []string{"example.com"}) }},
		{"one of the domains to search is bad", testPacket(func(o dhcpv4.Options) {
			o[119] = []byte("\x03eng\x03isp\x07example\x00\x05a b;c\x03isp\x00\x02ok\xc0\x04")
		}), func(r reply) bool { return slices.Equal(r.with.Domains, []string{"eng.isp.example", "ok.isp.example"}) }},
		{"domains to search that are cut short", testPacket(func(o dhcpv4.Options) { o[119] = []byte("\x03eng\x03isp\x00\x05ex") }), func(r reply) bool { return slices.Equal(r.with.Domains, []string{"eng.isp"}) }},
		{"a name server twice", testPacket(func(o dhcpv4.Options) { o[6] = []byte{192, 0, 2, 7, 0, 0, 0, 0, 192, 0, 2, 7} }), func(r reply) bool { return slices.Equal(r.with.DNS, []netip.Addr{router}) }},
		{"a router that is the broadcast address", testPacket(func(o dhcpv4.Options) { o[3] = []byte{192, 0, 2, 255} }), func(r reply) bool { return !r.with.Router.IsValid() && len(r.odd) == 1 }},
		{"a router that is the network", testPacket(func(o dhcpv4.Options) { o[3] = []byte{192, 0, 2, 0} }), func(r reply) bool { return !r.with.Router.IsValid() && len(r.odd) == 1 }},
		{"a router that is the client, and another", testPacket(func(o dhcpv4.Options) { o[3] = append(simAddr.AsSlice(), 192, 0, 2, 7) }), func(r reply) bool { return r.with.Router == router && len(r.odd) == 1 }},
		{"a router at a link-local address", testPacket(func(o dhcpv4.Options) { o[1], o[3] = []byte{255, 255, 255, 255}, []byte{169, 254, 1, 1} }), func(r reply) bool { return r.with.Router == netip.MustParseAddr("169.254.1.1") && r.odd == nil }},
		{"a router at the edge of a network of two", testPacket(func(o dhcpv4.Options) { o[1], o[3] = []byte{255, 255, 255, 254}, []byte{192, 0, 2, 51} }), func(r reply) bool { return r.with.Router == netip.MustParseAddr("192.0.2.51") }},
		{"classless routes, one to nowhere", testPacket(func(o dhcpv4.Options) {
			o[121] = slices.Concat([]byte{24, 198, 51, 100, 192, 0, 2, 255, 24, 203, 0, 113}, simAddr.AsSlice(), []byte{0, 192, 0, 2, 7, 8, 127, 192, 0, 2, 7})
		}), func(r reply) bool { return r.with.Router == router && len(r.with.Routes) == 0 && len(r.odd) == 3 }},
		{"classless routes, each twice", testPacket(func(o dhcpv4.Options) {
			o[121] = []byte{24, 198, 51, 100, 192, 0, 2, 7, 24, 198, 51, 100, 192, 0, 2, 8, 0, 192, 0, 2, 7, 0, 192, 0, 2, 8}
		}), func(r reply) bool {
			return r.with.Router == router && slices.Equal(r.with.Routes, []Route{{netip.MustParsePrefix("198.51.100.0/24"), router}})
		}},
		{"classless routes, to all in halves, to television, and to the own network", testPacket(func(o dhcpv4.Options) {
			o[121] = []byte{1, 0, 192, 0, 2, 7, 1, 128, 192, 0, 2, 7, 4, 224, 192, 0, 2, 7, 24, 192, 0, 2, 192, 0, 2, 7}
		}), func(r reply) bool {
			return slices.Equal(r.with.Routes, []Route{{netip.MustParsePrefix("0.0.0.0/1"), router}, {netip.MustParsePrefix("128.0.0.0/1"), router}, {netip.MustParsePrefix("224.0.0.0/4"), router}})
		}},
		{"classless routes under their old number", testPacket(func(o dhcpv4.Options) { o[249] = []byte{0, 192, 0, 2, 7} }), func(r reply) bool { return r.with.Router == router }},
		{"classless routes under both numbers", testPacket(func(o dhcpv4.Options) { o[249], o[121] = []byte{0, 192, 0, 2, 9}, []byte{0, 192, 0, 2, 7} }), func(r reply) bool { return r.with.Router == router }},
		{"IPv6 alone, for too short a time", testPacket(func(o dhcpv4.Options) { o[108] = []byte{0, 0, 0, 1} }), func(r reply) bool { return r.onlySix == minOnlySix }},
		{"a VLAN for voice in digits", testPacket(func(o dhcpv4.Options) { o[132] = []byte("42\x00") }), func(r reply) bool { return r.with.VoiceVLAN == 42 }},
		{"a VLAN for voice in binary", testPacket(func(o dhcpv4.Options) { o[132] = []byte{0, 0, 0, 200} }), func(r reply) bool { return r.with.VoiceVLAN == 200 }},
		{"a VLAN for voice in a byte", testPacket(func(o dhcpv4.Options) { o[132] = []byte{44} }), func(r reply) bool { return r.with.VoiceVLAN == 44 }},
		{"a VLAN for voice that cannot be", testPacket(func(o dhcpv4.Options) { o[132] = []byte("4095") }), func(r reply) bool { return r.with.VoiceVLAN == 0 }},
		{"a long option in four pieces", withOptions(good, slices.Concat(typeAck, serverID, oneHour, long(121, 700), []byte{255})...),
			func(r reply) bool { return r.classless && r.time == time.Hour }},
	}
	for _, tt := range tests {
		r, err := parseReply(tt.packet, simMAC)
		if err != nil || !tt.want(r) {
			t.Errorf("%s: %+v, %v", tt.name, r, err)
		}
	}
}

func TestLeaseRefuses(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for name, edit := range map[string]func(*reply){
		"no lease time":            func(r *reply) { r.time = 0 },
		"no address":               func(r *reply) { r.yours = netip.IPv4Unspecified() },
		"broadcast":                func(r *reply) { r.yours = netip.MustParseAddr("255.255.255.255") },
		"multicast":                func(r *reply) { r.yours = netip.MustParseAddr("224.0.0.5") },
		"loopback":                 func(r *reply) { r.yours = netip.MustParseAddr("127.0.0.5") },
		"link-local":               func(r *reply) { r.yours = netip.MustParseAddr("169.254.3.4") },
		"the network itself":       func(r *reply) { r.yours = netip.MustParseAddr("192.0.2.0") },
		"the server's own address": func(r *reply) { r.yours = r.server },
		"the network's broadcast":  func(r *reply) { r.yours = netip.MustParseAddr("192.0.2.255") },
	} {
		r := goodReply(dhcpv4.MessageTypeAck, simAddr)
		edit(&r)
		if l, err := r.lease(now); err == nil {
			t.Errorf("%s: accepted as %+v", name, l)
		}
	}
	for _, tt := range []struct {
		edit func(*reply)
		want string
	}{
		{func(r *reply) {}, "192.0.2.50/24"},
		{func(r *reply) { r.bits = 0 }, "192.0.2.50/24"}, // class C
		{func(r *reply) { r.bits = 0; r.yours = netip.MustParseAddr("10.1.2.3") }, "10.1.2.3/8"},
		{func(r *reply) { r.bits = 31; r.yours = netip.MustParseAddr("192.0.2.2") }, "192.0.2.2/31"},
		{func(r *reply) { r.bits = 32 }, "192.0.2.50/32"},
	} {
		r := goodReply(dhcpv4.MessageTypeAck, simAddr)
		tt.edit(&r)
		if l, err := r.lease(now); err != nil || l.Prefix.String() != tt.want {
			t.Errorf("lease is %v, %v; want %s", l.Prefix, err, tt.want)
		}
	}
	r := goodReply(dhcpv4.MessageTypeAck, simAddr)
	if r.time = forever; true {
		if l, err := r.lease(now); err != nil || !l.Expiry.IsZero() {
			t.Errorf("an infinite lease ends at %v, %v", l.Expiry, err)
		}
	}
}

func TestFilters(t *testing.T) {
	xid := transaction{1, 2, 3, 4}
	r := goodReply(dhcpv4.MessageTypeAck, simAddr)
	r.xid = xid
	vm, err := bpf.NewVM(replyFilter(simMAC, xid))
	if err != nil {
		t.Fatal(err)
	}
	packet := wrap(encodeReply(r, simMAC), simServer)
	packet[ipHeader+3] = portClient // wrap sends to servers
	if n, err := vm.Run(packet); err != nil || n == 0 {
		t.Errorf("the filter drops our reply: %v", err)
	}
	if payload, err := unwrap(packet); err != nil || !slices.Equal(payload, encodeReply(r, simMAC)) {
		t.Errorf("unwrap: %v", err)
	}
	for _, at := range []int{9, ipHeader + 3, ipHeader + 8, ipHeader + 8 + 4, ipHeader + 8 + 7, ipHeader + 8 + 28, ipHeader + 8 + 33} {
		other := slices.Clone(packet)
		other[at] ^= 0x11
		if n, _ := vm.Run(other); n != 0 {
			t.Errorf("the filter passes a packet with byte %d changed", at)
		}
	}
}

func FuzzParseReply(f *testing.F) {
	f.Add(testPacket(func(dhcpv4.Options) {}))
	f.Add(testPacket(func(o dhcpv4.Options) { o[121] = []byte{0, 192, 0, 2, 7, 24, 198, 51, 100, 0, 0, 0, 0} }))
	f.Add(testPacket(func(o dhcpv4.Options) {
		o[80] = nil
		o[26] = []byte{5, 220}
		o[58] = []byte{0, 0, 0, 9}
		o[160] = []byte("x")
	}))
	f.Add(testPacket(func(o dhcpv4.Options) {
		o[33] = []byte{10, 0, 0, 0, 192, 0, 2, 7}
		o[28] = []byte{192, 0, 2, 127}
		o[132] = []byte("42")
		o[108] = []byte{0, 0, 1, 44}
		o[119] = []byte("\x03eng\x03isp\x07example\x00\x05sales\xc0\x04")
		o[150] = []byte{10, 0, 0, 1}
	}))
	f.Add(overloaded(3, fileAt, []byte{3, 4, 192, 0, 2, 7, 255}))
	f.Add(withOptions(testPacket(func(dhcpv4.Options) {}), slices.Concat(typeAck, serverID, []byte{66, 255})...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseReply(b, simMAC)
		if err != nil {
			return
		}
		r.odd = nil // what was left out
		r.classless = r.classless && (r.with.Router.IsValid() || len(r.with.Routes) > 0)
		again, err := parseReply(encodeReply(r, simMAC), simMAC)
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
		if l, err := r.lease(time.Unix(0, 0)); err == nil && (!isHost(l.Addr()) || l.Prefix.Bits() < 1) {
			t.Errorf("lease of %v", l.Prefix)
		}
	})
}

func FuzzUnwrap(f *testing.F) {
	packet := wrap([]byte("payload"), simServer)
	packet[ipHeader+3] = portClient
	f.Add(packet)
	f.Fuzz(func(t *testing.T, b []byte) {
		if payload, err := unwrap(b); err == nil {
			packet := wrap(payload, simServer)
			packet[ipHeader+3] = portClient
			if again, err := unwrap(packet); err != nil || !slices.Equal(again, payload) {
				t.Errorf("%x became %x, %v", payload, again, err)
			}
		}
	})
}
