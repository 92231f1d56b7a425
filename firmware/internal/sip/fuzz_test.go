package sip

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	gosip "github.com/emiago/sipgo/sip"

	"flexphone/internal/sipcheck"
)

// requests are the fuzz targets' corpus, without CRs.
var requests = []string{
	"INVITE sip:user@127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.1:9;rport;branch=z9hG4bKa\nMax-Forwards: 70\nFrom: \"A\" <sip:a@127.0.0.1>;tag=1\nTo: <sip:user@127.0.0.1>\nCall-ID: a@b\nCSeq: 1 INVITE\nContact: <sip:a@127.0.0.1:9;transport=tcp>\nRecord-Route: <sip:127.0.0.1;lr>\nContent-Type: application/sdp\nContent-Length: 0\n\n",
	"INVITE sip:user@[2001:db8::2]:5060 SIP/2.0\nVia: SIP/2.0/TCP [2001:db8::1]:9;branch=z9hG4bKa6\nMax-Forwards: 70\nFrom: <sip:a@[2001:db8::1]>;tag=1\nTo: <sip:user@[2001:db8::2]>\nCall-ID: a6\nCSeq: 1 INVITE\nContact: <sips:a@[2001:db8::1];transport=tls;maddr=192.0.2.1>;expires=60\nRecord-Route: <sip:[::1]>, <sip:p.example.net;lr;x=\"y\">\nContent-Type: application/sdp\nContent-Length: 106\n\nv=0\no=- 1 1 IN IP4 192.0.2.9\ns=-\nc=IN IP4 192.0.2.9\nt=0 0\nm=audio 5000 RTP/AVP 8 0\n",
	"BYE sip:user@127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKb\nFrom: sip:a@127.0.0.1;tag=1\nTo: <sip:user@127.0.0.1>;tag=2\nCall-ID: a@b\nCSeq: 2 BYE\nContent-Length: 0\n\n",
	"OPTIONS sip:user@127.0.0.1 SIP/2.0\nv: SIP/2.0/UDP [::1]:9;branch=z9hG4bKc\nf: sip:a@127.0.0.1;tag=1\nt: tel:+49\ni: x\nCSeq: 2 OPTIONS\nRequire: 100rel, timer\nl: 0\n\n",
	"CANCEL sip:user@127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKa\nFrom: sip:a@127.0.0.1;tag=1\nTo: sip:user@127.0.0.1\nCall-ID: a@b\nCSeq: 1 CANCEL\nContent-Length: 0\n\n",
	"UPDATE sip:user@127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKd\nFrom: sip:a@127.0.0.1;tag=1\nTo: <sip:user@127.0.0.1>;tag=2\nCall-ID: a@b\nCSeq: 3 UPDATE\nContact: *\nContent-Length: 0\n\n",
	"ACK sip:user@127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKe\nFrom: sip:a@127.0.0.1;tag=1\nTo: <sip:user@127.0.0.1>;tag=2\nCall-ID: a@b\nCSeq: 1 ACK\nContent-Length: 0\n\n",
}

// responses are FuzzResponse's corpus, without CRs.
var responses = []string{
	"SIP/2.0 200 OK\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa\nFrom: <sip:a@192.0.2.1>;tag=tag\nTo: <sip:user@192.0.2.2>;tag=2\nCall-ID: id\nCSeq: 1 INVITE\nContact: <sip:user@192.0.2.3:5080;transport=tcp;ob>;+sip.instance=\"<urn:x>\"\nRecord-Route: <sip:192.0.2.4;lr>,<sip:[2001:db8::4]:5070;lr=on>\nContent-Length: 0\n\n",
	"SIP/2.0 183 Session Progress\nv: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa\nf: sip:a@192.0.2.1;tag=tag\nt: \"U, <ser>\" <tel:+491;phone-context=x>;tag=2\ni: id\nCSeq: 1 INVITE\nm: <sips:u%40x:pw@192.0.2.3?Subject=a>\nRecord-Route: <sip:strict.example.net>\nl: 0\n\n",
	"SIP/2.0 302 Moved\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa\nFrom: <sip:a@192.0.2.1>;tag=tag\nTo: <sip:user@192.0.2.2>;tag=\nCall-ID: id\nCSeq: 1 INVITE\nContact: *\nContent-Length: 0\n\n",
}

// screened is what the screen makes of b; nil: nothing.
func screened(b []byte) gosip.Message {
	m, err := sipcheck.Read(b)
	if err != nil || m.Check().Code != 0 {
		return nil
	}
	msg, err := gosip.ParseMessage(m.Tidy())
	if err != nil {
		return nil
	}
	return msg
}

