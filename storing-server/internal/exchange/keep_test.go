package exchange

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/plgd-dev/go-coap/v3/message"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/record"
)

// keeper is a server that keeps its sessions in a folder, and can be stopped.
type keeper struct {
	*Server
	count *tally
	h     *counting
	had   int // sessions that it went on with
	err   error
	stop  func()
}

func startKeeper(t *testing.T, at, path string, cert tls.Certificate, l Limits) *keeper {
	t.Helper()
	k := &keeper{count: &tally{}, h: &counting{}}
	l.Loops = 1
	var err error
	if k.Server, err = Listen(t.Context(), at, cert, k.h, l, k.count, nil); err != nil {
		t.Fatal(err)
	}
	k.had, k.err = k.Resume(path)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Serve(ctx) }()
	stopped := false
	k.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	}
	t.Cleanup(k.stop)
	return k
}

// Sessions go on over a restart, with no handshake: with a connection ID and
// without, of who has moved and of who observes, who is told what is new. What
// came before is not taken again.
func TestResume(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sessions")
	cert := certificate(t, wire.MAC{})
	k := startKeeper(t, "127.0.0.1:0", path, cert, DefaultLimits())
	if k.had != 0 || k.err != nil {
		t.Fatalf("resumed %d, %v; want none", k.had, k.err)
	}
	at := k.Addr().String()
	conn := &traveller{UDPConn: socket(t, "127.0.0.1")}
	with := shakeHands(t, conn, k.Server)
	defer with.Close()
	without, err := tryHands(t, socket(t, "127.0.0.1"), k.Server, certificate(t, wire.MAC{2, 0, 0x5e, 0, 0x53, 2}))
	if err != nil {
		t.Fatal(err)
	}
	defer without.Close()
	asks(t, with, 1)
	asks(t, without, 1)
	before := bytes.Clone(conn.last())
	observe, err := wire.EncodeMessage(get(2, "tok", 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := with.Write(observe); err != nil {
		t.Fatal(err)
	}
	number, _ := wire.Uint(next(t, with), message.Observe)
	for restart := range 3 {
		k.stop()
		if text, err := os.ReadFile(path); err != nil || bytes.Contains(text, []byte("127.0.0.1:")) {
			t.Fatalf("sessions were not kept, or not sealed: %v", err)
		}
		k = startKeeper(t, at, path, cert, DefaultLimits())
		if k.had != 2 || k.err != nil {
			t.Fatalf("resumed %d, %v; want 2", k.had, k.err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file is still there: %v", err)
		}
		n := next(t, with)
		again, ok := wire.Uint(n, message.Observe)
		if string(n.Token) != "tok" || n.Type != message.Confirmable || !ok || again <= number && number-again < 1<<23 {
			t.Errorf("who observes got %v, number %d after %d", n, again, number)
		}
		number = again
		ack, err := wire.EncodeMessage(message.Message{Type: message.Acknowledgement, MessageID: n.MessageID})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := with.Write(ack); err != nil {
			t.Fatal(err)
		}
		thief := socket(t, "127.0.0.3")
		if _, err := thief.WriteTo(before, k.Addr()); err != nil {
			t.Fatal(err)
		}
		asks(t, with, int32(10+restart))
		asks(t, without, int32(10+restart))
		if k.count.of("replayed") != 1 || k.count.shaken() != 0 || k.count.of("forged") != 0 {
			t.Errorf("%d replays refused, %d handshakes, %d forged; want 1, 0, 0", k.count.of("replayed"), k.count.shaken(), k.count.of("forged"))
		}
		if restart == 1 {
			conn.move(t, "127.0.0.2")
			asks(t, with, 50)
		}
	}
}

// A phone that has spoken to one of several addresses of a host is told from there what is new,
// before a restart and after it.
func TestAddressThatWasAsked(t *testing.T) {
	cert := certificate(t, wire.MAC{})
	for name, at := range map[string]string{"IPv4": "0.0.0.0:0", "both families": ":0"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sessions")
			k := startKeeper(t, at, path, cert, DefaultLimits())
			port := k.Addr().(*net.UDPAddr).Port
			conn := &answerers{UDPConn: socket(t, "127.0.0.1")}
			to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: port} // 127.0.0.1 is what the kernel prefers
			c, err := dtls.ClientWithOptions(conn, to, dtls.WithCertificates(certificate(t, wire.MAC{2, 0, 0x5e, 0, 0x53, 1})), dtls.WithInsecureSkipVerify(true),
				dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
				dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			asks(t, c, 1)
			observe, err := wire.EncodeMessage(get(2, "tok", 0))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(observe); err != nil {
				t.Fatal(err)
			}
			next(t, c)
			k.stop()
			k = startKeeper(t, strings.TrimSuffix(at, "0")+strconv.Itoa(port), path, cert, DefaultLimits())
			if k.had != 1 || k.err != nil {
				t.Fatalf("resumed %d, %v; want 1", k.had, k.err)
			}
			if n := next(t, c); string(n.Token) != "tok" {
				t.Errorf("who observes got %v", n)
			}
			if from := conn.all(); len(from) != 1 || from[0] != netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 2}), uint16(port)) {
				t.Errorf("answers came from %v", from)
			}
		})
	}
}

// answerers is a socket that notes who has sent to it.
type answerers struct {
	*net.UDPConn
	mu   sync.Mutex
	from []netip.AddrPort
}

