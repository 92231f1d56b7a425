package turn

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	pion "github.com/pion/turn/v5"

	"flexphone/registry-client/wire"
)

var phone = wire.MAC{2, 0, 0x5e, 0, 0x53, 1}

// serve runs a server for a phone on this machine until the test ends. ahead is how far its
// clock is.
func serve(t *testing.T) (s *Server, ahead *atomic.Int64) {
	t.Helper()
	ahead = new(atomic.Int64)
	return serveAt(t, "127.0.0.1:0", ahead), ahead
}

func serveAt(t *testing.T, at string, ahead *atomic.Int64) *Server {
	t.Helper()
	s, err := Listen(t.Context(), Options{
		Listen: at, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
		Where: func(m wire.MAC) []netip.Addr {
			if m != phone {
				return nil
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	serves(t, s)
	return s
}

// serves has s serve until the test ends.
func serves(t *testing.T, s *Server) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// asks is a client of its own that asks for a port, over UDP or TCP.
func asks(t *testing.T, s *Server, network, name, password string) (c *pion.Client, port net.PacketConn, err error) {
	t.Helper()
	var conn net.PacketConn
	if network == "tcp" {
		dialled, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn = pion.NewSTUNConn(dialled)
	} else if conn, err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return allocates(t, conn, s.Addr().String(), name, password)
}

// allocates asks for a port by a socket that there is.
func allocates(t *testing.T, conn net.PacketConn, at, name, password string) (c *pion.Client, port net.PacketConn, err error) {
	t.Helper()
	c, err = pion.NewClient(&pion.ClientConfig{
		STUNServerAddr: at, TURNServerAddr: at, Conn: conn, Username: name, Password: password, Realm: realm,
		LoggerFactory: quiet{slog.New(slog.DiscardHandler)},
	})
	if err == nil {
		err = c.Listen()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	port, err = c.Allocate()
	return c, port, err
}

// What a page says is forwarded to its phone, and back, over UDP and TCP; what it sends to
// another address is not, and ports are given back. Nothing that is said is so short as
// four bytes: over TCP pion's reader takes a channel's message (RFC 8656, section 12.4) of
// less than nine bytes for a part of one, and waits for more, which comes two minutes
// later. No packet of sound is that short.
func TestForwards(t *testing.T) {
	s, _ := serve(t)
	for _, network := range []string{"udp", "tcp"} {
		there, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer there.Close()
		name, password := s.Pass(phone)
		c, port, err := asks(t, s, network, name, password)
		if err != nil {
			t.Fatalf("%s: %v", network, err)
		}
		if s.Open() != 1 {
			t.Errorf("%s: %d ports", network, s.Open())
		}
		if _, err := port.WriteTo([]byte("hello"), there.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		n, from, err := there.ReadFrom(b)
		if err != nil || string(b[:n]) != "hello" || from.String() != port.LocalAddr().String() {
			t.Fatalf("%s: the phone gets %q of %v, %v", network, b[:n], from, err)
		}
		if _, err := there.WriteTo([]byte("hello, page"), from); err != nil {
			t.Fatal(err)
		}
		if n, _, err = port.ReadFrom(b); err != nil || string(b[:n]) != "hello, page" {
			t.Fatalf("%s: the page gets %q, %v", network, b[:n], err)
		}
		for _, other := range []string{"127.0.0.2", "192.0.2.1"} {
			if err := c.CreatePermission(&net.UDPAddr{IP: net.ParseIP(other), Port: 1}); err == nil {
				t.Errorf("%s: it forwards to %s, where the phone is not", network, other)
			}
		}
		if err := port.Close(); err != nil {
			t.Error(err)
		}
		for end := time.Now().Add(20 * time.Second); s.Open() != 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: a port that was given back counts", network)
			}
		}
	}
}

// What a page says is forwarded to where another server sees its phone as well, and by a port of
// that family; no page may change that in its name.
func TestForwardsToAnother(t *testing.T) {
	away := netip.MustParseAddr("127.0.0.3")
	s, err := Listen(t.Context(), Options{
		Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), Where: func(wire.MAC) []netip.Addr { return nil },
		Away: func(m wire.MAC) netip.Addr {
			if m != phone {
				return netip.Addr{}
			}
			return away
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	serves(t, s)
	name, password := s.Pass(phone)
	c, _, err := asks(t, s, "udp", name, password)
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"127.0.0.3", "127.0.0.2"} {
		if err := c.CreatePermission(&net.UDPAddr{IP: net.ParseIP(to), Port: 1}); (err == nil) != (to == away.String()) {
			t.Errorf("to %s: %v", to, err)
		}
	}
	other, otherPassword := s.Pass(wire.MAC{2, 0, 0x5e, 0, 0x53, 2})
	if _, _, err := asks(t, s, "udp", other, otherPassword); err == nil {
		t.Error("it has a port to a phone that is nowhere")
	}
	if _, _, err := asks(t, s, "udp", name[:len(name)-1]+"A", password); err == nil {
		t.Error("it has a port by a name that says another address")
	}
}

// FuzzName: a name that a client gives is of a phone, and not over, or it is none.
func FuzzName(f *testing.F) {
	now := time.Unix(1, 0)
	s := &Server{o: Options{Now: func() time.Time { return now }, Away: func(wire.MAC) netip.Addr { return netip.MustParseAddr("2001:db8::1") }}}
	name, _ := s.Pass(phone)
	s.o.Away = nil
	plain, _ := s.Pass(phone)
	for _, seed := range []string{name, plain, "", "::", "9:002199023255553:", "9:002199023255553:AAAAAAAA", name + ":"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		to, ok := s.calls(text)
		if ok && len(text) < len("2:000000000000000:AAAAAAAA") {
			t.Errorf("%q is of %v", text, to)
		}
		if (text == name || text == plain) && (!ok || to.mac != phone || to.away.IsValid() != (text == name)) {
			t.Errorf("%q is of %v, %v", text, to, ok)
		}
	})
}

// Nobody has a port by a name that was made up, changed or is over, nor more than a call
// needs.
func TestRefuses(t *testing.T) {
	s, ahead := serve(t)
	name, password := s.Pass(phone)
	other, _ := s.Pass(wire.MAC{2, 0, 0x5e, 0, 0x53, 2})
	for what, user := range map[string][2]string{
		"a wrong password": {name, password + "x"}, "another name": {other, password}, "no name": {"x", "x"}, "a longer time": {"9" + name, password},
	} {
		if _, _, err := asks(t, s, "udp", user[0], user[1]); err == nil {
			t.Errorf("%s: it has a port", what)
		}
	}
	otherName, otherPassword := s.Pass(wire.MAC{2, 0, 0x5e, 0, 0x53, 2})
	if _, _, err := asks(t, s, "udp", otherName, otherPassword); err == nil {
		t.Error("it has a port to a phone that is nowhere")
	}
	for i := range eachMost + 1 {
		if _, _, err := asks(t, s, "udp", name, password); (err == nil) != (i < eachMost) {
			t.Fatalf("port %d of one call: %v", i+1, err)
		}
	}
	ahead.Store(int64(lasts + time.Second))
	if _, _, err := asks(t, s, "udp", name, password); err == nil {
		t.Error("it has a port when its time is over")
	}
}

// A voice goes through a port, and not much more.
func TestRate(t *testing.T) {
	now := time.Unix(1, 0)
	l := &limited{now: func() time.Time { return now }, left: burst}
	passed := 0
	for range 60 * 50 { // a minute of packets that are ten times a voice's
		now = now.Add(20 * time.Millisecond)
		if l.takes(1600) {
			passed += 1600
		}
	}
	if most := burst + 60*rate; passed > most || passed < most-2*1600 {
		t.Errorf("%d bytes in a minute; want %d at most", passed, most)
	}
	now = now.Add(time.Second)
	for range 60 * 50 {
		now = now.Add(20 * time.Millisecond)
		if !l.takes(160) {
			t.Fatal("a voice is cut")
		}
	}
}

// connected is a socket that hears one peer alone, as a NAT lets in no other.
type connected struct{ *net.UDPConn }

// WriteTo implements net.PacketConn.
func (c connected) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }

// On a host with several addresses the one that was asked answers, and what a phone says
// leaves from there.
func TestAnswersFromWhereItWasAsked(t *testing.T) {
	for _, at := range []string{"0.0.0.0:0", ":0"} {
		s := serveAt(t, at, new(atomic.Int64))
		asked := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: s.Port()} // 127.0.0.1 is what the kernel prefers
		conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, asked)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		name, password := s.Pass(phone)
		_, port, err := allocates(t, connected{conn}, asked.String(), name, password)
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		there, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer there.Close()
		if _, err := port.WriteTo([]byte("hello"), there.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		if _, _, err := there.ReadFrom(b); err != nil {
			t.Fatal(err)
		}
		if _, err := there.WriteTo([]byte("here"), port.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		if err := port.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, _, err := port.ReadFrom(b); err != nil || string(b[:n]) != "here" {
			t.Errorf("%s: the page gets %q, %v", at, b[:n], err)
		}
	}
}

// However many ask, who has asked last is known, and no more are remembered than there is
// room for.
func TestAskedIsBounded(t *testing.T) {
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	made, err := answering(conn)
	if err != nil {
		t.Fatal(err)
	}
	a := made.(*asked)
	by := a.sources.At(netip.MustParseAddr("127.0.0.2"))
	for i := range 5 * askedMost {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 16), byte(i >> 8)}), uint16(1+i&255))
		a.note(from, by)
		if a.by(from) != by {
			t.Fatalf("who has asked as number %d is not known", i)
		}
	}
	if n := len(a.now) + len(a.old); n > 2*askedMost {
		t.Errorf("%d are remembered", n)
	}
}
