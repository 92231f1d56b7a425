package sockets

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// severalAddresses is set in a network namespace whose one interface has two addresses of
// each family.
const severalAddresses = "SOCKETS_TEST_ADDRESSES"

// elsewhere runs a test in a network namespace of its own, and reports whether it has: then
// there is nothing left to do here.
func elsewhere(t *testing.T) bool {
	t.Helper()
	if os.Getenv(severalAddresses) != "" {
		return false
	}
	if out, err := exec.Command("unshare", "-Urn", "true").CombinedOutput(); err != nil {
		t.Skipf("no network namespace: %v: %s", err, out)
	}
	cmd := exec.Command("unshare", "-Urn", "sh", "-ec", `ip link set lo up
for a in 10.9.0.1/24 10.9.0.2/24 fd09::1/64 fd09::2/64; do ip addr add $a dev lo; done
exec "$0" -test.run "^$1\$"`, os.Args[0], t.Name())
	cmd.Env = append(os.Environ(), severalAddresses+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in a network namespace: %v\n%s", err, out)
	}
	return true
}

// An echo answers what comes, from where it came to.
type echo struct {
	conn    *net.UDPConn
	sources *Sources
}

func listen(t testing.TB, network, at string) *echo {
	t.Helper()
	conn, err := net.ListenPacket(network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	e := &echo{conn: conn.(*net.UDPConn)}
	if e.sources, err = SourcesOf(e.conn); err != nil {
		t.Fatal(err)
	}
	return e
}

// once answers one datagram, and returns by which address it came.
func (e *echo) once(t testing.TB, b, control []byte) *Source {
	n, k, _, from, err := e.conn.ReadMsgUDPAddrPort(b, control)
	if err != nil {
		t.Fatal(err)
	}
	by := e.sources.Of(control[:k])
	if err := Answer(e.conn, b[:n], from, by); err != nil {
		t.Fatal(err)
	}
	return by
}

// Whichever address of an interface with two is asked, it is the one that answers, by either
// family, whether the socket is of one or of both.
func TestAnswersFromWhereItWasAsked(t *testing.T) {
	if elsewhere(t) {
		return
	}
	four, six := []string{"10.9.0.1", "10.9.0.2", "127.0.0.1"}, []string{"fd09::1", "fd09::2", "::1"}
	for _, tt := range []struct {
		network, at string
		asked       []string
	}{
		{"udp", ":0", slices.Concat(four, six)}, {"udp", "[::]:0", slices.Concat(four, six)}, {"udp", "0.0.0.0:0", four},
		{"udp6", "[::]:0", six}, {"udp", "10.9.0.2:0", []string{"10.9.0.2"}}, {"udp", "[fd09::2]:0", []string{"fd09::2"}},
	} {
		e := listen(t, tt.network, tt.at)
		port := e.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		b, control := make([]byte, 100), make([]byte, ControlRoom)
		for _, asked := range tt.asked {
			to := netip.AddrPortFrom(netip.MustParseAddr(asked), port)
			from := "10.9.0.1:0" // from where the kernel prefers to answer itself
			if to.Addr().Is6() {
				from = "[fd09::1]:0"
			}
			who, err := net.ListenPacket("udp", from)
			if err != nil {
				t.Fatal(err)
			}
			c := who.(*net.UDPConn)
			for range 2 {
				if _, err := c.WriteToUDPAddrPort([]byte("who?"), to); err != nil {
					t.Fatal(err)
				}
				by := e.once(t, b, control)
				if want := to.Addr(); e.sources != nil && by.Addr() != want {
					t.Errorf("%s: asked at %v it says %v", tt.at, want, by.Addr())
				}
				if again := e.sources.At(by.Addr()); again != by {
					t.Errorf("%s: it is told that it was asked at %v, and takes it for %v", tt.at, by.Addr(), again.Addr())
				}
				if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
					t.Fatal(err)
				}
				n, answerer, err := c.ReadFromUDPAddrPort(make([]byte, 100))
				if err != nil || n != 4 || netip.AddrPortFrom(answerer.Addr().Unmap(), answerer.Port()) != to {
					t.Errorf("%s: asked at %v it answers from %v, %v", tt.at, to, answerer, err)
				}
			}
			c.Close()
		}
		if tt.at == "10.9.0.2:0" && e.sources != nil {
			t.Error("a socket with one address asks for it")
		}
	}
}

