package exchange

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
)

// tally counts what is dropped.
type tally struct {
	noCount
	mu      sync.Mutex
	dropped map[string]int
	shook   int
}

// Handshake implements Counters.
func (c *tally) Handshake(bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shook++
}

// shaken returns how many handshakes have ended, well or not.
func (c *tally) shaken() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shook
}

func (c *tally) Dropped(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dropped == nil {
		c.dropped = map[string]int{}
	}
	c.dropped[why]++
}

func (c *tally) of(why string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped[why]
}

// certificate returns a new key's, of a phone when a MAC is given.
func certificate(t testing.TB, mac wire.MAC) tls.Certificate {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	if mac != (wire.MAC{}) {
		u, err := url.Parse(mac.URN())
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = []*url.URL{u}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func serve(t testing.TB, l Limits, log *slog.Logger) (*Server, *tally) {
	t.Helper()
	count := &tally{}
	l.Loops = 1 // what is sent first is read first
	return serveWith(t, l, count, log), count
}

func serveWith(t testing.TB, l Limits, count Counters, log *slog.Logger) *Server {
	t.Helper()
	s, err := Listen(t.Context(), "127.0.0.1:0", certificate(t, wire.MAC{}), &counting{}, l, count, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	})
	return s
}

// socket is a client's, at one of the loopback addresses.
func socket(t testing.TB, host string) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// shakeHands begins a session on conn.
func shakeHands(t testing.TB, conn net.PacketConn, s *Server) *dtls.Conn {
	t.Helper()
	return shakeHandsAs(t, conn, s, certificate(t, wire.MAC{2, 0, 0x5e, 0, 0x53, 1}))
}

func shakeHandsAs(t testing.TB, conn net.PacketConn, s *Server, cert tls.Certificate) *dtls.Conn {
	t.Helper()
	c, err := tryHands(t, conn, s, cert, dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))
	if err != nil {
		t.Fatalf("handshake: %v", err)
	}
	return c
}

