//go:build !nobrowser

package browser

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"flexphone/firmware/internal/sip"
	"flexphone/registry-client/wire"
)

const (
	// most is how many calls of browsers there may be, rung for or not.
	most = 4
	// offerWait bounds how long a link may take to bring its offer, and answerWait
	// what takes the answer.
	offerWait  = 5 * time.Second
	answerWait = 10 * time.Second
	// openWait bounds how long the page may take from the answer to the data channel:
	// ICE tries each pair for some seconds.
	openWait = 15 * time.Second
	// linkWait bounds how long a link to a browser may take, and calledWait how long its
	// page then has to make an offer.
	linkWait   = 5 * time.Second
	calledWait = 15 * time.Second
)

// Config is what a Line needs.
type Config struct {
	Own   func() (tls.Certificate, bool) // what the phone proves itself with, once it has it
	Addrs func() []netip.Addr            // of the phone, preferred first
	STUN  func() []netip.AddrPort        // who sees as what a NAT translates these; nil, or none: there is no NAT
	// Missed is called when a page does not answer in a call, which may be since a NAT has forgotten
	// the phone: then the page's next offer needs the way to the storing server. nil: nothing is done.
	Missed   func(ctx context.Context)
	Log      *slog.Logger
	Panicked func(what string, cause any, stack []byte)
}

// A Line takes calls from browsers, and makes calls to them.
type Line struct {
	cfg   Config
	calls chan *Call
	slots chan struct{} // holds one for each call

	mu      sync.Mutex
	dtls    tls.Certificate
	dtlsFor string               // the certificate that has signed it
	going   map[wire.Nonce]*Call // the calls that have a session, by the nonce of their first offer
}

// New returns a line that no offer has reached.
func New(cfg Config) *Line {
	return &Line{cfg: cfg, calls: make(chan *Call, most), slots: make(chan struct{}, most), going: map[wire.Nonce]*Call{}}
}

