package exchange

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
)

// A traveller is a phone's socket that can move, and whose datagrams can be
// looked at, kept and lost.
type traveller struct {
	*net.UDPConn
	mu   sync.Mutex
	away *net.UDPConn // sends instead of it
	sent [][]byte     // of encrypted records
	keep bool         // what is sent goes to held instead
	held [][]byte
	lose func(p []byte) bool // of what comes in
}

func (c *traveller) WriteTo(p []byte, to net.Addr) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p[0] == typeConnectionID {
		c.sent = append(c.sent, bytes.Clone(p))
	}
	switch {
	case c.keep:
		c.held = append(c.held, bytes.Clone(p))
		return len(p), nil
	case c.away != nil:
		return c.away.WriteTo(p, to)
	}
	return c.UDPConn.WriteTo(p, to)
}

func (c *traveller) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		c.mu.Lock()
		from := c.UDPConn
		if c.away != nil {
			from = c.away
		}
		lose := c.lose
		c.mu.Unlock()
		n, a, err := from.ReadFrom(p)
		if errors.Is(err, os.ErrDeadlineExceeded) && c.moved(from) {
			continue
		}
		if err == nil && lose != nil && lose(p[:n]) {
			continue
		}
		return n, a, err
	}
}

// moved reports whether c is not at from any more.
func (c *traveller) moved(from *net.UDPConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.away != nil && c.away != from
}

// move lets c send and receive elsewhere from now on.
func (c *traveller) move(t *testing.T, host string) *net.UDPConn {
	away := socket(t, host)
	c.mu.Lock()
	c.away = away
	c.mu.Unlock()
	if err := c.UDPConn.SetReadDeadline(time.Unix(1, 0)); err != nil { // wakes who reads there
		t.Fatal(err)
	}
	return away
}

// hold keeps what is sent from now on.
func (c *traveller) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep = true
}

// release ends hold: what was held stays so.
func (c *traveller) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep = false
}

// SetReadDeadline leaves the socket that nobody reads from alone.
func (c *traveller) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away != nil {
		return c.away.SetReadDeadline(t)
	}
	return c.UDPConn.SetReadDeadline(t)
}

func (c *traveller) last() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent[len(c.sent)-1]
}

// only returns the server's one session.
func only(t *testing.T, s *Server) *session {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all.n != 1 {
		t.Fatalf("%d sessions; want 1", s.all.n)
	}
	return s.all.front
}

func (x *session) where() string {
	x.records.Lock()
	defer x.records.Unlock()
	return x.path.newest.peer.String()
}

// After its first request a phone is one small struct: nothing of pion's is
// left, and no goroutine.
func TestHandover(t *testing.T) {
	s, count := serve(t, DefaultLimits(), nil)
	c := shakeHands(t, socket(t, "127.0.0.1"), s)
	defer c.Close()
	for id := range int32(100) {
		asks(t, c, id)
	}
	only(t, s)
	s.port.mu.Lock()
	if len(s.port.sessions) != 1 || len(s.port.byID) != 0 || len(s.port.byAddr) != 0 {
		t.Errorf("%d sessions, %d handshakes by ID, %d by address; want 1, 0, 0", len(s.port.sessions), len(s.port.byID), len(s.port.byAddr))
	}
	s.port.mu.Unlock()
	for _, why := range []string{"replayed", "forged", "malformed record", "overrun"} {
		if n := count.of(why); n != 0 {
			t.Errorf("%d dropped as %s of a phone that did nothing wrong", n, why)
		}
	}
}

// The server's last message of the handshake is lost, several times: it is sent
// again until the client has it.
func TestLastFlightLost(t *testing.T) {
	s, _ := serve(t, DefaultLimits(), nil)
	conn := &traveller{UDPConn: socket(t, "127.0.0.1")}
	lost := 0
	conn.lose = func(p []byte) bool { // called by one goroutine
		if p[0] == typeChangeCipherSpec && lost < 2 {
			lost++
			return true
		}
		return false
	}
	c := shakeHands(t, conn, s)
	defer c.Close()
	asks(t, c, 1)
	only(t, s)
	if lost != 2 {
		t.Errorf("%d flights were lost; want 2", lost)
	}
}

