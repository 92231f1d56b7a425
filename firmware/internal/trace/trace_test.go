package trace

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/audio"
	signalling "flexphone/firmware/internal/sip"
	"flexphone/internal/ownkey"
	"flexphone/registry-client/wire"
)

// What nobody is to read in a log.
const (
	knownDigest   = "6629fae49393a05397450978507c4ef1"
	knownKey      = "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR"
	knownToken    = "one-time-word-of-the-operator"
	knownPassword = "correct-horse"
)

var known = []string{knownDigest, knownKey, knownToken, knownPassword}

// book is a log that several write to.
type book struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// expect checks that the log tells words, and nothing that is known to be secret.
func (b *book) expect(t *testing.T, words ...string) {
	t.Helper()
	text := b.String()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("the log does not tell %q:\n%s", w, text)
		}
	}
	for _, secret := range known {
		if strings.Contains(text, secret) {
			t.Errorf("the log tells the secret %q:\n%s", secret, text)
		}
	}
}

// newBook returns a log of everything, and a trace of all into it.
func newBook() (*book, Trace, *slog.Logger) {
	b := &book{}
	log := slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return b, New(Names(), log), log
}

// secretInvite is an INVITE with everything in it that is secret, for user.
func secretInvite(user, transport, from string) string {
	body := strings.Join([]string{"v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "k=clear:" + knownKey, "t=0 0",
		"m=audio 4000 RTP/SAVP 0", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + knownKey, "A=Crypto:2 AES_CM_128_HMAC_SHA1_32 inline:" + knownKey,
		"a=ice-ufrag:F7gI", "a=ice-pwd:" + knownKey, "a=key-mgmt:mikey " + knownKey, "a=rtpmap:0 PCMU/8000", ""}, "\r\n")
	return strings.Join([]string{
		"INVITE sip:" + user + ":" + knownPassword + "@127.0.0.1 SIP/2.0",
		"Via: SIP/2.0/" + transport + " " + from + ";branch=z9hG4bKsecret;rport",
		"Max-Forwards: 70", "From: <sip:bob:" + knownPassword + "@127.0.0.1>;tag=1", "To: <sip:alice@127.0.0.1>", "Call-ID: secret-" + transport, "CSeq: 1 INVITE",
		"Contact: <sip:bob@" + from + ">",
		`AUTHORIZATION : Digest username="bob", realm="x",`, "\tresponse=\"" + knownDigest + `"`,
		`Proxy-Authorization: Digest response="` + knownDigest + `"`,
		"Content-Type: application/sdp", "Content-Length: " + itoa(len(body)), "", body}, "\r\n")
}