// FuzzRequest: raw bytes through parser, checks and dialog. What is taken for
// an INVITE makes a dialog whose requests are themselves well-formed.
func FuzzRequest(f *testing.F) {
	for _, s := range requests {
		f.Add([]byte(strings.ReplaceAll(s, "\n", "\r\n")))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		msg := screened(b)
		req, ok := msg.(*gosip.Request)
		if !ok {
			return
		}
		r := check(req)
		if !r.taken() {
			if r.code < 400 || r.code > 699 {
				t.Fatalf("refused with %d", r.code)
			}
			_ = response(req, r.code, nil, r.headers...).String()
			return
		}
		if n := shown(req.From().DisplayName); utf8.RuneCountInString(n) > maxShown || strings.ContainsAny(n, "\r\n\x00") {
			t.Fatalf("shows %q", n)
		}
		if req.Method != gosip.INVITE {
			return
		}
		d := dialogOf(req, token())
		if err := d.admit(req); err == nil {
			t.Fatal("the same CSeq was admitted again")
		}
		_, _, _ = hop(d.first())
		says(t, d)
	})
}

// says wants what d builds to be read as what it is, whatever the peer has put
// into it.
func says(t *testing.T, d *dialog) {
	t.Helper()
	p := path{transport: "UDP", local: netip.MustParseAddrPort("192.0.2.1:5060"), dest: "192.0.2.2:5060"}
	bye := d.request(gosip.BYE, p, 0)
	msg, err := gosip.ParseMessage([]byte(bye.String()))
	if err != nil {
		t.Fatalf("our BYE: %v\n%s", err, bye)
	}
	req, ok := msg.(*gosip.Request)
	if !ok || len(req.Headers()) < len(bye.Headers()) || countOf(req, "Via") != 1 {
		t.Fatalf("our BYE is not read as such:\n%s", bye)
	}
	if m, err := sipcheck.Read([]byte(bye.String())); err != nil || m.Check().Code != 0 || !check(req).taken() {
		t.Fatalf("our BYE would be refused because of %q:\n%s", m.Check().What, bye)
	}
	tag, _ := req.From().Params.Get("tag")
	if req.CallID().Value() != d.callID || req.CSeq().SeqNo != d.localSeq || tag != d.localTag {
		t.Fatalf("our BYE is of another dialog:\n%s", bye)
	}
}

// FuzzResponse: raw bytes as the answer to our INVITE. Whatever it says of the
// dialog, our next request in it is well-formed.
func FuzzResponse(f *testing.F) {
	for _, s := range responses {
		f.Add([]byte(strings.ReplaceAll(s, "\n", "\r\n")))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		res, ok := screened(b).(*gosip.Response)
		if !ok {
			return
		}
		target := gosip.Uri{Scheme: "sip", User: "user", Host: "192.0.2.2", Port: 5060}
		d := &dialog{callID: "id", localTag: "tag", local: target, remote: target, target: target, localSeq: 1}
		d.learn(res)
		if ReasonOf(res.StatusCode) == "" {
			t.Fatal("no reason")
		}
		_ = descriptionIn(res)
		_, _, _ = hop(d.first())
		says(t, d)
	})
}

// nowhere is a connection that takes every message.
type nowhere struct{}

func (nowhere) LocalAddr() net.Addr            { return &net.UDPAddr{} }
func (nowhere) WriteMsg(m gosip.Message) error { _ = m.String(); return nil }
func (nowhere) Ref(int) int                    { return 1 }
func (nowhere) TryClose() (int, error)         { return 1, nil }
func (nowhere) Close() error                   { return nil }

// FuzzAgent: raw bytes as packets to a running agent, which has to survive
// them and to take no more calls than it may.
func FuzzAgent(f *testing.F) {
	for _, s := range requests {
		f.Add([]byte(strings.ReplaceAll(s, "\n", "\r\n")))
	}
	a, err := NewAgent(Config{User: "user", SIPPort: 5060, AnyPort: true, Listen: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	f.Cleanup(func() { cancel(); <-done })
	f.Fuzz(func(t *testing.T, b []byte) {
		req, ok := screened(b).(*gosip.Request)
		if !ok {
			return
		}
		if _, tagged := req.To().Params.Get("tag"); !tagged {
			from, _ := req.From().Params.Get("tag")
			req.To().Params.Add("tag", a.firstTag(req.CallID().Value(), from, req.CSeq().SeqNo))
		}
		req.SetTransport("UDP")
		req.SetSource("127.0.0.1:9")
		tx := gosip.NewServerTx("fuzz", req, nowhere{}, a.log)
		if err := tx.Init(); err != nil {
			t.Fatal(err)
		}
		a.handle(req, tx)
		select {
		case c := <-a.incoming:
			_ = c.Reject(486) // it may have ended meanwhile
		default:
		}
		tx.Terminate()
	})
}