// tryHands is shakeHandsAs with options of the client's own.
func tryHands(t testing.TB, conn net.PacketConn, s *Server, cert tls.Certificate, options ...dtls.ClientOption) (*dtls.Conn, error) {
	t.Helper()
	c, err := dtls.ClientWithOptions(conn, s.Addr(), append([]dtls.ClientOption{
		dtls.WithCertificates(cert),
		dtls.WithInsecureSkipVerify(true),
		dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return c, c.HandshakeContext(ctx)
}

// asks makes one request in a session, again and again until it is answered.
func asks(t testing.TB, c net.Conn, id int32) {
	t.Helper()
	data, err := wire.EncodeMessage(get(id, "t", -1))
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	for range 10 {
		if _, err := c.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(buf)
		if err != nil {
			continue
		}
		m, err := wire.DecodeMessage(buf[:n])
		if err != nil || m.Type != message.Acknowledgement || m.MessageID != id || m.Code != codes.Content {
			t.Fatalf("answered %v, %v", m, err)
		}
		return
	}
	t.Fatal("no answer to ten requests")
}

// pong answers a ping (RFC 7252, section 4.3).
func pong(t testing.TB, c net.Conn, ping message.Message) {
	t.Helper()
	data, err := wire.EncodeMessage(message.Message{Type: message.Reset, MessageID: ping.MessageID})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
}

// newHello is a ClientHello as RFC 6347 has it, of a record and message number.
func newHello(sequence uint64, message uint16, random [32]byte, cookie []byte) []byte {
	body := append([]byte{0xfe, 0xfd}, random[:]...)
	body = append(body, 0, byte(len(cookie)))
	body = append(body, cookie...)
	body = append(body, 0, 2, 0xc0, 0x2b, 1, 0) // AES-128-GCM, no compression
	ext := []byte{
		0, 10, 0, 4, 0, 2, 0, 29, // supported groups: x25519
		0, 13, 0, 6, 0, 4, 8, 7, 4, 3, // signatures
		0, 23, 0, 0, // extended master secret
		0, 54, 0, 1, 0, // connection ID
	}
	body = binary.BigEndian.AppendUint16(body, uint16(len(ext)))
	body = append(body, ext...)
	out := append([]byte{typeHandshake, 0xfe, 0xfd, 0, 0}, appendUint48(nil, sequence)...)
	out = binary.BigEndian.AppendUint16(out, uint16(handshakeHeader+len(body)))
	out = append(out, messageClientHello, 0, byte(len(body)>>8), byte(len(body)), byte(message>>8), byte(message), 0, 0, 0, 0, byte(len(body)>>8), byte(len(body)))
	return append(out, body...)
}

// cookieFor asks the server for a cookie.
func cookieFor(t testing.TB, conn *net.UDPConn, s *Server, random [32]byte) []byte {
	t.Helper()
	if _, err := conn.WriteTo(newHello(7, 0, random, nil), s.Addr()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if n == recordHeader+handshakeHeader+3+cookieLength && buf[recordHeader] == messageHelloVerifyRequest {
			if recordSequence(buf) != 7 {
				t.Errorf("request for a cookie has number %d; want the hello's, 7", recordSequence(buf))
			}
			return append([]byte(nil), buf[n-cookieLength:n]...)
		}
	}
}

func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// Ten thousand hellos without a cookie leave nothing behind.
func TestHelloFlood(t *testing.T) {
	s, _ := serve(t, DefaultLimits(), nil)
	conn := socket(t, "127.0.0.1")
	var random [32]byte
	cookieFor(t, conn, s, random) // what is made once is made
	before, routines := inUse(), runtime.NumGoroutine()
	for i := range 10000 {
		binary.BigEndian.PutUint32(random[:], uint32(i+1))
		cookieFor(t, conn, s, random)
	}
	after := inUse()
	t.Logf("10000 hellos: %d bytes more memory, %d more goroutines", int64(after)-int64(before), runtime.NumGoroutine()-routines)
	if after > before+1<<20 {
		t.Errorf("10000 hellos took %d bytes; want less than a megabyte", after-before)
	}
	s.port.mu.Lock()
	if n := len(s.port.byAddr) + len(s.port.byID) + len(s.port.slots.bySource); n != 0 {
		t.Errorf("%d entries are kept for hellos without a cookie", n)
	}
	s.port.mu.Unlock()
	c := shakeHands(t, socket(t, "127.0.0.1"), s)
	asks(t, c, 1)
	c.Close()
}

// begins sends a hello with a good cookie, and finishes nothing.
func begins(t testing.TB, conn *net.UDPConn, s *Server, random [32]byte) {
	t.Helper()
	cookie := cookieFor(t, conn, s, random)
	if _, err := conn.WriteTo(newHello(8, 1, random, cookie), s.Addr()); err != nil {
		t.Fatal(err)
	}
}

// Sources that finish no handshake keep nobody away, however many they are and
// however many hellos each sends: not even where they have all places.
func TestHalfOpen(t *testing.T) {
	for sources := range 7 {
		l := DefaultLimits()
		l.Handshakes = 20
		s, count := serve(t, l, nil)
		for from := range sources {
			conn := socket(t, fmt.Sprintf("127.0.0.%d", 10+from))
			for i := range 60 {
				begins(t, conn, s, [32]byte{1, byte(i)})
			}
			cookieFor(t, conn, s, [32]byte{2}) // all before it are read
		}
		s.port.mu.Lock()
		n := s.port.slots.n
		s.port.mu.Unlock()
		if want := min(sources, 1) * 20; n != want {
			t.Errorf("%d sources have %d places; want %d", sources, n, want)
		}
		for i := range 5 {
			c := shakeHands(t, socket(t, fmt.Sprintf("127.0.1.%d", i)), s)
			asks(t, c, 1)
			c.Close()
		}
		if sources == 1 && count.of("hello") != 40 {
			t.Errorf("%d hellos of one source were dropped; want 40: those before it had no time", count.of("hello"))
		}
	}
}

// Who gives way is the oldest of the source that has most, unanswered before
// answered; among equals only who had time to answer.
func TestVictim(t *testing.T) {
	now := time.Unix(1e9, 0)
	at := func(host int, age time.Duration, answered bool) *handshake {
		h := &handshake{first: place{peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(host)}), uint16(age/time.Millisecond))}}
		h.offered.Store(now.Add(-age).UnixNano())
		h.answered.Store(answered)
		return h
	}
	const second = time.Second
	for name, tt := range map[string]struct {
		there []*handshake
		want  int // index; -1: none
	}{
		"the largest source's oldest":         {[]*handshake{at(1, 9*second, false), at(2, 3*second, false), at(2, 2*second, false), at(2, 0, false)}, 1},
		"who has answered stays":              {[]*handshake{at(2, 3*second, true), at(2, 2*second, false), at(2, second, false)}, 1},
		"unless all have":                     {[]*handshake{at(2, 3*second, true), at(2, 2*second, true), at(2, second, true)}, 0},
		"at once":                             {[]*handshake{at(2, 3, false), at(2, 2, false), at(2, 1, false)}, 0},
		"equals that had no time":             {[]*handshake{at(1, second, false), at(2, second, false), at(3, second, true)}, -1},
		"equals of which one had time":        {[]*handshake{at(1, second, false), at(2, 3*second, false), at(3, 3*second, true)}, 1},
		"equals that had a long time":         {[]*handshake{at(1, second, false), at(3, 5*second, true)}, 1},
		"the newcomer's own that had time":    {[]*handshake{at(9, second, false), at(9, 3*second, false), at(9, 4*second, false)}, 2},
		"the newcomer's own that had no time": {[]*handshake{at(9, second, false), at(9, second, false)}, -1},
	} {
		s := newSlots(len(tt.there))
		for _, h := range tt.there {
			s.add(h)
		}
		got := s.victim(netip.MustParseAddrPort("192.0.2.9:1"), now)
		if (tt.want < 0) != (got == nil) || got != nil && got != tt.there[tt.want] {
			t.Errorf("%s: %+v gives way", name, got)
		}
		for _, h := range append(tt.there, tt.there...) {
			s.remove(h)
		}
		if s.n != 0 || len(s.bySource) != 0 {
			t.Errorf("%s: %d places of %d sources are left", name, s.n, len(s.bySource))
		}
	}
	s := newSlots(1)
	s.add(&handshake{first: place{peer: netip.MustParseAddrPort("192.0.2.1:1")}})
	if s.victim(netip.MustParseAddrPort("192.0.2.9:1"), now) != nil {
		t.Error("one that has been offered nothing yet gives way")
	}
}