// An address that is taken from the host is none to answer from: the kernel chooses.
func TestAddressThatHasGone(t *testing.T) {
	if elsewhere(t) {
		return
	}
	for _, at := range []string{"0.0.0.0:0", ":0"} {
		for _, a := range []string{"10.99.0.77/24", "fd99::77/64"} {
			gone := netip.MustParsePrefix(a).Addr()
			if at == "0.0.0.0:0" && gone.Is6() {
				continue
			}
			e := listen(t, "udp", at)
			who, err := net.ListenPacket("udp", net.JoinHostPort(map[bool]string{true: "10.9.0.1", false: "fd09::1"}[gone.Is4()], "0"))
			if err != nil {
				t.Fatal(err)
			}
			c := who.(*net.UDPConn)
			defer c.Close()
			to := c.LocalAddr().(*net.UDPAddr).AddrPort()
			if err := Answer(e.conn, []byte("here"), to, e.sources.At(gone)); err != nil {
				t.Errorf("%s: from %v: %v", at, gone, err)
			}
			if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, from, err := c.ReadFromUDPAddrPort(make([]byte, 100)); err != nil || from.Addr().Unmap() == gone {
				t.Errorf("%s: %v, from %v", at, err, from)
			}
		}
	}
}

// Nobody speaks from nowhere or from a group, and of however many addresses each is right.
func TestSources(t *testing.T) {
	e := listen(t, "udp4", "0.0.0.0:0")
	for _, none := range []string{"0.0.0.0", "224.0.0.1", "fd09::1"} {
		if by := e.sources.At(netip.MustParseAddr(none)); by != nil {
			t.Errorf("from %s: %v", none, by.Addr())
		}
	}
	for i := range 2 * sourcesMost {
		a := netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)})
		if i == 0 { // 10.9.0.0 is as good as any here
			a = netip.AddrFrom4([4]byte{10, 8, 0, 1})
		}
		if by := e.sources.At(a); by.Addr() != a || len(by.Control()) == 0 {
			t.Fatalf("the %dth address %v is %v", i, a, by.Addr())
		}
	}
	if n := len(*e.sources.known.Load()); n != sourcesMost {
		t.Errorf("%d addresses are kept, want %d", n, sourcesMost)
	}
	var nobody *Source
	if nobody.Control() != nil || nobody.Addr().IsValid() || (*Sources)(nil).Of(make([]byte, 40)) != nil {
		t.Error("what is left to the kernel is somewhere")
	}
}

// A datagram of an address that is known costs nothing of memory.
func TestSourcesAllocateNothing(t *testing.T) {
	e := listen(t, "udp4", "0.0.0.0:0")
	by := e.sources.At(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	c, err := net.Dial("udp4", net.JoinHostPort("127.0.0.1", e.conn.LocalAddr().String()[len("0.0.0.0:"):]))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, control, out := make([]byte, 100), make([]byte, ControlRoom), []byte("who?")
	if n := testing.AllocsPerRun(200, func() {
		if _, err := c.Write(out); err != nil {
			t.Fatal(err)
		}
		if e.once(t, b, control) != by {
			t.Fatal("another address")
		}
	}); n > 0 {
		t.Errorf("%v allocations for each", n)
	}
}

// Whatever the kernel says with a datagram, it is an address or none, and one that is
// said again in the same way.
func FuzzSources(f *testing.F) {
	for _, six := range []bool{false, true} {
		s := newSources(six)
		f.Add(s.make(netip.MustParseAddr("192.0.2.1"), 0).Control(), six)
		f.Add(newSources(true).make(netip.MustParseAddr("fe80::1"), 3).Control(), six)
		f.Add(newSources(true).make(netip.MustParseAddr("0.0.0.0"), 0).Control(), six)
		f.Add(append(make([]byte, unix.CmsgSpace(4)), s.make(netip.MustParseAddr("192.0.2.1"), 0).Control()...), six)
	}
	f.Fuzz(func(t *testing.T, control []byte, six bool) {
		s := newSources(six)
		by := s.Of(control)
		if by == nil {
			return
		}
		if again := s.Of(by.Control()); again != by {
			t.Fatalf("%x is %v, and its own %x is %v", control, by.Addr(), by.Control(), again.Addr())
		}
		if by.Addr().IsValid() && !bytes.Equal(s.At(by.Addr()).Control(), by.Control()) {
			t.Fatalf("%v is %x, and %x", by.Addr(), by.Control(), s.At(by.Addr()).Control())
		}
	})
}

// BenchmarkAnswer is what an answer costs where the address that was asked is known beside
// one of a socket that has one address.
func BenchmarkAnswer(b *testing.B) {
	for _, tt := range []struct{ name, network, at string }{
		{"one address", "udp4", "127.0.0.1:0"}, {"any address, IPv4", "udp4", "0.0.0.0:0"}, {"any address", "udp", ":0"},
	} {
		b.Run(tt.name, func(b *testing.B) {
			e := listen(b, tt.network, tt.at)
			port := e.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
			c, err := net.Dial("udp4", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port).String())
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			in, control, out := make([]byte, 200), make([]byte, ControlRoom), make([]byte, 108)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(out); err != nil {
					b.Fatal(err)
				}
				e.once(b, in, control)
				if _, err := c.Read(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