// Incoming waits for the next call.
func (l *Line) Incoming(ctx context.Context) (*Call, error) {
	for {
		select {
		case c := <-l.calls:
			if c.gone() {
				continue
			}
			return c, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Take answers what comes over a link, which it closes, and offers the call to
// Incoming once the page and the phone speak directly. It returns before the call
// ends.
func (l *Line) Take(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer l.contain(func() {})
	_ = conn.SetDeadline(time.Now().Add(offerWait))
	offer, err := wire.ReadBrowserOffer(conn)
	if err == nil && offer.Refusal != "" {
		err = errors.New("a refusal")
	}
	if err != nil {
		l.cfg.Log.Info("browser's offer not read", "err", err)
		return
	}
	if offer.Of != (wire.Nonce{}) {
		l.goOn(ctx, conn, offer)
		return
	}
	c, answer, err := l.answer(ctx, offer)
	if err != nil {
		l.cfg.Log.Info("browser's call not taken", "name", offer.Name, "err", err)
		answer = wire.BrowserAnswer{Refusal: refusalOf(err)}
	}
	_ = conn.SetDeadline(time.Now().Add(offerWait))
	if err := wire.WriteBrowserAnswer(conn, answer); err != nil {
		l.cfg.Log.Info("browser not answered", "err", err)
		if c != nil {
			c.end(sip.ReasonUnreachable)
		}
		return
	}
	if c != nil && l.opens(ctx, c) {
		l.calls <- c // there is room for as many as there are slots
	}
}

// goOn answers the offer of a page that has lost its way to the phone in a call, whichever of the
// two has made it.
func (l *Line) goOn(ctx context.Context, conn net.Conn, o wire.BrowserOffer) {
	l.mu.Lock()
	c := l.going[o.Of]
	l.mu.Unlock()
	var s *session // nil: there is no such call, or it has only begun
	if c != nil && !c.gone() {
		s = c.its()
	}
	answer, err := wire.BrowserAnswer{}, error(sip.ErrEnded)
	if s != nil {
		ctx, cancel := context.WithTimeout(ctx, answerWait)
		defer cancel()
		var description string
		if description, err = s.again(ctx, l.cfg.Addrs(), l.servers(), o.Description); err == nil {
			answer, err = l.sign(o, description, wire.SignedAgain)
		}
	}
	if err != nil {
		l.cfg.Log.Info("browser's call finds no other way", "err", err)
		if answer.Refusal = refusalOf(err); errors.Is(err, sip.ErrEnded) {
			answer.Refusal = sip.ReasonHangup
		}
	}
	_ = conn.SetDeadline(time.Now().Add(offerWait))
	if err := wire.WriteBrowserAnswer(conn, answer); err != nil {
		l.cfg.Log.Info("browser not answered", "err", err)
	}
}

// opens waits until page and phone speak directly; without that the call ends.
func (l *Line) opens(ctx context.Context, c *Call) bool {
	opening, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	select {
	case <-c.its().opened:
		return true
	case <-c.done:
	case <-opening.Done():
		if !c.gone() {
			l.cfg.Log.Info("browser not reached", "name", c.name)
		}
		c.end(sip.ReasonUnreachable)
	}
	return false
}

// contain is deferred where what others send is read. then is called after a panic.
func (l *Line) contain(then func()) {
	if cause := recover(); cause != nil {
		l.cfg.Log.Error("panic", "in", "browser's offer", "cause", cause)
		if l.cfg.Panicked != nil {
			l.cfg.Panicked("browser's offer", cause, debug.Stack())
		}
		then()
	}
}

// Call calls the browser that dial opens a link to, and returns at once: what becomes of
// it, Next says. The end of ctx ends nothing.
func (l *Line) Call(ctx context.Context, dial func(context.Context) (net.Conn, error)) *Call {
	c := newCall("")
	c.free, c.missed, c.outgoing = func() { l.forget(c) }, l.missed(ctx), true
	ctx, c.over = context.WithCancel(context.WithoutCancel(ctx))
	go func() { // until the page speaks, or the call ends: each wait below is bounded
		defer l.contain(func() { c.end(sip.ReasonFailed) })
		if reason := l.place(ctx, c, dial); reason != "" {
			c.end(reason)
			return
		}
		l.opens(ctx, c)
	}()
	return c
}

// place has the browser's offer answered, and returns why there is no call; empty: there
// is.
func (l *Line) place(ctx context.Context, c *Call, dial func(context.Context) (net.Conn, error)) (reason string) {
	dialing, cancel := context.WithTimeout(ctx, linkWait)
	defer cancel()
	conn, err := dial(dialing)
	if err != nil {
		l.cfg.Log.Info("browser not called", "err", err)
		return sip.ReasonUnreachable
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // who calls has given up: the page hears of it
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(calledWait))
	offer, err := wire.ReadBrowserOffer(conn)
	switch {
	case err != nil:
		l.cfg.Log.Info("browser's offer not read", "err", err)
		return sip.ReasonUnreachable
	case offer.Refusal != "":
		return refusedFor(offer.Refusal)
	}
	s, answer, err := l.describe(ctx, offer, wire.SignedCall)
	if err != nil {
		l.cfg.Log.Info("browser's offer not taken", "name", offer.Name, "err", err)
		answer = wire.BrowserAnswer{Refusal: refusalOf(err)}
	} else if !l.begins(c, s, offer.Nonce) {
		return sip.ReasonCancelled
	}
	_ = conn.SetDeadline(time.Now().Add(offerWait))
	if err := wire.WriteBrowserAnswer(conn, answer); err != nil {
		l.cfg.Log.Info("browser not answered", "err", err)
		return sip.ReasonUnreachable
	}
	return answer.Refusal
}

// refusedFor is a reason that a page has given, as far as it is one.
func refusedFor(said string) string {
	switch said {
	case sip.ReasonBusy, sip.ReasonDeclined, sip.ReasonNoAnswer, sip.ReasonHangup, sip.ReasonNoCodec, sip.ReasonUnreachable:
		return said
	}
	return sip.ReasonFailed
}

var (
	errBusy  = errors.New("browser: answer: too many calls of browsers")
	errNoKey = errors.New("browser: answer: the phone has no key yet")
)

// refusalOf is what a page is told: a reason of package sip.
func refusalOf(err error) string {
	switch {
	case errors.Is(err, errBusy):
		return sip.ReasonBusy
	case errors.Is(err, sip.ErrNoMedia), errors.Is(err, sip.ErrDescription):
		return sip.ReasonNoCodec
	}
	return sip.ReasonFailed
}

// answer makes a call of an offer, and the signed answer to it.
func (l *Line) answer(ctx context.Context, o wire.BrowserOffer) (*Call, wire.BrowserAnswer, error) {
	select {
	case l.slots <- struct{}{}:
	default:
		return nil, wire.BrowserAnswer{}, errBusy
	}
	s, a, err := l.describe(ctx, o, wire.SignedAnswer)
	if err != nil {
		<-l.slots
		return nil, wire.BrowserAnswer{}, err
	}
	c := newCall(o.Name)
	c.missed = l.missed(ctx)
	c.free = func() {
		l.forget(c)
		<-l.slots
	}
	l.begins(c, s, o.Nonce)
	return c, a, nil
}

// begins gives a call its session, unless it is over.
func (l *Line) begins(c *Call, s *session, of wire.Nonce) bool {
	l.mu.Lock()
	c.nonce = of
	l.going[of] = c
	l.mu.Unlock()
	if c.gets(s) {
		return true
	}
	l.forget(c)
	return false
}

// missed is what a call whose page does not answer calls. It returns at once.
func (l *Line) missed(ctx context.Context) func() {
	ctx = context.WithoutCancel(ctx)
	return func() {
		if l.cfg.Missed != nil {
			go l.cfg.Missed(ctx) // it is bounded
		}
	}
}

func (l *Line) forget(c *Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.going[c.nonce] == c {
		delete(l.going, c.nonce)
	}
}

// servers are who sees as what a NAT translates the phone's addresses.
func (l *Line) servers() []netip.AddrPort {
	if l.cfg.STUN == nil {
		return nil
	}
	return l.cfg.STUN()
}

// describe makes a session of an offer, and the answer to it, with what signs says signed.
func (l *Line) describe(ctx context.Context, o wire.BrowserOffer, signs func(n wire.Nonce, offer, answer string) []byte) (*session, wire.BrowserAnswer, error) {
	own, ok := l.cfg.Own()
	if !ok {
		return nil, wire.BrowserAnswer{}, errNoKey
	}
	certificate, err := l.certificate(own)
	if err != nil {
		return nil, wire.BrowserAnswer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	s, description, err := openSession(ctx, certificate, l.cfg.Addrs(), l.servers(), o.Description, l.cfg.Log)
	if err != nil {
		return nil, wire.BrowserAnswer{}, err
	}
	a, err := l.sign(o, description, signs)
	if err != nil {
		s.close()
		return nil, wire.BrowserAnswer{}, err
	}
	return s, a, nil
}

// sign is the answer to an offer, with what signs says signed.
func (l *Line) sign(o wire.BrowserOffer, description string, signs func(n wire.Nonce, offer, answer string) []byte) (wire.BrowserAnswer, error) {
	own, ok := l.cfg.Own()
	signer, can := own.PrivateKey.(crypto.Signer)
	if !ok || !can {
		return wire.BrowserAnswer{}, errNoKey
	}
	signature, err := signer.Sign(rand.Reader, signs(o.Nonce, o.Description, description), crypto.Hash(0))
	if err != nil {
		return wire.BrowserAnswer{}, fmt.Errorf("browser: sign answer: %w", err)
	}
	return wire.BrowserAnswer{Description: description, Key: own.Leaf.RawSubjectPublicKeyInfo, Signature: signature}, nil
}

// certificate returns the certificate for DTLS, signed by own, and makes it first
// when there is none: its key is of this run of the program.
func (l *Line) certificate(own tls.Certificate) (tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if by := string(own.Leaf.Raw); l.dtlsFor != by {
		made, err := makeCertificate(own)
		if err != nil {
			return tls.Certificate{}, fmt.Errorf("browser: make certificate: %w", err)
		}
		l.dtls, l.dtlsFor = made, by
	}
	return l.dtls, nil
}

func makeCertificate(own tls.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial := make([]byte, 16)
	rand.Read(serial) // never fails
	serial[0] &= 0x7f // RFC 5280, section 4.1.2.2: positive
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: own.Leaf.Subject, URIs: own.Leaf.URIs,
		NotBefore: own.Leaf.NotBefore, NotAfter: own.Leaf.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
	}, own.Leaf, &key.PublicKey, own.PrivateKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
