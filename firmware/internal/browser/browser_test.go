//go:build !nobrowser

package browser

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"flexphone/audio"
	rtpkg "flexphone/audio/rtp"
	"flexphone/firmware/internal/sip"
	"flexphone/registry-client/wire"
)

// Sound comes as it was sent but for its source, and reports of it by the source that
// the engine knows.
func TestPath(t *testing.T) {
	p, c := called(t, newLine(t), "Ada")
	type datagram struct {
		what audio.Protocol
		b    []byte
	}
	got := make(chan datagram, 64)
	ended := make(chan error, 1)
	go func() {
		ended <- c.session.path.Receive(func(d audio.Datagram) { got <- datagram{d.Protocol, bytes.Clone(d.Bytes)} })
	}()
	sound := func(seq byte, size int) []byte {
		return append([]byte{0x80, 111, 0, seq, 0, 0, 0, seq, 's', 'o', 'u', 'r'}, bytes.Repeat([]byte{seq}, size)...)
	}
	for seq, size := range []int{1, 160, rtpkg.MaxPayload} {
		sent := sound(byte(seq), size)
		if err := p.path.Send(audio.RTP, sent); err != nil {
			t.Fatal(err)
		}
		d := <-got
		copy(d.b[8:12], "sour") // its name here
		if d.what != audio.RTP || !bytes.Equal(d.b, sent) {
			t.Fatalf("sent %d bytes, got %d", len(sent), len(d.b))
		}
	}
	if err := c.session.path.Send(audio.RTP, sound(1, 20)); err != nil { // it has a source now
		t.Fatal(err)
	}
	report, err := rtcp.Marshal([]rtcp.Packet{
		&rtcp.ReceiverReport{SSRC: 5, Reports: []rtcp.ReceptionReport{{SSRC: c.session.path.named.Load(), FractionLost: 9}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.path.Send(audio.RTCP, report); err != nil {
		t.Fatal(err)
	}
	packets, err := rtcp.Unmarshal((<-got).b)
	if err != nil {
		t.Fatal(err)
	}
	if r := packets[0].(*rtcp.ReceiverReport).Reports[0]; r.SSRC != binary.BigEndian.Uint32([]byte("sour")) || r.FractionLost != 9 {
		t.Errorf("the report is of %x", r.SSRC)
	}
	if err := c.session.path.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := c.session.path.Send(audio.RTP, sound(1, 1)); err == nil {
		t.Error("a path that is closed sends")
	}
}

// One that hears nothing ends as well.
func TestSilentPath(t *testing.T) {
	_, c := called(t, newLine(t), "Ada")
	ended := make(chan error, 1)
	go func() { ended <- c.session.path.Receive(func(audio.Datagram) {}) }()
	if err := c.session.path.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// next reads an event of a call.
func next(t *testing.T, c *Call) sip.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e, err := c.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestCall(t *testing.T) {
	p, c := called(t, newLine(t), "Ada")
	if peer := c.Peer(); peer.DisplayName != "Ada" || !peer.Browser || peer.Secure {
		t.Errorf("the peer is %+v", peer)
	}
	if err := c.Ring(); err != nil {
		t.Fatal(err)
	}
	p.hear(t, wordRinging)
	if err := c.Answer(Local{}); err != nil {
		t.Fatal(err)
	}
	p.hear(t, wordAnswered)
	e := next(t, c)
	terms, ok := e.Media.Terms.(Terms)
	if e.Kind != sip.Established || !ok || !e.Media.Private || !e.Media.Send || !e.Media.Recv {
		t.Fatalf("answered: %+v", e)
	}
	if s := terms.Session; s.Codec != (audio.Codec{Name: "opus", PayloadType: 111, ClockRate: 48000}) || s.DTMF != 110 || s.DTMFClock != 48000 || len(s.Receive) != 2 {
		t.Errorf("it is carried as %+v", s)
	}
	if err := c.Update(t.Context(), Local{Hold: true}); err != nil {
		t.Fatal(err)
	}
	p.hear(t, wordHold)
	if e := next(t, c); e.Kind != sip.Changed || e.Media.Send || e.Media.Recv {
		t.Errorf("on hold: %+v", e)
	}
	if err := c.Update(t.Context(), Local{}); err != nil {
		t.Fatal(err)
	}
	p.hear(t, wordRetrieve)
	next(t, c)
	if err := c.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.HangupFor(t.Context(), sip.ReasonHangup); err != nil {
		t.Fatal(err)
	}
	p.hear(t, "ended hangup")
	if e := next(t, c); e.Kind != sip.Ended || e.Reason != sip.ReasonHangup {
		t.Errorf("at the end: %+v", e)
	}
	if err := c.Ring(); err == nil {
		t.Error("a call that is over rings")
	}
}

func TestEnds(t *testing.T) {
	l := newLine(t)
	p, c := called(t, l, "Ada")
	if err := c.Reject(486); err != nil {
		t.Fatal(err)
	}
	p.hear(t, "ended busy")

	p, c = called(t, l, "Ada")
	if err := p.dc.SendText("what is that?"); err != nil {
		t.Fatal(err)
	}
	if err := p.dc.SendText(wordHangup); err != nil {
		t.Fatal(err)
	}
	if e := next(t, c); e.Kind != sip.Ended || e.Reason != sip.ReasonCancelled {
		t.Errorf("the page hangs up while it rings: %+v", e)
	}

	p, c = called(t, l, "Ada")
	if err := c.Answer(Local{}); err != nil {
		t.Fatal(err)
	}
	next(t, c)
	p.pc.Close() // a page that is closed
	if e := next(t, c); e.Kind != sip.Ended {
		t.Errorf("the page is gone: %+v", e)
	}
}

func TestRefusals(t *testing.T) {
	l := newLine(t)
	pcma := webrtc.RTPCodecParameters{PayloadType: 8, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMA, ClockRate: 8000}}
	_, deaf := newPage(t, pcma)
	for name, offer := range map[string]string{
		"no description":   "hello",
		"no sound":         "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n",
		"another codec":    deaf,
		"half of an offer": deaf[:len(deaf)/2],
	} {
		if a := ask(t, l, wire.BrowserOffer{Name: "Ada", Description: offer}); a.Refusal == "" {
			t.Errorf("%s: answered", name)
		}
	}
	_, offer := newPage(t, opus, digits)
	for i := range most + 1 { // pages that never take the answer
		a := ask(t, l, wire.BrowserOffer{Name: "Ada", Description: offer})
		if busy := a.Refusal == sip.ReasonBusy; busy != (i == most) {
			t.Fatalf("call %d: refused for %q", i+1, a.Refusal)
		}
	}
}

// Whoever passes the answer on can change nothing in it.
func TestNobodyBetween(t *testing.T) {
	l := newLine(t)
	_, offer := newPage(t, opus, digits)
	o := wire.BrowserOffer{Name: "Ada", Description: offer, Nonce: wire.Nonce{7}}
	key := wire.Fingerprint(sha256.Sum256(own(t, 1).Leaf.RawSubjectPublicKeyInfo))
	a := ask(t, l, o)
	if !believed(key, o, a) {
		t.Fatal("the answer is not believed")
	}
	another := strings.NewReplacer("a=fingerprint:sha-256 ", "a=fingerprint:sha-256 00:")
	changed, forged := o, a
	changed.Description = another.Replace(offer)
	if changed.Description == offer || believed(key, changed, a) {
		t.Error("an answer to another offer is believed")
	}
	forged.Description = another.Replace(a.Description)
	if forged.Description == a.Description || believed(key, o, forged) {
		t.Error("another answer is believed")
	}
	replayed := o
	replayed.Nonce[0]++
	if believed(key, replayed, a) {
		t.Error("an answer of before is believed")
	}
	if theirs := own(t, 2); believed(sha256.Sum256(theirs.Leaf.RawSubjectPublicKeyInfo), o, a) {
		t.Error("the answer of another phone is believed")
	}
}

func TestCertificate(t *testing.T) {
	l, phone := newLine(t), own(t, 1)
	c, err := l.certificate(phone)
	if err != nil {
		t.Fatal(err)
	}
	if key, ok := c.Leaf.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		t.Errorf("its key is %T; want P-256", c.Leaf.PublicKey)
	}
	if err := phone.Leaf.CheckSignature(c.Leaf.SignatureAlgorithm, c.Leaf.RawTBSCertificate, c.Leaf.Signature); err != nil {
		t.Errorf("it is not signed by the phone's key: %v", err)
	}
	again, err := l.certificate(phone)
	if err != nil || !again.Leaf.Equal(c.Leaf) {
		t.Error("the same phone has another certificate")
	}
	if other, err := l.certificate(own(t, 2)); err != nil || other.Leaf.Equal(c.Leaf) {
		t.Error("another key has the same certificate")
	}
}

// plainOffer is of a page without candidates.
const plainOffer = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n" +
	"a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\na=setup:actpass\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"

// FuzzOffer: whatever is offered is answered, or refused with a reason; at first, and in a call.
func FuzzOffer(f *testing.F) {
	f.Add(plainOffer)
	f.Add(strings.Replace(plainOffer, "abcd", "efgh", 1))
	l := newLine(f)
	f.Fuzz(func(t *testing.T, offer string) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		for _, first := range []string{offer, plainOffer} {
			c, a, err := l.answer(ctx, wire.BrowserOffer{Name: "Ada", Description: first, Nonce: wire.Nonce{1}})
			if err != nil {
				continue
			}
			if err := a.Validate(); err != nil {
				t.Error(err)
			}
			_, _ = c.its().again(ctx, l.cfg.Addrs(), nil, offer)
			c.end(sip.ReasonHangup)
			<-c.session.path.gone
			for len(l.slots) > 0 {
				time.Sleep(time.Millisecond)
			}
		}
	})
}
