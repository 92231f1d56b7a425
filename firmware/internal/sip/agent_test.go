package sip_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"flexphone/firmware/internal/sip"
)

var codecs = []sip.Codec{
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

func media(port uint16) sip.LocalMedia {
	return sip.LocalMedia{Addr: loopback, Port: port, Codecs: codecs}
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
		Identity: id, User: user, Codecs: codecs, Listen: loopback,
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
	c, err := p.Invite(patience(p.t), to, media(4000))
	if err != nil {
		p.t.Fatalf("%s dials %s: %v", p.user, to.User, err)
	}
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

func (p *phone) isNotCalled() {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if c, err := p.Incoming(ctx); err == nil {
		p.t.Errorf("%s rings for %v", p.user, c.Peer())
	}
}

// expect waits for the next event and compares its kind and reason.
func expect(t testing.TB, c *sip.Call, kind sip.EventKind, reason string) sip.Event {
	t.Helper()
	e, err := c.Next(patience(t))
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
	must(t, cb.Answer(media(5000)))
	ea, eb := expect(t, ca, sip.Established, ""), expect(t, cb, sip.Established, "")
	for _, e := range []sip.Event{ea, eb} {
		if e.Media.Codec.Name != "opus" || !e.Media.Send || !e.Media.Recv || e.Media.DTMFRate != 48000 {
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

func TestCallAndHangUp(t *testing.T) {
	for name, way := range ways {
		for _, first := range []string{"caller", "callee", "both"} {
			t.Run(name+"/"+first, func(t *testing.T) {
				a, b := newPhone(t, userA), newPhone(t, userB)
				ca, cb := connect(t, a, b, way(b))
				if p := cb.Peer(); p.User != userA || p.DisplayName != "101" || p.Secure != (name == "pinned") {
					t.Errorf("B sees %+v", p)
				}
				if p := cb.Peer(); p.Secure && p.Fingerprint != a.key {
					t.Error("B sees another fingerprint")
				}
				ends := make(chan error, 2)
				hang := func(c *sip.Call) { ends <- c.Hangup(patience(t)) }
				switch first {
				case "caller":
					hang(ca)
				case "callee":
					hang(cb)
				case "both":
					go hang(ca)
					hang(cb)
					must(t, <-ends)
				}
				must(t, <-ends)
				expect(t, ca, sip.Ended, sip.ReasonHangup)
				expect(t, cb, sip.Ended, sip.ReasonHangup)
				if _, err := ca.Next(patience(t)); !errors.Is(err, sip.ErrEnded) {
					t.Errorf("after the end: %v", err)
				}
			})
		}
	}
}

func TestRefusals(t *testing.T) {
	for code, reason := range map[int]string{
		486: sip.ReasonBusy, 600: sip.ReasonBusy, 480: sip.ReasonNoAnswer, 603: sip.ReasonDeclined,
		404: sip.ReasonWrongPhone, 488: sip.ReasonNoCodec, 604: sip.ReasonUnknown, 500: sip.ReasonFailed,
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			for name, way := range ways {
				a, b := newPhone(t, userA), newPhone(t, userB)
				ca := a.dials(way(b))
				cb := b.isCalled()
				must(t, cb.Reject(code))
				if e := expect(t, ca, sip.Ended, reason); e.Code != code {
					t.Errorf("%s: code %d, want %d", name, e.Code, code)
				}
				expect(t, cb, sip.Ended, reason)
			}
		})
	}
}

func TestForeignUserIsNotRung(t *testing.T) {
	for name, way := range ways {
		a, b := newPhone(t, userA), newPhone(t, userB)
		to := way(b)
		to.User = userC
		if e := expect(t, a.dials(to), sip.Ended, sip.ReasonWrongPhone); e.Code != 404 {
			t.Errorf("%s: code %d", name, e.Code)
		}
		b.isNotCalled()
	}
}

func TestWrongPin(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	to := b.pinned()
	to.Pin[3] ^= 1
	expect(t, a.dials(to), sip.Ended, sip.ReasonWrongPhone)
	b.isNotCalled()
}

func TestCancel(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			a, b := newPhone(t, userA), newPhone(t, userB)
			ca := a.dials(way(b))
			cb := b.isCalled()
			must(t, cb.Ring())
			expect(t, ca, sip.Progress, "")
			must(t, ca.Hangup(patience(t)))
			expect(t, ca, sip.Ended, sip.ReasonHangup)
			expect(t, cb, sip.Ended, sip.ReasonCancelled)
			if err := cb.Answer(media(5000)); !errors.Is(err, sip.ErrEnded) {
				t.Errorf("answered a cancelled call: %v", err)
			}
		})
	}
}

