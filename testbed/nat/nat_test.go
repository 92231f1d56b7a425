package nat

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

var (
	inside  = netip.MustParsePrefix("192.168.77.0/24")
	outside = netip.MustParseAddr("198.51.100.50")
	phone   = netip.MustParseAddrPort("192.168.77.2:4000")
	server  = netip.MustParseAddrPort("203.0.113.10:5684")
	sibling = netip.MustParseAddrPort("203.0.113.10:3478")
	other   = netip.MustParseAddrPort("203.0.113.20:4000")
)

// sent is a packet with right checksums.
func sent(protocol byte, src, dst netip.AddrPort) []byte {
	size := map[byte]int{UDP: 8, TCP: 20}[protocol]
	p := make([]byte, 20+size+5)
	p[0], p[8], p[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	a, b := src.Addr().As4(), dst.Addr().As4()
	copy(p[12:], a[:])
	copy(p[16:], b[:])
	binary.BigEndian.PutUint16(p[20:], src.Port())
	binary.BigEndian.PutUint16(p[22:], dst.Port())
	if protocol == UDP {
		binary.BigEndian.PutUint16(p[24:], uint16(size+5))
	}
	copy(p[20+size:], "hello")
	at := map[byte]int{UDP: 26, TCP: 36}[protocol]
	binary.BigEndian.PutUint16(p[10:], ^fold(p[:20], 0))
	binary.BigEndian.PutUint16(p[at:], ^fold(p[20:], pseudo(p)))
	return p
}

func pseudo(p []byte) uint32 {
	return uint32(fold(p[12:20], 0)) + uint32(p[9]) + uint32(len(p)-20)
}

// fold is the one's complement sum of RFC 1071.
func fold(b []byte, s uint32) uint16 {
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		s += w
	}
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// through sends a packet, and returns its ends when it has passed.
func through(t *testing.T, n *NAT, at time.Duration, protocol byte, src, dst netip.AddrPort) (from, to netip.AddrPort, ok bool) {
	t.Helper()
	p := sent(protocol, src, dst)
	if !n.Pass(time.Unix(0, 0).Add(at), p) {
		return from, to, false
	}
	if fold(p[:20], 0) != 0xffff || fold(p[20:], pseudo(p)) != 0xffff {
		t.Errorf("%v to %v: checksums %x, %x", src, dst, fold(p[:20], 0), fold(p[20:], pseudo(p)))
	}
	v, _ := read(p)
	from, to = v.ends()
	return from, to, true
}

func TestKinds(t *testing.T) {
	for _, tt := range []struct {
		name                    string
		config                  Config
		samePort                bool // for every destination
		peer, sibling, stranger bool // whom it lets in
	}{
		{"full cone", Config{Filter: Anybody}, true, true, true, true},
		{"address-restricted", Config{Filter: Host}, true, true, true, false},
		{"port-restricted", Config{Filter: Port}, true, true, false, false},
		{"symmetric", Config{Symmetric: true, Filter: Port}, false, true, false, false},
	} {
		for _, protocol := range []byte{UDP, TCP} {
			tt.config.Inside, tt.config.Outside = inside, outside
			n := New(tt.config)
			seen, to, ok := through(t, n, 0, protocol, phone, server)
			if !ok || seen.Addr() != outside || to != server {
				t.Fatalf("%s: out: %v to %v, %v", tt.name, seen, to, ok)
			}
			for _, in := range []struct {
				from netip.AddrPort
				want bool
			}{{server, tt.peer}, {sibling, tt.sibling}, {other, tt.stranger}} {
				from, to, ok := through(t, n, 0, protocol, in.from, seen)
				if ok != in.want || ok && (to != phone || from != in.from) {
					t.Errorf("%s: from %v: %v to %v, %v; want %v", tt.name, in.from, from, to, ok, in.want)
				}
			}
			if again, _, _ := through(t, n, 0, protocol, phone, other); (again == seen) != tt.samePort {
				t.Errorf("%s: %v is seen at %v, and at %v by another", tt.name, phone, seen, again)
			}
		}
	}
}

func TestForgets(t *testing.T) {
	n := New(Config{Inside: inside, Outside: outside, Filter: Port, Forget: 30 * time.Second})
	seen, _, _ := through(t, n, 0, UDP, phone, server)
	if _, _, ok := through(t, n, 29*time.Second, UDP, server, seen); !ok {
		t.Error("it forgot too early")
	}
	if _, _, ok := through(t, n, 30*time.Second, UDP, server, seen); ok {
		t.Error("it did not forget")
	}
	before, _, _ := through(t, n, 31*time.Second, UDP, phone, server)
	n.Restart()
	if _, _, ok := through(t, n, 31*time.Second, UDP, server, seen); ok {
		t.Error("it knows after a restart")
	}
	if after, _, _ := through(t, n, 31*time.Second, UDP, phone, server); after != before {
		t.Errorf("it was seen at %v, and is at %v; want the port kept, which is free", before, after)
	}
	// One that keeps no port gives others after it was restarted.
	n = New(Config{Inside: inside, Outside: outside, Filter: Port, Arbitrary: true})
	before, _, _ = through(t, n, 0, UDP, phone, server)
	if again, _, _ := through(t, n, 0, UDP, phone, other); again != before || again.Port() == phone.Port() {
		t.Errorf("%v is seen at %v, and at %v by another; want one port, and not its own", phone, before, again)
	}
	n.Restart()
	if after, _, _ := through(t, n, 0, UDP, phone, server); after == before {
		t.Errorf("it is seen at %v after a restart, too", after)
	}
}

// What was asked for is open to anybody, and two who want the same port get two.
func TestOpen(t *testing.T) {
	n := New(Config{Inside: inside, Outside: outside, Symmetric: true, Filter: Port})
	sips, next := netip.AddrPortFrom(phone.Addr(), 5061), netip.MustParseAddrPort("192.168.77.3:5061")
	if port := n.Open(TCP, sips, 5061); port != 5061 || n.Open(TCP, sips, 5061) != 5061 {
		t.Errorf("port %d; want the same", port)
	}
	port := n.Open(TCP, next, 5061)
	if _, to, ok := through(t, n, 0, TCP, other, netip.AddrPortFrom(outside, port)); !ok || to != next || port == 5061 {
		t.Errorf("port %d leads to %v, %v", port, to, ok)
	}
	// A phone that calls its neighbour by the address that both are seen at.
	if from, to, ok := through(t, n, 0, TCP, phone, netip.AddrPortFrom(outside, port)); !ok || to != next || from.Addr() != outside {
		t.Errorf("hairpin: %v to %v, %v", from, to, ok)
	}
	n.Shut(TCP, next)
	if _, _, ok := through(t, n, 0, TCP, other, netip.AddrPortFrom(outside, port)); ok {
		t.Error("it is open after it was shut")
	}
}

// Packets that are none, or that it cannot translate, go no further and break nothing.
func FuzzPass(f *testing.F) {
	f.Add(sent(UDP, phone, server))
	f.Add(sent(TCP, server, netip.AddrPortFrom(outside, 4000)))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := New(Config{Inside: inside, Outside: outside})
		if n.Pass(time.Time{}, b) {
			v, ok := read(b)
			if src, dst := v.ends(); !ok || src.Addr() != outside && !inside.Contains(dst.Addr()) {
				t.Errorf("%x has passed", b)
			}
		}
	})
}
