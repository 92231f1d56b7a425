//go:build !nobrowser

package browser

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"

	"flexphone/internal/ownkey"
	"flexphone/registry-client/wire"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

func own(t testing.TB, seed byte) tls.Certificate {
	t.Helper()
	key := ed25519.NewKeyFromSeed(append(make([]byte, 31), seed))
	c, err := ownkey.Certificate(key, x509.Certificate{Subject: pkix.Name{CommonName: "a phone"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newLine is a phone's line on the loopback.
func newLine(t testing.TB) *Line {
	return newLineAt(t, func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("127.0.0.1")} })
}

func newLineAt(t testing.TB, addrs func() []netip.Addr) *Line {
	c := own(t, 1)
	return New(Config{
		Own:   func() (tls.Certificate, bool) { return c, true },
		Addrs: addrs,
		Log:   slog.New(slog.DiscardHandler),
	})
}

// A page is what stands in for a browser's.
type page struct {
	pc    *webrtc.PeerConnection
	path  *path
	dc    *webrtc.DataChannel
	words chan string
	open  chan struct{}
}

func newPage(t *testing.T, codecs ...webrtc.RTPCodecParameters) (p *page, offer string) {
	t.Helper()
	var media webrtc.MediaEngine
	for _, c := range codecs {
		if err := media.RegisterCodec(c, webrtc.RTPCodecTypeAudio); err != nil {
			t.Fatal(err)
		}
	}
	var setting webrtc.SettingEngine
	setting.SetIncludeLoopbackCandidate(true)
	setting.LoggerFactory = quiet{slog.New(slog.DiscardHandler)}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(&media), webrtc.WithSettingEngine(setting), webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	p = &page{pc: pc, path: newPath(pc), words: make(chan string, 16), open: make(chan struct{})}
	if p.path.sender, err = pc.AddTrack(p.path); err != nil {
		t.Fatal(err)
	}
	pc.OnTrack(p.path.heard)
	negotiated, id := true, uint16(channelID)
	if p.dc, err = pc.CreateDataChannel("call", &webrtc.DataChannelInit{Negotiated: &negotiated, ID: &id}); err != nil {
		t.Fatal(err)
	}
	p.dc.OnMessage(func(m webrtc.DataChannelMessage) { p.words <- string(m.Data) })
	p.dc.OnOpen(func() { close(p.open) })
	return p, p.offers(t, nil)
}

// offers returns an offer with all its candidates.
func (p *page) offers(t *testing.T, how *webrtc.OfferOptions) string {
	t.Helper()
	made, err := p.pc.CreateOffer(how)
	if err != nil {
		t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(made); err != nil {
		t.Fatal(err)
	}
	<-gathered
	return p.pc.LocalDescription().SDP
}

// hear waits for a word of the phone.
func (p *page) hear(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-p.words:
		if got != want {
			t.Fatalf("the phone says %q; want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("the phone does not say %q", want)
	}
}

func (p *page) takes(t *testing.T, answer string) {
	t.Helper()
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		t.Fatal(err)
	}
}

// ask gives an offer to a line, as the storing server does.
func ask(t *testing.T, l *Line, o wire.BrowserOffer) wire.BrowserAnswer {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	go l.Take(context.WithoutCancel(t.Context()), b)
	if err := wire.WriteBrowserOffer(a, o); err != nil {
		t.Fatal(err)
	}
	answer, err := wire.ReadBrowserAnswer(a)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// believed is what a page checks of an answer.
func believed(key wire.Fingerprint, o wire.BrowserOffer, a wire.BrowserAnswer) bool {
	return signedAs(wire.SignedAnswer, key, o, a)
}

func signedAs(signed func(n wire.Nonce, offer, answer string) []byte, key wire.Fingerprint, o wire.BrowserOffer, a wire.BrowserAnswer) bool {
	public, err := x509.ParsePKIXPublicKey(a.Key)
	if err != nil || sha256.Sum256(a.Key) != key {
		return false
	}
	return ed25519.Verify(public.(ed25519.PublicKey), signed(o.Nonce, o.Description, a.Description), a.Signature)
}

// called is a page that has called a phone, and the call there.
func called(t *testing.T, l *Line, name string) (*page, *Call) {
	t.Helper()
	p, offer := newPage(t, opus, digits)
	o := wire.BrowserOffer{Name: name, Description: offer, Nonce: wire.Nonce{7}}
	a := ask(t, l, o)
	if a.Refusal != "" || !believed(sha256.Sum256(own(t, 1).Leaf.RawSubjectPublicKeyInfo), o, a) {
		t.Fatalf("the answer (%q) is not believed", a.Refusal)
	}
	p.takes(t, a.Description)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := l.Incoming(ctx)
	if err != nil {
		t.Fatal(err)
	}
	<-p.open
	t.Cleanup(func() {
		c.end("hangup")
		<-c.session.path.gone
	})
	return p, c
}