// A cookie is good for who got it, and for one hello.
func TestCookie(t *testing.T) {
	c := newCookies()
	here, there := netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("192.0.2.1:1001")
	now := time.Unix(1e9, 0)
	random := [32]byte{1}
	ask, ok := parseHello(newHello(0, 0, random, nil))
	if !ok {
		t.Fatal("hello not read")
	}
	answer := c.request(here, ask, now)
	cookie := answer[len(answer)-cookieLength:]
	with := func(random [32]byte, cookie []byte) hello {
		h, ok := parseHello(newHello(1, 1, random, cookie))
		if !ok {
			t.Fatal("hello not read")
		}
		return h
	}
	for _, tt := range []struct {
		name string
		from netip.AddrPort
		h    hello
		at   time.Time
		want bool
	}{
		{"its own", here, with(random, cookie), now, true},
		{"a minute later", here, with(random, cookie), now.Add(cookieTurn), true},
		{"three minutes later", here, with(random, cookie), now.Add(3 * cookieTurn), false},
		{"another port", there, with(random, cookie), now, false},
		{"another hello", here, with([32]byte{2}, cookie), now, false},
		{"none", here, ask, now, false},
		{"cut", here, with(random, cookie[:19]), now, false},
		{"wrong", here, with(random, make([]byte, cookieLength)), now, false},
	} {
		if got := c.valid(tt.from, tt.h, tt.at); got != tt.want {
			t.Errorf("%s: valid() = %v; want %v", tt.name, got, tt.want)
		}
	}
	if c.valid(here, with(random, cookie), now) == newCookies().valid(here, with(random, cookie), now) {
		t.Error("another server's cookie is as good")
	}
}

