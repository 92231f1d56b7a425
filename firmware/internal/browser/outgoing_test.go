//go:build !nobrowser

package browser

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"net"
	"testing"

	"flexphone/firmware/internal/sip"
	"flexphone/registry-client/wire"
)

// calls is a phone that calls a page, which has made an offer and believes the answer.
func calls(t *testing.T, l *Line) (*page, *Call) {
	t.Helper()
	p, offer := newPage(t, opus, digits)
	ours, theirs := net.Pipe()
	c := l.Call(t.Context(), func(context.Context) (net.Conn, error) { return ours, nil })
	t.Cleanup(func() {
		c.end("hangup")
		<-c.its().path.gone
	})
	o := wire.BrowserOffer{Name: "Ada", Description: offer, Nonce: wire.Nonce{7}}
	if err := wire.WriteBrowserOffer(theirs, o); err != nil {
		t.Fatal(err)
	}
	a, err := wire.ReadBrowserAnswer(theirs)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(a.Key)
	if err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(a.Key) != sha256.Sum256(own(t, 1).Leaf.RawSubjectPublicKeyInfo) ||
		!ed25519.Verify(public.(ed25519.PublicKey), wire.SignedCall(o.Nonce, offer, a.Description), a.Signature) {
		t.Error("the answer is not believed")
	}
	if believed(sha256.Sum256(a.Key), o, a) {
		t.Error("it is believed to be the answer to a call of the page")
	}
	p.takes(t, a.Description)
	<-p.open
	<-c.its().opened
	return p, c
}

func (p *page) say(t *testing.T, word string) {
	t.Helper()
	if err := p.dc.SendText(word); err != nil {
		t.Fatal(err)
	}
}

// A page that is called rings, is answered, is put on hold, and either end hangs up.
func TestCallToBrowser(t *testing.T) {
	l := newLine(t)
	p, c := calls(t, l)
	p.say(t, "what is that?")
	p.say(t, wordRinging)
	p.say(t, wordRinging)
	if e := next(t, c); e.Kind != sip.Progress {
		t.Fatalf("it rings: %+v", e)
	}
	p.say(t, wordAnswered)
	e := next(t, c)
	if terms, ok := e.Media.Terms.(Terms); e.Kind != sip.Established || !ok || terms.Session.Codec.Name != "opus" || !e.Media.Private || !e.Media.Send || !e.Media.Recv {
		t.Fatalf("it is answered: %+v", e)
	}
	if peer := c.Peer(); !peer.Browser || !peer.Called || !peer.Addr.IsValid() {
		t.Errorf("the peer is %+v", peer)
	}
	if err := c.Update(t.Context(), Local{Hold: true}); err != nil {
		t.Fatal(err)
	}
	p.hear(t, wordHold)
	if e := next(t, c); e.Kind != sip.Changed || e.Media.Send {
		t.Errorf("on hold: %+v", e)
	}
	if err := c.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	p.say(t, wordHangup)
	if e := next(t, c); e.Kind != sip.Ended || e.Reason != sip.ReasonHangup {
		t.Errorf("the page hangs up: %+v", e)
	}

	p, c = calls(t, l)
	if err := c.HangupFor(t.Context(), "no answer"); err != nil {
		t.Fatal(err)
	}
	p.hear(t, "ended cancelled")

	p, c = calls(t, l)
	p.say(t, wordAnswered) // at once
	if e := next(t, c); e.Kind != sip.Progress {
		t.Errorf("first it rings: %+v", e)
	}
	next(t, c)
	if err := c.HangupFor(t.Context(), "hangup"); err != nil {
		t.Fatal(err)
	}
	p.hear(t, "ended hangup")
}

// Why a page takes no call is told in the words of signalling, and nothing else is.
func TestBrowserDoesNotTakeIt(t *testing.T) {
	l := newLine(t)
	for said, want := range map[string]string{
		wordHangup: sip.ReasonDeclined, "ended declined": sip.ReasonDeclined, "ended busy": sip.ReasonBusy,
		"ended no answer": sip.ReasonNoAnswer, "ended <b>": sip.ReasonFailed,
	} {
		p, c := calls(t, l)
		p.say(t, said)
		if e := next(t, c); e.Kind != sip.Ended || e.Reason != want {
			t.Errorf("%q: %+v; want %s", said, e, want)
		}
	}
	for said, want := range map[string]string{"busy": sip.ReasonBusy, "unreachable": sip.ReasonUnreachable, "what?": sip.ReasonFailed} {
		ours, theirs := net.Pipe()
		c := l.Call(t.Context(), func(context.Context) (net.Conn, error) { return ours, nil })
		if err := wire.WriteBrowserOffer(theirs, wire.BrowserOffer{Refusal: said}); err != nil {
			t.Fatal(err)
		}
		if e := next(t, c); e.Kind != sip.Ended || e.Reason != want {
			t.Errorf("refused for %q: %+v; want %s", said, e, want)
		}
	}
	c := l.Call(t.Context(), func(context.Context) (net.Conn, error) { return nil, errors.New("nobody is there") })
	if e := next(t, c); e.Kind != sip.Ended || e.Reason != sip.ReasonUnreachable {
		t.Errorf("nobody is there: %+v", e)
	}
}

// Who hangs up before the page has said anything is heard of there: the link ends.
func TestGivenUpBeforeTheOffer(t *testing.T) {
	ours, theirs := net.Pipe()
	c := newLine(t).Call(t.Context(), func(context.Context) (net.Conn, error) { return ours, nil })
	if err := c.HangupFor(t.Context(), "hangup"); err != nil {
		t.Fatal(err)
	}
	if _, err := wire.ReadBrowserAnswer(theirs); err == nil {
		t.Error("it is answered")
	}
	if e := next(t, c); e.Kind != sip.Ended || e.Reason != sip.ReasonCancelled {
		t.Errorf("at the end: %+v", e)
	}
}