// A phone that moves is answered where it is now. Records of before, records of
// nobody's, and copies that somebody sends from elsewhere move nothing.
func TestMoves(t *testing.T) {
	s, count := serve(t, DefaultLimits(), nil)
	conn := &traveller{UDPConn: socket(t, "127.0.0.1")}
	c := shakeHands(t, conn, s)
	defer c.Close()
	asks(t, c, 1)
	first := conn.last()
	away := conn.move(t, "127.0.0.2")
	asks(t, c, 2)
	x := only(t, s)
	if got := x.where(); got != away.LocalAddr().String() {
		t.Errorf("the session is at %s; want %s", got, away.LocalAddr())
	}
	if got := s.Seen(x.peer.Key).String(); got != "127.0.0.1" {
		t.Errorf("it is seen at %s before it has answered there", got)
	}
	x.records.Lock()
	x.path.ask(7, time.Now())
	x.path.answered(7, away.LocalAddr().(*net.UDPAddr).AddrPort())
	x.records.Unlock()
	if got := s.Seen(x.peer.Key).String(); got != "127.0.0.2" {
		t.Errorf("it is seen at %s", got)
	}
	if got := s.Seen(wire.Fingerprint{1}); got.IsValid() {
		t.Errorf("who has no session is seen at %s", got)
	}
	thief := socket(t, "127.0.0.3")
	forged := bytes.Clone(conn.last())
	forged[10] += 9 // a number that is to come
	for _, bad := range [][]byte{first, conn.last(), forged, forged[:len(forged)-1]} {
		if _, err := thief.WriteTo(bad, s.Addr()); err != nil {
			t.Fatal(err)
		}
	}
	cookieFor(t, thief, s, [32]byte{1}) // all before it are read
	if count.of("replayed") != 2 || count.of("forged") != 1 || count.of("malformed record") != 1 {
		t.Errorf("replayed %d, forged %d, malformed %d; want 2, 1, 1", count.of("replayed"), count.of("forged"), count.of("malformed record"))
	}
	if got := x.where(); got != away.LocalAddr().String() {
		t.Errorf("the session went to %s", got)
	}
	asks(t, c, 3)
}