// TestCancelCrossesAnswer: whichever comes first, both ends end the call.
func TestCancelCrossesAnswer(t *testing.T) {
	for range 20 {
		a, b := newPhone(t, userA), newPhone(t, userB)
		ca := a.dials(b.at())
		cb := b.isCalled()
		must(t, cb.Ring())
		expect(t, ca, sip.Progress, "")
		hung := make(chan error, 1)
		go func() { hung <- ca.Hangup(patience(t)) }()
		_ = cb.Answer(media(5000)) // fails if the CANCEL was there before
		must(t, <-hung)
		for {
			e, err := cb.Next(patience(t))
			must(t, err)
			if e.Kind == sip.Ended {
				break
			}
		}
		a.stop()
		b.stop()
	}
}

func TestUnreachable(t *testing.T) {
	a := newPhone(t, userA)
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	nobody := netip.MustParseAddrPort(free.LocalAddr().String())
	must(t, free.Close())
	expect(t, a.dials(sip.Target{User: userB, Addr: nobody}), sip.Ended, sip.ReasonUnreachable)
	expect(t, a.dials(sip.Target{User: userB, Addr: nobody, Pin: [32]byte{1}}), sip.Ended, sip.ReasonUnreachable)
}

func TestUpdate(t *testing.T) {
	for name, way := range ways {
		for _, who := range []string{"caller", "callee"} {
			t.Run(name+"/"+who, func(t *testing.T) {
				a, b := newPhone(t, userA), newPhone(t, userB)
				one, other := connect(t, a, b, way(b))
				if who == "callee" {
					one, other = other, one
				}
				must(t, one.Update(patience(t), media(6000)))
				expect(t, one, sip.Changed, "")
				if e := expect(t, other, sip.Changed, ""); e.Media.Remote.Port() != 6000 {
					t.Errorf("peer sends to %v, want port 6000", e.Media.Remote)
				}
				hold := media(6000)
				hold.Hold = true
				must(t, one.Update(patience(t), hold))
				if e := expect(t, one, sip.Changed, ""); e.Media.Recv {
					t.Errorf("holds, but listens: %+v", e.Media)
				}
				if e := expect(t, other, sip.Changed, ""); e.Media.Send {
					t.Errorf("is held, but sends: %+v", e.Media)
				}
				must(t, other.Hangup(patience(t)))
				expect(t, one, sip.Ended, sip.ReasonHangup)
			})
		}
	}
}

func TestStopEndsCalls(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	ca, cb := connect(t, a, b, b.pinned())
	a.stop()
	expect(t, ca, sip.Ended, sip.ReasonStopped)
	expect(t, cb, sip.Ended, sip.ReasonHangup)
	if _, err := a.Invite(patience(t), b.at(), media(4000)); !errors.Is(err, sip.ErrStopped) {
		t.Errorf("a stopped agent calls: %v", err)
	}
}

func TestPendingCallsAreBounded(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	var rung int
	var calls []*sip.Call
	for range 12 {
		calls = append(calls, a.dials(b.at()))
	}
	for range 8 {
		must(t, b.isCalled().Ring())
		rung++
	}
	busy := 0
	for _, c := range calls {
		e, err := c.Next(patience(t))
		must(t, err)
		if e.Kind == sip.Ended && e.Reason == sip.ReasonBusy {
			busy++
		}
	}
	if busy != 4 {
		t.Errorf("%d of 12 calls were refused while %d rang, want 4", busy, rung)
	}
}