// ReadFrom implements net.PacketConn.
func (a *answerers) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := a.ReadFromUDPAddrPort(b)
	if err != nil {
		return n, nil, err
	}
	from = plainAddr(from)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Contains(a.from, from) {
		a.from = append(a.from, from)
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

func (a *answerers) all() []netip.AddrPort {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.from)
}

// What cannot be used is removed, and phones shake hands: a file that is
// damaged anywhere, cut, of another server's or of another format; what was
// silent for too long, or is too much, is left out.
func TestResumeRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sessions")
	cert := certificate(t, wire.MAC{})
	k := startKeeper(t, "127.0.0.1:0", path, cert, DefaultLimits())
	for range 3 {
		c := shakeHands(t, &immortal{socket(t, "127.0.0.1")}, k.Server)
		asks(t, c, 1)
		c.Close()
	}
	k.stop()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	idle := DefaultLimits()
	idle.Idle = time.Nanosecond
	few := DefaultLimits()
	few.Sessions = 2
	try := func(name string, text []byte, cert tls.Certificate, l Limits, want int, fails bool) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Listen(t.Context(), "127.0.0.1:0", cert, &counting{}, l, noCount{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		n, err := s.Resume(path)
		if n != want || (err != nil) != fails {
			t.Errorf("%s: resumed %d, %v; want %d, an error: %v", name, n, err, want, fails)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the file is still there: %v", name, err)
		}
		s.port.conn.Close()
	}
	try("as it was", good, cert, DefaultLimits(), 3, false)
	try("another server's key", good, certificate(t, wire.MAC{}), DefaultLimits(), 0, true)
	try("silent for too long", good, cert, idle, 0, false)
	try("too many", good, cert, few, 2, false)
	try("another format", append([]byte("flexphone sessions 9\n"), good[len(keptMagic):]...), cert, DefaultLimits(), 0, true)
	for n := 0; n < len(good); n += 97 {
		try("cut", good[:n], cert, DefaultLimits(), map[bool]int{true: 3, false: 0}[n >= len(good)-20], true)
		bad := bytes.Clone(good)
		bad[n] ^= 0x40
		try("damaged", bad, cert, DefaultLimits(), map[bool]int{true: 3, false: 0}[n >= len(good)-20], true)
	}
}

// A disk that takes no sessions ends them, and their phones are told.
func TestNotKept(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	s, err := Listen(t.Context(), "127.0.0.1:0", certificate(t, wire.MAC{}), &counting{}, DefaultLimits(), noCount{}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resume(filepath.Join(dir, "gone", "sessions")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	c := shakeHands(t, socket(t, "127.0.0.1"), s)
	defer c.Close()
	asks(t, c, 1)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve() = %v", err)
	}
	if err := ends(c); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the session ended with %v", err)
	}
	if !bytes.Contains(log.Bytes(), []byte("sessions end")) {
		t.Errorf("logged %q", log.String())
	}
}

// FuzzResume: no file does harm.
func FuzzResume(f *testing.F) {
	key := make([]byte, 32)
	var good bytes.Buffer
	if err := sealed(key, &good, func(put func([]byte) error) error { return put([]byte("a session")) }); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = unseal(key, bytes.NewReader(data), func(chunk []byte) error { return nil })
		var out bytes.Buffer
		var got []byte
		if err := sealed(key, &out, func(put func([]byte) error) error { return put(data) }); err != nil {
			t.Fatal(err)
		}
		if err := unseal(key, &out, func(chunk []byte) error { got = append(got, chunk...); return nil }); len(data) <= keptChunk && (err != nil || !bytes.Equal(got, data)) {
			t.Fatalf("sealed %x, and read %x, %v", data, got, err)
		}
	})
}

// BenchmarkResume is how long a start takes for each session that was kept.
func BenchmarkResume(b *testing.B) {
	secret, key := secretOf(b)
	limits := LimitsFor(64 << 30)
	path := filepath.Join(b.TempDir(), "sessions")
	from, err := Listen(b.Context(), "127.0.0.1:0", key, &counting{}, limits, noCount{}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer from.port.conn.Close()
	from.keep = path
	all := make([]*session, 0, b.N)
	for i := range b.N {
		x := &session{server: from, id: connectionID{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i), 1}, secret: *secret, heard: time.Now()}
		x.first = netip.MustParseAddrPort("192.0.2.1:4096")
		x.path = pathTo(place{peer: x.first}, 50)
		x.begin(&from.endpoint, Peer{Key: wire.Fingerprint{byte(i >> 16), byte(i >> 8), byte(i)}}, x)
		all = append(all, x)
	}
	b.ResetTimer()
	if err := from.keepAll(all); err != nil {
		b.Fatal(err)
	}
	to, err := Listen(b.Context(), "127.0.0.1:0", key, &counting{}, limits, noCount{}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer to.port.conn.Close()
	if n, err := to.Resume(path); err != nil || n != b.N {
		b.Fatalf("resumed %d of %d, %v", n, b.N, err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
}

// secretOf returns a session's secret and a server's certificate.
func secretOf(b *testing.B) (*record.Session, tls.Certificate) {
	b.Helper()
	cert := certificate(b, wire.MAC{})
	s, err := Listen(b.Context(), "127.0.0.1:0", cert, &counting{}, DefaultLimits(), noCount{}, nil)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	defer func() { cancel(); <-done }()
	c := shakeHands(b, &immortal{socket(b, "127.0.0.1")}, s)
	defer c.Close()
	asks(b, c, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	secret := s.all.front.secret
	return &secret, cert
}
