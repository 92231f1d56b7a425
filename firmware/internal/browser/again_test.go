//go:build !nobrowser

package browser

import (
	"crypto/sha256"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"flexphone/audio"
	"flexphone/firmware/internal/sip"
	"flexphone/registry-client/wire"
)

// A page that has lost its way to the phone in a call, whoever has called, finds it where it is
// now: sound and words go on. What is of no call is refused.
func TestAnotherWay(t *testing.T) {
	for name, begin := range map[string]func(*testing.T, *Line) (*page, *Call){
		"the page calls":  func(t *testing.T, l *Line) (*page, *Call) { return called(t, l, "Ada") },
		"the phone calls": calls,
	} {
		t.Run(name, func(t *testing.T) {
			var at atomic.Value
			at.Store(netip.MustParseAddr("127.0.0.1"))
			l := newLineAt(t, func() []netip.Addr { return []netip.Addr{at.Load().(netip.Addr)} })
			p, c := begin(t, l)
			got := make(chan string, 16)
			go func() {
				_ = c.session.path.Receive(func(d audio.Datagram) { got <- string(d.Bytes[12:]) })
			}()
			n := byte(0)
			hears := func(what string) {
				t.Helper()
				n++
				if err := p.path.Send(audio.RTP, append([]byte{0x80, 111, 0, n, 0, 0, 0, n, 's', 'o', 'u', 'r'}, what...)); err != nil {
					t.Fatal(err)
				}
				select {
				case heard := <-got:
					if heard != what {
						t.Errorf("the phone hears %q; want %q", heard, what)
					}
				case <-time.After(patience):
					t.Fatalf("the phone does not hear %q", what)
				}
			}
			hears("before")

			at.Store(netip.MustParseAddr("127.0.0.2"))
			for i := range 3 { // it moves on and on
				o := wire.BrowserOffer{Description: p.offers(t, &webrtc.OfferOptions{ICERestart: true}), Nonce: wire.Nonce{8, byte(i)}, Of: c.nonce}
				a := ask(t, l, o)
				if a.Refusal != "" || !signedAs(wire.SignedAgain, sha256.Sum256(own(t, 1).Leaf.RawSubjectPublicKeyInfo), o, a) {
					t.Fatalf("the answer (%q) is not believed", a.Refusal)
				}
				if strings.Contains(a.Description, " 127.0.0.1 ") || !strings.Contains(a.Description, " 127.0.0.2 ") {
					t.Errorf("the phone is at %s", a.Description)
				}
				p.takes(t, a.Description)
				connected(t, p.pc)
				hears("after")
				if err := c.session.say(wordHold); err != nil {
					t.Fatal(err)
				}
				p.hear(t, wordHold)
			}
			again := wire.BrowserOffer{Description: p.pc.LocalDescription().SDP, Of: c.nonce}
			other := again
			other.Of[31]++
			if a := ask(t, l, other); a.Refusal != sip.ReasonHangup {
				t.Errorf("another call: %+v", a)
			}
			odd := again
			odd.Description = "hello"
			if a := ask(t, l, odd); a.Refusal == "" {
				t.Error("no description is answered")
			}
			hears("still")
			c.end(sip.ReasonHangup)
			<-c.session.path.gone
			if a := ask(t, l, again); a.Refusal != sip.ReasonHangup {
				t.Errorf("a call that is over: %+v", a)
			}
			for end := time.Now().Add(patience); remembered(l) > 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d calls are remembered that are over", remembered(l))
				}
			}
		})
	}
}

func remembered(l *Line) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.going)
}

func connected(t *testing.T, pc *webrtc.PeerConnection) {
	t.Helper()
	is := make(chan webrtc.PeerConnectionState, 16)
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) { is <- s })
	for state := pc.ConnectionState(); state != webrtc.PeerConnectionStateConnected; state = <-is {
	}
	pc.OnConnectionStateChange(nil)
}