// Two requests that overtake one another are both answered, and the newer one
// says where the phone is.
func TestReordered(t *testing.T) {
	s, count := serve(t, DefaultLimits(), nil)
	conn := &traveller{UDPConn: socket(t, "127.0.0.1")}
	c := shakeHands(t, conn, s)
	asks(t, c, 1)
	away := conn.move(t, "127.0.0.2")
	conn.hold()
	for id := range int32(2) {
		data, err := wire.EncodeMessage(get(100+id, "t", -1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	late, early := conn.held[0], conn.held[1]
	conn.release()
	before := socket(t, "127.0.0.3") // where it was when it sent the first
	for _, one := range []struct {
		from *net.UDPConn
		data []byte
	}{{away, early}, {before, late}} {
		if _, err := one.from.WriteTo(one.data, s.Addr()); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 2048)
	ids := map[int32]bool{}
	for len(ids) < 2 {
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		m, err := wire.DecodeMessage(buf[:n])
		if err != nil {
			t.Fatal(err)
		}
		if m.Code == codes.Empty { // the second is more than may go there unasked
			pong(t, c, m)
			continue
		}
		ids[m.MessageID] = true
	}
	if !ids[100] || !ids[101] || count.of("replayed") != 0 {
		t.Errorf("answers to %v, %d records taken for replays", ids, count.of("replayed"))
	}
	if got := only(t, s).where(); got != away.LocalAddr().String() {
		t.Errorf("the session is at %s; want %s, whence its newest record came", got, away.LocalAddr())
	}
}

// A phone that says that it goes is forgotten at once, and told so.
func TestClientCloses(t *testing.T) {
	count := &sessions{change: make(chan int, 10)}
	s := serveWith(t, DefaultLimits(), count, nil)
	conn := &traveller{UDPConn: socket(t, "127.0.0.1")}
	c := shakeHands(t, conn, s)
	asks(t, c, 1)
	if n := <-count.change; n != 1 {
		t.Errorf("sessions changed by %d; want 1", n)
	}
	c.Close()
	if n := <-count.change; n != -1 {
		t.Errorf("sessions changed by %d; want -1", n)
	}
	s.port.mu.Lock()
	defer s.port.mu.Unlock()
	if len(s.port.sessions) != 0 || len(s.byKey) != 0 {
		t.Errorf("%d sessions are left, of %d keys", len(s.port.sessions), len(s.byKey))
	}
}

// A phone that has been silent for too long, or has begun too many sessions, is
// told that the session has ended.
func TestServerCloses(t *testing.T) {
	for name, limit := range map[string]func(*Limits){
		"idle": func(l *Limits) { l.Idle = 50 * time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			count := &sessions{change: make(chan int, 10)}
			l := DefaultLimits()
			limit(&l)
			s := serveWith(t, l, count, nil)
			c := shakeHands(t, socket(t, "127.0.0.1"), s)
			defer c.Close()
			data, err := wire.EncodeMessage(get(1, "t", -1))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(data); err != nil {
				t.Fatal(err)
			}
			if n := <-count.change + <-count.change; n != 0 {
				t.Errorf("sessions changed by %d; want one more and one less", n)
			}
			if err := ends(c); !errors.Is(err, io.EOF) {
				t.Errorf("the session ended with %v; want EOF", err)
			}
		})
	}
}

// A key that begins a session too many loses its oldest.
func TestSessionsEach(t *testing.T) {
	l := DefaultLimits()
	l.SessionsEach = 2
	s, _ := serve(t, l, nil)
	cert := certificate(t, wire.MAC{2, 0, 0x5e, 0, 0x53, 1})
	var all []*dtls.Conn
	for range 3 {
		c := shakeHandsAs(t, socket(t, "127.0.0.1"), s, cert)
		defer c.Close()
		asks(t, c, 1)
		all = append(all, c)
	}
	if err := ends(all[0]); !errors.Is(err, io.EOF) {
		t.Errorf("the oldest session ended with %v; want EOF", err)
	}
	asks(t, all[1], 2)
	asks(t, all[2], 2)
}

// A server that is full turns newcomers away by one short datagram and leaves
// the others alone: none of them has to shake hands again. Whose key has a
// session already may have another instead, and who has missed a keep-alive
// gives way.
func TestFull(t *testing.T) {
	l := DefaultLimits()
	l.Sessions, l.KeepAlive = 10, time.Hour
	s, count := serve(t, l, nil)
	cert := certificate(t, wire.MAC{2, 0, 0x5e, 0, 0x53, 1})
	var all []*dtls.Conn
	for range l.Sessions - 1 {
		c := shakeHands(t, socket(t, "127.0.0.1"), s)
		defer c.Close()
		asks(t, c, 1)
		all = append(all, c)
	}
	own := shakeHandsAs(t, socket(t, "127.0.0.1"), s, cert)
	defer own.Close()
	asks(t, own, 1)
	s.mu.Lock()
	s.again.tokens, s.again.at = 0, time.Now().Add(time.Hour) // nobody is let try
	s.mu.Unlock()
	for range 50 {
		_, err := tryHands(t, socket(t, "127.0.0.1"), s, certificate(t, wire.MAC{2, 0, 0x5e, 0, 0x53, 2}))
		if err == nil || !strings.Contains(err.Error(), "UserCanceled") {
			t.Fatalf("a handshake with a full server: %v; want an alert that it was cancelled", err)
		}
	}
	if count.of("full") != 50 || count.of("session") != 0 || count.shaken() != l.Sessions {
		t.Errorf("%d were turned away, %d let go, %d handshakes; want 50, 0, %d", count.of("full"), count.of("session"), count.shaken(), l.Sessions)
	}
	for _, c := range append(all, own) {
		asks(t, c, 2)
	}
	// Of those that are let try, a key that is there replaces itself, and
	// another is told that it has no session.
	s.mu.Lock()
	s.again = bucket{}
	s.mu.Unlock()
	again := shakeHandsAs(t, socket(t, "127.0.0.1"), s, cert)
	defer again.Close()
	asks(t, again, 1)
	if err := ends(own); !errors.Is(err, io.EOF) {
		t.Errorf("the key's older session ended with %v; want EOF", err)
	}
	stranger := shakeHands(t, socket(t, "127.0.0.1"), s)
	defer stranger.Close()
	_, _ = stranger.Write([]byte{0x40, 0, 0, 1}) // the server may have ended it before this returns
	if err := ends(stranger); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a session too many ended with %v", err)
	}
	for _, c := range all {
		asks(t, c, 3)
	}
	asks(t, again, 2)
	// The longest silent one gives way to a stranger.
	s.mu.Lock()
	s.limits.KeepAlive = 0
	s.mu.Unlock()
	late := shakeHands(t, socket(t, "127.0.0.1"), s)
	defer late.Close()
	asks(t, late, 1)
	if err := ends(all[0]); !errors.Is(err, io.EOF) {
		t.Errorf("the longest silent session ended with %v; want EOF", err)
	}
	asks(t, all[1], 4)
}

// ends reads until c has ended, and says why it has.
func ends(c *dtls.Conn) error {
	buf := make([]byte, 2048)
	for {
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		if _, err := c.Read(buf); err != nil {
			return err
		}
	}
}

// A server that stops says so to all, also to who has not asked anything yet.
func TestServerStops(t *testing.T) {
	count := &handshakes{done: make(chan bool, 10)}
	s, err := Listen(t.Context(), "127.0.0.1:0", certificate(t, wire.MAC{}), &counting{}, DefaultLimits(), count, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	one, other := shakeHands(t, socket(t, "127.0.0.1"), s), shakeHands(t, socket(t, "127.0.0.1"), s)
	defer one.Close()
	defer other.Close()
	asks(t, one, 1)
	<-count.done
	<-count.done // the client's end is done earlier
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve() = %v", err)
	}
	for _, c := range []*dtls.Conn{one, other} {
		if err := ends(c); !errors.Is(err, io.EOF) {
			t.Errorf("the session ended with %v; want EOF", err)
		}
	}
}

// A phone that says nothing after its handshake has its session all the same,
// and is answered when it does.
func TestSilentAfterHandshake(t *testing.T) {
	count := &sessions{change: make(chan int, 10)}
	l := DefaultLimits()
	l.Handshake = time.Second
	s := serveWith(t, l, count, nil)
	c := shakeHands(t, socket(t, "127.0.0.1"), s)
	defer c.Close()
	if n := <-count.change; n != 1 {
		t.Errorf("sessions changed by %d; want 1", n)
	}
	asks(t, c, 1)
}

// Phones that say nothing after their handshakes take no places from others.
func TestManySilent(t *testing.T) {
	l := DefaultLimits()
	l.Handshakes = 2
	s, _ := serve(t, l, nil)
	for range 4 {
		c := shakeHands(t, socket(t, "127.0.0.1"), s)
		defer c.Close()
	}
	s.port.mu.Lock()
	defer s.port.mu.Unlock()
	if s.port.slots.n > l.Handshakes || len(s.port.sessions)+s.port.slots.n != 4 {
		t.Errorf("%d sessions, and %d that are none yet; want at most %d of 4", len(s.port.sessions), s.port.slots.n, l.Handshakes)
	}
}

// Several loops take the records of the same sessions.
func TestLoops(t *testing.T) {
	count := &tally{}
	l := DefaultLimits()
	l.Loops = 4
	s := serveWith(t, l, count, nil)
	t.Run("phones", func(t *testing.T) {
		for range 4 {
			t.Run("phone", func(t *testing.T) {
				t.Parallel()
				c := shakeHands(t, socket(t, "127.0.0.1"), s)
				defer c.Close()
				for id := range int32(100) {
					asks(t, c, id)
				}
			})
		}
	})
	for _, why := range []string{"replayed", "forged", "malformed record", "overrun"} {
		if n := count.of(why); n != 0 {
			t.Errorf("%d dropped as %s", n, why)
		}
	}
}

// handshakes tells of handshakes that have ended.
type handshakes struct {
	noCount
	done chan bool
}

func (c *handshakes) Handshake(ok bool) { c.done <- ok }

// sessions tells of sessions that come and go.
type sessions struct {
	noCount
	change chan int
}

func (c *sessions) Session(delta int) { c.change <- delta }
