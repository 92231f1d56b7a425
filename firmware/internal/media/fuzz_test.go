package media

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pion/sdp/v3"

	"flexphone/firmware/internal/sip"
)

// fuzzSource is where a message comes from. It is IPv4 as fuzzLocal is; we have an
// IPv6 address as well.
var fuzzSource = origin{host: netip.MustParseAddr("192.0.2.77"), source: func(to netip.Addr) netip.Addr {
	if to.Is4() {
		return fuzzLocal.Addr
	}
	return fuzzLocal6
}}

var fuzzLocal6 = netip.MustParseAddr("2001:db8::1")

var fuzzLocal = Local{Addr: netip.MustParseAddr("192.0.2.1"), Port: 4000, Codecs: []Codec{
	{Name: "opus", PayloadType: 111, ClockRate: 48000, Channels: 2},
	{Name: "PCMA", PayloadType: 8, ClockRate: 8000},
	{Name: eventName, PayloadType: 101, ClockRate: 8000, Params: "0-15"},
}}

// terms are the plain RTP of m.
func terms(m sip.Media) RTP {
	r, _ := m.Terms.(RTP)
	return r
}

// readAnswer reads an answer to plain lines, as many as there may be.
func readAnswer(answer []byte, from origin, lm Local) (sip.Media, error) {
	s := newSession()
	return s.take(answer, from, lm, slices.Repeat([]way{inPlain}, maxStreamLines))
}

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
		_, _ = readAnswer(offer, fuzzSource, fuzzLocal) // as an answer it need only not panic
		answer, m, err := s.answer(offer, fuzzSource, fuzzLocal)
		if err != nil {
			return
		}
		if !m.Remote.IsValid() || m.Remote.Port() == 0 || terms(m).Codec.ClockRate == 0 || len(terms(m).Receive) == 0 || m.PacketTime < 0 || m.PacketTime > longestPacket {
			t.Fatalf("agreed on %+v", m)
		}
		fits(t, offer, answer, m)
		_, again, err := s.answer(offer, fuzzSource, fuzzLocal)
		if err != nil || !again.Equal(m) {
			t.Fatalf("the same offer again: %+v, %v, want %+v", again, err, m)
		}
		own, lm, _, err := s.offer(fuzzLocal) // has the lines that the offer had
		if err != nil {
			t.Fatal(err)
		}
		fits(t, offer, own, sip.Media{Send: true, Recv: true, Terms: RTP{Receive: lm.Codecs}})
	})
}

// fits wants ours to have the m= lines of offer, one of which is fuzzLocal's
// and says m, and the others refused.
func fits(t *testing.T, offer, ours []byte, m sip.Media) {
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
	if a := own[0]; a.addr != fuzzLocal.Addr && (a.addr != fuzzLocal6 || m.Remote.Addr().Is4()) || a.port != fuzzLocal.Port || a.send != m.Send || a.recv != m.Recv {
		t.Fatalf("description %+v does not say %+v", a, m)
	}
	if !slices.EqualFunc(own[0].codecs, terms(m).Receive, func(a, b Codec) bool { return same(a, b) && a.PayloadType == b.PayloadType }) {
		t.Fatalf("description names %+v, want %+v", own[0].codecs, terms(m).Receive)
	}
	if !bytes.HasPrefix(ours, []byte("v=0\r\no=")) || !bytes.HasSuffix(ours, []byte("\r\n")) {
		t.Fatalf("not a description:\n%s", ours)
	}
}