// The phone's own agents, traced with every line of their logs, on the wires that
// they have: datagrams, streams and TLS.
func TestNothingSecretOfSIPIsWritten(t *testing.T) {
	log, trace, logger := newBook()
	agent := func() (*signalling.Agent, [32]byte) {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := ownkey.Certificate(key, x509.Certificate{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		a, err := signalling.NewAgent(signalling.Config{
			Identity: cert, User: "alice", Listen: netip.MustParseAddr("127.0.0.1"), SIPPort: 1, SIPSPort: 1, AnyPort: true,
			Trace: trace.SIP(), Log: logger,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		return a, sha256.Sum256(cert.Leaf.RawSubjectPublicKeyInfo)
	}
	called, pin := agent()
	for _, transport := range []string{"UDP", "TCP"} {
		c, err := net.Dial(strings.ToLower(transport), called.SIPAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		text := secretInvite("alice", transport, c.LocalAddr().String())
		half := len(text) / 2
		if transport == "UDP" {
			half = 0
		}
		for _, part := range []string{text[:half], text[half:]} {
			if len(part) > 0 {
				if _, err := c.Write([]byte(part)); err != nil {
					t.Fatal(err)
				}
			}
		}
		got, err := called.Incoming(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := got.Reject(486); err != nil {
			t.Fatal(err)
		}
		for b := make([]byte, 65536); ; { // until it has been refused
			n, err := c.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(b[:n]), "SIP/2.0 486") {
				break
			}
		}
	}
	calling, _ := agent()
	call, err := calling.Invite(t.Context(), signalling.Target{User: "alice", Addr: called.SIPSAddr(), Pin: pin}, secretMedia{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := called.Incoming(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Reject(603); err != nil {
		t.Fatal(err)
	}
	for {
		e, err := call.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == signalling.Ended {
			break
		}
	}
	log.expect(t, "way=received", "way=sent", "INVITE sip:alice:***@127.0.0.1", "AUTHORIZATION: ***", "Proxy-Authorization: ***",
		"a=crypto:***", "k=***", "a=ice-ufrag:F7gI", "SIP/2.0/TLS", "SIP/2.0 486", "SIP/2.0 603")
}

// secretMedia is described with a key.
type secretMedia struct{ signalling.LocalMedia }

// Offer implements sip.LocalMedia.
func (secretMedia) Offer() ([]byte, error) {
	return []byte("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 0\r\na=crypto:1 X inline:" + knownKey + "\r\n"), nil
}

// duplex is an association whose other end says one thing.
type duplex struct {
	net.Conn
	says []byte
}

// Read implements net.Conn.
func (d duplex) Read(b []byte) (int, error) { return copy(b, d.says), nil }

// Write implements net.Conn.
func (d duplex) Write(b []byte) (int, error) { return len(b), nil }

// RemoteAddr implements net.Conn.
func (d duplex) RemoteAddr() net.Addr { return &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5684} }

func TestNothingSecretOfCoAPIsWritten(t *testing.T) {
	log, trace, _ := newBook()
	body, err := wire.EncodeRegistration(registrationWith(knownToken))
	if err != nil {
		t.Fatal(err)
	}
	message := registerMessage(t, body)
	c := trace.CoAP()(duplex{says: message})
	if _, err := c.Write(message); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 2048)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("no message: " + knownToken)); err != nil {
		t.Fatal(err)
	}
	log.expect(t, "way=sent", "way=received", "POST", "path=/rd", "14: ***", "5: 18", "h'c0000207'", "192.0.2.1:5684", "no message, ")
}

// still is a path on which one packet comes.
type still struct{ packet []byte }

// Receive implements audio.Path.
func (s still) Receive(take func(audio.Datagram)) error {
	take(audio.Datagram{Protocol: audio.RTP, Bytes: s.packet})
	return nil
}

// Send implements audio.Path.
func (still) Send(audio.Protocol, []byte) error { return nil }

// Close implements audio.Path.
func (still) Close() error { return nil }

// Of sound there is the header, and what passes is what came.
func TestNothingThatIsSaidIsWritten(t *testing.T) {
	log, trace, _ := newBook()
	packet := append([]byte{0x80, 0x80 | 101, 0, 9, 0, 0, 0, 160, 1, 2, 3, 4}, knownKey...)
	p := trace.RTP(still{packet})
	if err := p.Receive(func(d audio.Datagram) {
		if !bytes.Equal(d.Bytes, packet) || d.Protocol != audio.RTP {
			t.Errorf("the trace has changed %v", d)
		}
	}); err != nil {
		t.Fatal(err)
	}
	for what, b := range map[audio.Protocol][]byte{audio.RTP: packet, audio.RTCP: {0x80, 200, 0, 6}} {
		if err := p.Send(what, b); err != nil {
			t.Fatal(err)
		}
	}
	log.expect(t, "type=101 sequence=9 timestamp=160 ssrc=01020304 marker=true payload=40", "rtcp type=200")
	if text := log.String(); strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(knownKey))) {
		t.Errorf("sound in the log: %s", text)
	}
}

// Where nothing is traced nothing is called: the parts are given nil, or their own
// path.
func TestWhatIsNotTracedCostsNothing(t *testing.T) {
	for _, off := range []Trace{{}, New([]string{"sip"}, slog.New(slog.DiscardHandler))} {
		if off.DHCP() != nil || off.CoAP() != nil {
			t.Error("what is not traced is asked for")
		}
		own := &still{}
		if p := off.RTP(own); p != audio.Path(own) {
			t.Errorf("a path that is not traced is %T", p)
		}
	}
	if (Trace{}).SIP() != nil {
		t.Error("SIP is traced without having been asked for")
	}
}

// registrationWith is what a phone announces with this token.
func registrationWith(token string) wire.Registration {
	return wire.Registration{
		MAC: wire.MAC{2, 0, 0x5e, 0, 0x53, 1}, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.7")}, Ports: wire.Ports{SIPS: 5061},
		Sequence: 18, Lifetime: wire.MinLifetime, Token: token,
	}
}

// registerMessage is a registration as it is sent.
func registerMessage(t *testing.T, body []byte) []byte {
	t.Helper()
	m := message.Message{Type: message.Confirmable, Code: codes.POST, MessageID: 7, Token: message.Token("12345678"), Payload: body}
	var err error
	if m.Options, _, err = m.Options.SetPath(make([]byte, 64), "/rd"); err != nil {
		t.Fatal(err)
	}
	out, err := wire.EncodeMessage(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
