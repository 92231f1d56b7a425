package sip

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	gosip "github.com/emiago/sipgo/sip"

	"flexphone/internal/sipcheck"
	"github.com/pion/sdp/v3"
)

// fuzzSource is where a message comes from. It is IPv4 as fuzzMedia is; we have an
// IPv6 address as well.
var fuzzSource = origin{netip.MustParseAddr("192.0.2.77"), func(to netip.AddrPort) (netip.Addr, error) {
	if to.Addr().Is4() {
		return fuzzMedia.Addr, nil
	}
	return fuzzMedia6, nil
}}

var fuzzMedia6 = netip.MustParseAddr("2001:db8::1")

var fuzzMedia = LocalMedia{Addr: netip.MustParseAddr("192.0.2.1"), Port: 4000, Codecs: []Codec{
	{Name: "opus", PayloadType: 111, ClockRate: 48000, Channels: 2},
	{Name: "PCMA", PayloadType: 8, ClockRate: 8000},
	{Name: eventName, PayloadType: 101, ClockRate: 8000, Params: "0-15"},
}}

// FuzzSDP: whatever is offered, what we answer can be read back, says what we
// believe was agreed, and refuses every other stream in its place.
func FuzzSDP(f *testing.F) {
	for _, s := range descriptions {
		f.Add([]byte(s))
	}
	for _, s := range oddities {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, offer []byte) {
		s := newSession()
		_, _ = readAnswer(offer, fuzzSource, fuzzMedia) // as an answer it need only not panic
		answer, m, err := s.answer(offer, fuzzSource, fuzzMedia)
		if err != nil {
			return
		}
		if !m.Remote.IsValid() || m.Remote.Port() == 0 || m.Codec.ClockRate == 0 || len(m.Receive) == 0 || m.PacketTime < 0 || m.PacketTime > longestPacket {
			t.Fatalf("agreed on %+v", m)
		}
		fits(t, offer, answer, m)
		_, again, err := s.answer(offer, fuzzSource, fuzzMedia)
		if err != nil || !again.Equal(m) {
			t.Fatalf("the same offer again: %+v, %v, want %+v", again, err, m)
		}
		own, lm, err := s.offer(fuzzMedia) // has the lines that the offer had
		if err != nil {
			t.Fatal(err)
		}
		fits(t, offer, own, Media{Send: true, Recv: true, Receive: lm.Codecs})
	})
}

// fits wants ours to have the m= lines of offer, one of which is fuzzMedia's
// and says m, and the others refused.
func fits(t *testing.T, offer, ours []byte, m Media) {
	t.Helper()
	d, err := readDescription(offer)
	if err != nil {
		t.Fatal(err)
	}
	said, err := readDescription(ours)
	if err != nil {
		t.Fatalf("cannot read our own description: %v\n%s", err, ours)
	}
	own := said.audios(origin{})
	if len(own) != 1 || len(said.streams) != len(d.streams) {
		t.Fatalf("%d of %d m= lines are taken, of %d offered:\n%s", len(own), len(said.streams), len(d.streams), ours)
	}
	for i, s := range said.streams {
		offered := d.streams[i].name
		if i == own[0].index {
			s.name.Formats, offered.Formats = nil, nil
			offered.Media = strings.ToLower(offered.Media)
			s.name.Port, offered.Port = sdp.RangedPort{}, sdp.RangedPort{}
		}
		offered.Port = sdp.RangedPort{}
		if got, want := s.name.String(), offered.String(); got != want {
			t.Fatalf("m= line %d: %q, want %q", i, got, want)
		}
	}
	if a := own[0]; a.addr != fuzzMedia.Addr && (a.addr != fuzzMedia6 || m.Remote.Addr().Is4()) || a.port != fuzzMedia.Port || a.send != m.Send || a.recv != m.Recv {
		t.Fatalf("description %+v does not say %+v", a, m)
	}
	if !slices.EqualFunc(own[0].codecs, m.Receive, func(a, b Codec) bool { return same(a, b) && a.PayloadType == b.PayloadType }) {
		t.Fatalf("description names %+v, want %+v", own[0].codecs, m.Receive)
	}
	if !bytes.HasPrefix(ours, []byte("v=0\r\no=")) || !bytes.HasSuffix(ours, []byte("\r\n")) {
		t.Fatalf("not a description:\n%s", ours)
	}
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
		if reasonOf(res.StatusCode) == "" {
			t.Fatal("no reason")
		}
		_, _ = readAnswer(descriptionIn(res), fuzzSource, fuzzMedia)
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
	a, err := NewAgent(Config{User: "user", Codecs: fuzzMedia.Codecs, SIPPort: 5060, AnyPort: true, Listen: netip.MustParseAddr("127.0.0.1")})
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
