package sip_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net/netip"
	"sync"
	"testing"
	"time"

	"flexphone/firmware/internal/media"
	"flexphone/firmware/internal/sip"
)

var codecs = []media.Codec{
	{Name: "opus", PayloadType: 111, ClockRate: 48000, Channels: 2, Params: "useinbandfec=1"},
	{Name: "PCMU", PayloadType: 0, ClockRate: 8000},
	{Name: "PCMA", PayloadType: 8, ClockRate: 8000},
	{Name: "telephone-event", PayloadType: 101, ClockRate: 8000, Params: "0-15"},
	{Name: "telephone-event", PayloadType: 102, ClockRate: 48000, Params: "0-15"},
}

var loopback = netip.MustParseAddr("127.0.0.1")

const (
	userA, userB, userC = "0200000000aa", "0200000000bb", "0200000000cc"
)

// sound is an end of a call at port, in plain RTP.
func sound(port uint16, change ...func(*media.Local)) sip.LocalMedia {
	return with(media.NewCall(), port, change...)
}

func with(plain *media.Call, port uint16, change ...func(*media.Local)) sip.LocalMedia {
	lm := media.Local{Addr: loopback, Port: port, Codecs: codecs}
	for _, f := range change {
		f(&lm)
	}
	return plain.With(lm)
}

// plains are the media of calls, by their *sip.Call.
var plains sync.Map

// of is our end of c at port, from now on.
func of(c *sip.Call, port uint16, change ...func(*media.Local)) sip.LocalMedia {
	plain, _ := plains.LoadOrStore(c, media.NewCall())
	return with(plain.(*media.Call), port, change...)
}

// identity is a device certificate as phones make them.
func identity(t testing.TB, user string) (tls.Certificate, [32]byte) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert.Subject.CommonName = user
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// A log is a test's output until the test ends; sipgo may speak after that.
type log struct {
	mu sync.Mutex
	to io.Writer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(b)
}

func journal(t testing.TB) io.Writer {
	l := &log{to: t.Output()}
	t.Cleanup(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.to = io.Discard
	})
	return l
}

// A phone is an agent that runs until the test ends.
type phone struct {
	*sip.Agent
	t    testing.TB
	user string
	key  [32]byte
	stop func()
}

func newPhone(t testing.TB, user string, change ...func(*sip.Config)) *phone {
	t.Helper()
	id, key := identity(t, user)
	cfg := sip.Config{
		Identity: id, User: user, Answerable: media.Answerable(codecs, false), Listen: loopback,
		SIPPort: 5060, SIPSPort: 5061, AnyPort: true,
		Owns:        func(u string) bool { return u == user },
		DisplayName: func() string { return "101" },
		Log:         slog.New(slog.NewTextHandler(journal(t), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&cfg)
	}
	a, err := sip.NewAgent(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	p := &phone{Agent: a, t: t, user: user, key: key}
	stopped := false
	p.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: run: %v", user, err)
		}
	}
	t.Cleanup(p.stop)
	return p
}

func (p *phone) at() sip.Target { return sip.Target{User: p.user, Addr: p.SIPAddr()} }

func (p *phone) pinned() sip.Target {
	return sip.Target{User: p.user, Addr: p.SIPSAddr(), Pin: p.key}
}

// patience is how long a test waits for what should come at once.
func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (p *phone) dials(to sip.Target) *sip.Call {
	p.t.Helper()
	plain := media.NewCall()
	c, err := p.Invite(patience(p.t), to, with(plain, 4000))
	if err != nil {
		p.t.Fatalf("%s dials %s: %v", p.user, to.User, err)
	}
	plains.Store(c, plain)
	return c
}

func (p *phone) isCalled() *sip.Call {
	p.t.Helper()
	c, err := p.Incoming(patience(p.t))
	if err != nil {
		p.t.Fatalf("%s waits to be called: %v", p.user, err)
	}
	return c
}

// isNotCalled wants nothing to ring. Whoever asks has seen the refusal, after which
// nothing comes any more.
func (p *phone) isNotCalled() {
	p.t.Helper()
	if n := sip.Waiting(p.Agent); n > 0 {
		p.t.Errorf("%s rings for %d calls", p.user, n)
	}
}

// expect waits for the next event and compares its kind and reason. Early is
// passed over by who expects something else.
func expect(t testing.TB, c *sip.Call, kind sip.EventKind, reason string) sip.Event {
	t.Helper()
	e, err := c.Next(patience(t))
	if kind != sip.Early && e.Kind == sip.Early {
		e, err = c.Next(patience(t))
	}
	if err != nil {
		t.Fatalf("wait for event %d %q: %v", kind, reason, err)
	}
	if e.Kind != kind || e.Reason != reason {
		t.Fatalf("event %+v, want kind %d, reason %q", e, kind, reason)
	}
	return e
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// connect brings a call up from a to b.
func connect(t testing.TB, a, b *phone, to sip.Target) (*sip.Call, *sip.Call) {
	t.Helper()
	ca := a.dials(to)
	cb := b.isCalled()
	must(t, cb.Ring())
	if e := expect(t, ca, sip.Progress, ""); e.Code != 180 {
		t.Errorf("progress %d, want 180", e.Code)
	}
	must(t, cb.Answer(of(cb, 5000)))
	ea, eb := expect(t, ca, sip.Established, ""), expect(t, cb, sip.Established, "")
	for _, e := range []sip.Event{ea, eb} {
		if e.Media.Codec != "opus" || !e.Media.Send || !e.Media.Recv || e.Media.Terms.(media.RTP).DTMFRate != 48000 {
			t.Errorf("media %+v, want opus both ways", e.Media)
		}
	}
	if got := ea.Media.Remote; got != netip.AddrPortFrom(loopback, 5000) {
		t.Errorf("A sends to %v", got)
	}
	if got := eb.Media.Remote; got != netip.AddrPortFrom(loopback, 4000) {
		t.Errorf("B sends to %v", got)
	}
	return ca, cb
}

// ways are the two ways of calling a phone.
var ways = map[string]func(*phone) sip.Target{"plain": (*phone).at, "pinned": (*phone).pinned}