// A phone that dies and begins anew from the same address and port gets a new
// session, and the old one is kept apart by its connection ID.
func TestSameAddressAgain(t *testing.T) {
	s, _ := serve(t, DefaultLimits(), nil)
	conn := socket(t, "127.0.0.1")
	first := shakeHands(t, &immortal{conn}, s)
	asks(t, first, 1)
	first.Close() // without a word: the server still has it
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	second := shakeHands(t, conn, s)
	asks(t, second, 2)
	second.Close()
}

// immortal is a socket that outlives its session, and says nothing at its end.
type immortal struct{ *net.UDPConn }

func (c *immortal) Close() error { return nil }

func (c *immortal) WriteTo(p []byte, to net.Addr) (int, error) {
	if isAlert(p) {
		return len(p), nil
	}
	return c.UDPConn.WriteTo(p, to)
}

// isAlert tells an encrypted close_notify by its length: header, connection ID,
// nonce, alert, type and tag.
func isAlert(p []byte) bool {
	return p[0] == typeConnectionID && len(p) == recordHeader+8+8+2+1+16
}

// What cannot be meant is counted by kind, and a flood of it makes few lines.
func TestBadDatagrams(t *testing.T) {
	var log bytes.Buffer
	s, count := serve(t, DefaultLimits(), slog.New(slog.NewTextHandler(&log, nil)))
	conn := socket(t, "127.0.0.1")
	unknown := append([]byte{typeConnectionID, 0xfe, 0xfd, 0, 1}, make([]byte, 60)...)
	for range 500 {
		for _, data := range [][]byte{
			{1, 2, 3}, unknown, make([]byte, 100), make([]byte, maxDatagram+1),
			{typeAlert, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 40},
		} {
			if _, err := conn.WriteTo(data, s.Addr()); err != nil {
				t.Fatal(err)
			}
		}
		cookieFor(t, conn, s, [32]byte{1}) // all before it are read
	}
	for why, want := range map[string]int{"malformed": 1000, "unknown session": 1000, "oversized": 500} {
		if got := count.of(why); got != want {
			t.Errorf("%d dropped as %s; want %d", got, why, want)
		}
	}
	s.limitedLog.mu.Lock() // nobody writes to log meanwhile
	lines := strings.Count(log.String(), "\n")
	s.limitedLog.mu.Unlock()
	if lines < 3 || lines > 30 {
		t.Errorf("%d lines were logged about 2500 datagrams", lines)
	}
}

// FuzzPort: no datagram does harm, whatever it looks like.
func FuzzPort(f *testing.F) {
	f.Add(newHello(0, 0, [32]byte{1}, nil))
	f.Add(newHello(1, 1, [32]byte{1}, make([]byte, cookieLength)))
	f.Add(append([]byte{typeConnectionID, 0xfe, 0xfd, 0, 1}, make([]byte, 60)...))
	from := netip.MustParseAddrPort("127.0.0.1:9") // discard
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, ok := parseHello(data); ok {
			again, ok := parseHello(h.first())
			if !ok || !bytes.Equal(again.before, h.before) || len(again.cookie) != 0 || !bytes.Equal(again.after, h.after) {
				t.Fatalf("hello %x became %x", data, h.first())
			}
			if len(newCookies().request(from, h, time.Now())) > len(data) {
				t.Error("the answer is longer than what it answers")
			}
		}
		renumber(data, 5)
		isVerifyRequest(data)
	})
}
