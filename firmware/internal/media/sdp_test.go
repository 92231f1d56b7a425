package media

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"flexphone/firmware/internal/sip"
)

const head = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"

// descriptions are offers as phones make them, and the fuzz targets' corpus.
var descriptions = []string{
	head + "m=audio 5000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:30\r\n",
	head + "m=audio 5000 RTP/AVP 96 8\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 stereo=0\r\na=rtcp:5009 IN IP4 192.0.2.8\r\n",
	head + "m=audio 5000 RTP/AVP 8\r\na=sendonly\r\n",
	head + "a=inactive\r\nm=audio 5000 RTP/AVP 8\r\n",
	head + "m=video 6000 RTP/AVP 31\r\nm=audio 5000 RTP/AVP 8\r\nc=IN IP4 0.0.0.0\r\nm=audio 5002 RTP/AVP 8\r\n",
	head + "m=audio 0 RTP/AVP 8\r\n",
	head + "m=audio 5000 RTP/SAVP 8\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n",
	head + "m=audio 5000 RTP/AVP 3 18\r\n",
	"v=0\r\no=- 1 1 IN IP6 2001:db8::1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\nt=0 0\r\nm=audio 65535 RTP/AVP 8\r\n",
	"v=0\r\no=- 1 1 IN IP4 host\r\ns=-\r\nc=IN IP4 host\r\nt=0 0\r\nm=audio 5000 RTP/AVP 8\r\n",
	"v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nt=0 0\r\nm=audio 5000 RTP/AVP 8\r\n",
	"v=0\r\no=- 1 1 IN IP4 224.1.1.1\r\ns=-\r\nc=IN IP4 224.1.1.1/127\r\nt=0 0\r\nm=audio 5000 RTP/AVP 8\r\n",
	"hello",
}

func TestAnswer(t *testing.T) {
	pcma := Codec{Name: "PCMA", PayloadType: 8, ClockRate: 8000, Channels: 1}
	opus := Codec{Name: "opus", PayloadType: 96, ClockRate: 48000, Channels: 2, Params: "stereo=0"}
	ourOpus, ourPCMA, event := fuzzLocal.Codecs[0], fuzzLocal.Codecs[1], fuzzLocal.Codecs[2]
	ourOpus.PayloadType = 96 // the offer's
	at := netip.MustParseAddrPort
	want := []struct {
		media sip.Media
		err   error
	}{
		{media: sip.Media{Remote: at("192.0.2.9:5000"), Codec: pcma.Name, PacketTime: 30 * time.Millisecond, Send: true, Recv: true,
			Terms: RTP{RemoteRTCP: at("192.0.2.9:5001"), Codec: pcma, Receive: []Codec{ourPCMA, event}, DTMF: 101, DTMFRate: 8000}}},
		{media: sip.Media{Remote: at("192.0.2.9:5000"), Codec: opus.Name, Send: true, Recv: true,
			Terms: RTP{RemoteRTCP: at("192.0.2.8:5009"), Codec: opus, Receive: []Codec{ourOpus}}}},
		{media: sip.Media{Remote: at("192.0.2.9:5000"), Codec: pcma.Name, Recv: true, Silent: true,
			Terms: RTP{RemoteRTCP: at("192.0.2.9:5001"), Codec: pcma, Receive: []Codec{ourPCMA}}}},
		{media: sip.Media{Remote: at("192.0.2.9:5000"), Codec: pcma.Name, Silent: true,
			Terms: RTP{RemoteRTCP: at("192.0.2.9:5001"), Codec: pcma, Receive: []Codec{ourPCMA}}}},
		{media: sip.Media{Remote: at("0.0.0.0:5000"), Codec: pcma.Name, Recv: true, Silent: true,
			Terms: RTP{RemoteRTCP: at("0.0.0.0:5001"), Codec: pcma, Receive: []Codec{ourPCMA}}}},
		{err: sip.ErrNoMedia},
		{err: sip.ErrNoMedia},
		{err: sip.ErrNoMedia},
		{media: sip.Media{Remote: at("[2001:db8::1]:65535"), Codec: pcma.Name, Send: true, Recv: true,
			Terms: RTP{Codec: pcma, Receive: []Codec{ourPCMA}}}},
		{media: sip.Media{Remote: at("192.0.2.77:5000"), Codec: pcma.Name, Send: true, Recv: true,
			Terms: RTP{RemoteRTCP: at("192.0.2.77:5001"), Codec: pcma, Receive: []Codec{ourPCMA}}}},
		{media: sip.Media{Remote: at("192.0.2.77:5000"), Codec: pcma.Name, Send: true, Recv: true,
			Terms: RTP{RemoteRTCP: at("192.0.2.77:5001"), Codec: pcma, Receive: []Codec{ourPCMA}}}},
		{err: sip.ErrNoMedia},
		{err: sip.ErrDescription},
	}
	for i, offer := range descriptions {
		s := newSession()
		answer, m, err := s.answer([]byte(offer), fuzzSource, fuzzLocal)
		if !errors.Is(err, want[i].err) {
			t.Errorf("%q: error %v, want %v", offer, err, want[i].err)
			continue
		}
		if !m.Equal(want[i].media) {
			t.Errorf("%q:\n got %+v\nwant %+v", offer, m, want[i].media)
		}
		if offered, answered := strings.Count(offer, "m="), strings.Count(string(answer), "m="); err == nil && offered != answered {
			t.Errorf("%q: %d m= lines offered, %d answered", offer, offered, answered)
		}
	}
}

// TestReceive: the offerer is ready for each format of its offer under its own
// payload types, whatever the answer names (RFC 3264, 6.1 and 7).
func TestReceive(t *testing.T) {
	opus, pcma, event := fuzzLocal.Codecs[0], fuzzLocal.Codecs[1], fuzzLocal.Codecs[2]
	wrong := opus
	wrong.PayloadType = 97
	wrongEvent := event
	wrongEvent.PayloadType = 100
	for answer, want := range map[string][]Codec{
		"8":       {opus, pcma, event},
		"111 8":   {opus, pcma, event},
		"97":      {opus, pcma, event, wrong},
		"8 100":   {opus, pcma, event, wrongEvent},
		"8 18 97": {opus, pcma, event, wrong},
		"18 8":    {opus, pcma, event},
	} {
		body := head + "m=audio 5000 RTP/AVP " + answer + "\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:97 opus/48000/2\r\na=rtpmap:100 telephone-event/8000\r\n"
		m, err := readAnswer([]byte(body), fuzzSource, fuzzLocal)
		if err != nil {
			t.Errorf("%s: %v", answer, err)
			continue
		}
		if !slices.Equal(terms(m).Receive, want) {
			t.Errorf("answer %s:\n got %+v\nwant %+v", answer, terms(m).Receive, want)
		}
	}
}

// TestComfortNoise: it is agreed for a codec of its clock alone, in our offers and in
// theirs, and a peer that names it may be silent then.
func TestComfortNoise(t *testing.T) {
	ours := fuzzLocal
	ours.Codecs = append([]Codec{{Name: "CN", PayloadType: 13, ClockRate: 8000}, {Name: "G722", PayloadType: 9, ClockRate: 8000}}, ours.Codecs...)
	for formats, want := range map[string]struct {
		codec  string
		noise  uint8
		silent bool
	}{
		"8":       {"PCMA", 0, false},
		"13 8":    {"PCMA", 13, true},
		"8 13":    {"PCMA", 13, true},
		"9 13":    {"G722", 13, true},
		"8 96":    {"PCMA", 96, true},
		"8 98":    {"PCMA", 0, false}, // of 16 kHz
		"97 13":   {"opus", 0, false},
		"97 96":   {"opus", 0, false},
		"13":      {},
		"101 13":  {},
		"8 13 18": {"PCMA", 13, true},
	} {
		body := []byte(head + "m=audio 5000 RTP/AVP " + formats + "\r\na=rtpmap:97 opus/48000/2\r\na=rtpmap:96 cn/8000\r\na=rtpmap:98 CN/16000\r\na=rtpmap:101 telephone-event/8000\r\n")
		for what, hear := range map[string]func(Local) (sip.Media, []byte, error){
			"offered": func(l Local) (sip.Media, []byte, error) {
				s := newSession()
				answer, m, err := s.answer(body, fuzzSource, l)
				return m, answer, err
			},
			"answered": func(l Local) (sip.Media, []byte, error) {
				m, err := readAnswer(body, fuzzSource, l)
				return m, nil, err
			},
		} {
			m, answer, err := hear(ours)
			if want.codec == "" {
				if !errors.Is(err, sip.ErrNoMedia) {
					t.Errorf("%s %s: %v", formats, what, err)
				}
				continue
			}
			if err != nil || m.Codec != want.codec || terms(m).Noise != want.noise || m.Silent != want.silent {
				t.Errorf("%s %s: %+v, %v", formats, what, m, err)
			}
			if named := strings.Contains(string(answer), " CN/8000\r\n"); answer != nil && named != (want.noise != 0) {
				t.Errorf("%s %s: answer\n%s", formats, what, answer)
			}
			if m, _, _ := hear(fuzzLocal); terms(m).Noise != 0 {
				t.Errorf("%s %s: agreed without being ours", formats, what)
			}
		}
	}
}

// TestSilent: silence that was agreed, in all the ways in which phones say so.
func TestSilent(t *testing.T) {
	for lines, want := range map[string]bool{
		"": false, "a=sendrecv": false, "a=sendonly": true, "a=recvonly": true, "a=inactive": true,
		"c=IN IP4 0.0.0.0": true, "a=rtcp:0": true, "a=rtcp: 0 IN IP4 192.0.2.9": true, "a=rtcp:5001": false,
		"a=silenceSupp:on - - - -": true, "a=silenceSupp:off - - - -": false, "a=silenceSupp:ON": true,
		"a=vad": true, "a=vad:off": false, "a=vad:on": true, "b=RS:0\r\nb=RR:0": true, "b=RR:0": true, "b=RS:0": false, "b=RR:800": false,
		"a=fmtp:97 useinbandfec=1; usedtx=1": true, "a=fmtp:97 usedtx=0": false,
	} {
		body := []byte(head + "m=audio 5000 RTP/AVP 8 97\r\n" + lines + "\r\na=rtpmap:97 opus/48000/2\r\n")
		s := newSession()
		_, offered, err := s.answer(body, fuzzSource, fuzzLocal)
		if err != nil || offered.Silent != want {
			t.Errorf("%q offered: silent %v, %v", lines, offered.Silent, err)
		}
		answered, err := readAnswer(body, fuzzSource, fuzzLocal)
		if err != nil || answered.Silent != want {
			t.Errorf("%q answered: silent %v, %v", lines, answered.Silent, err)
		}
	}
	hold := fuzzLocal
	hold.Hold = true
	if m, err := readAnswer([]byte(descriptions[0]), fuzzSource, hold); err != nil || !m.Silent {
		t.Errorf("holding: %+v, %v", m, err)
	}
}

// TestOfferAnswer: both ends of an exchange come to the same conclusion, and
// each sends with the payload types that the other named.
func TestOfferAnswer(t *testing.T) {
	a := fuzzLocal
	b := Local{Addr: netip.MustParseAddr("192.0.2.2"), Port: 5000, Codecs: []Codec{
		{Name: "PCMA", PayloadType: 8, ClockRate: 8000},
		{Name: "OPUS", PayloadType: 97, ClockRate: 48000, Channels: 2},
		{Name: eventName, PayloadType: 99, ClockRate: 8000},
	}}
	sa, sb := newSession(), newSession()
	for _, hold := range []bool{false, true} {
		a.Hold = hold
		offer, _, _, err := sa.offer(a)
		if err != nil {
			t.Fatal(err)
		}
		answer, mb, err := sb.answer(offer, fuzzSource, b)
		if err != nil {
			t.Fatal(err)
		}
		ma, err := readAnswer(answer, fuzzSource, a)
		if err != nil {
			t.Fatal(err)
		}
		if ma.Codec != "PCMA" || mb.Codec != "PCMA" {
			t.Errorf("A talks %s, B talks %s; B prefers PCMA", ma.Codec, mb.Codec)
		}
		if ma.Send != mb.Recv || ma.Recv != mb.Send || ma.Recv == hold || ma.Send == hold {
			t.Errorf("hold %v: A %+v, B %+v", hold, ma, mb)
		}
		if terms(ma).DTMF != 101 || terms(mb).DTMF != 101 || !slices.Contains(terms(mb).Receive, Codec{Name: eventName, PayloadType: 101, ClockRate: 8000}) {
			t.Errorf("digits: A %+v, B %+v", ma, mb)
		}
		if ma.Remote.Port() != 5000 || mb.Remote.Port() != 4000 {
			t.Errorf("A sends to %v, B to %v", ma.Remote, mb.Remote)
		}
	}
}

// TestPlain: an offer, its answer, and what both ends make of them, as signalling
// asks for them; then the other end offers, in the same call and in its own numbers.
func TestPlain(t *testing.T) {
	here := netip.MustParseAddr("127.0.0.1")
	opus, pcma := Codec{Name: "opus", PayloadType: 111, ClockRate: 48000, Channels: 2, Params: "useinbandfec=1"}, Codec{Name: "PCMA", PayloadType: 8, ClockRate: 8000}
	theirs := opus
	theirs.PayloadType, theirs.Params = 96, "maxplaybackrate=16000"
	one := Local{Addr: here, Port: 4000, Codecs: []Codec{opus, pcma}}
	other := Local{Addr: here, Port: 5000, Codecs: []Codec{theirs, pcma}}
	a, b := NewCall(), NewCall()
	agree := func(from, to sip.LocalMedia) (offerer, answerer sip.Media) {
		t.Helper()
		offer, err := from.Offer()
		if err != nil {
			t.Fatal(err)
		}
		if err := Answerable(other.Codecs, false)(offer, here, false); err != nil {
			t.Errorf("an offer that is answered cannot be: %v", err)
		}
		answer, answerer, err := to.Answer(offer, here)
		if err != nil {
			t.Fatal(err)
		}
		if offerer, err = from.Take(answer, here); err != nil {
			t.Fatal(err)
		}
		return offerer, answerer
	}
	check := func(m sip.Media, port, number uint16, params string) {
		t.Helper()
		if c := terms(m).Codec; m.Remote.Port() != port || m.Codec != "opus" || uint16(c.PayloadType) != number || c.Params != params {
			t.Errorf("agreed on %+v; want opus to port %d as %d with %q", m, port, number, params)
		}
	}
	ma, mb := agree(a.With(one), b.With(other))
	check(ma, 5000, 111, theirs.Params) // an answer has the offer's number
	check(mb, 4000, 111, opus.Params)
	other.Port, one.Hold = 5002, true
	mb, ma = agree(b.With(other), a.With(one))
	check(ma, 5002, 111, theirs.Params)
	check(mb, 4000, 111, opus.Params)
	if ma.Recv || ma.Send || mb.Recv || mb.Send || !ma.Silent || !mb.Silent {
		t.Errorf("held: %+v and %+v", ma, mb)
	}
	if err := Answerable([]Codec{pcma}, false)([]byte(head+"m=audio 5000 RTP/AVP 0\r\n"), here, false); !errors.Is(err, sip.ErrNoMedia) {
		t.Errorf("PCMU where nothing but PCMA is had: %v", err)
	}
}

// Reports share the port of plain sound where both ends say so (RFC 5761, section
// 5.1.1), and metrics are told to whom wants them, whatever the other end wants (RFC
// 3611, section 5).
func TestReportsOfPlainSound(t *testing.T) {
	for name, tt := range map[string]struct {
		lines   string
		port    uint16
		shared  bool
		metrics bool
	}{
		"neither":           {"", 5001, false, false},
		"one port":          {"a=rtcp-mux\r\n", 5000, true, false},
		"a port of its own": {"a=rtcp:5009\r\na=rtcp-xr:pkt-loss-rle\r\n", 5009, false, false},
		"all of it":         {"a=rtcp:5009\r\na=rtcp-mux\r\na=rtcp-xr:pkt-loss-rle VoIP-metrics stat-summary=loss\r\n", 5000, true, true},
	} {
		said := []byte(head + "m=audio 5000 RTP/AVP 8\r\n" + tt.lines)
		s := newSession()
		answer, m, err := s.answer(said, fuzzSource, fuzzLocal)
		if err != nil {
			t.Fatal(err)
		}
		if shared := bytes.Contains(answer, []byte("a=rtcp-mux\r\n")); shared != tt.shared {
			t.Errorf("%s: answered with\n%s", name, answer)
		}
		own := newSession()
		offer, lm, ways, err := own.offer(fuzzLocal)
		if err != nil {
			t.Fatal(err)
		}
		taken, err := own.take(said, fuzzSource, lm, ways)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []sip.Media{m, taken} {
			if r := terms(m); r.RemoteRTCP.Port() != tt.port || r.Metrics != tt.metrics {
				t.Errorf("%s: agreed on %+v", name, r)
			}
		}
		for _, b := range [][]byte{offer, answer} {
			if !bytes.Contains(b, []byte("a=rtcp-xr:voip-metrics\r\n")) {
				t.Errorf("%s: no metrics are asked for:\n%s", name, b)
			}
		}
		if again, _, _, err := own.offer(fuzzLocal); err != nil || !bytes.Contains(again, []byte("a=rtcp-mux\r\n")) || !bytes.Contains(offer, []byte("a=rtcp-mux\r\n")) {
			t.Errorf("%s: offered\n%s\nand again\n%s", name, offer, again)
		}
	}
}

// BenchmarkAnswer is an offer read and answered, once in the setting up of a call.
func BenchmarkAnswer(b *testing.B) {
	s := newSession()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.answer([]byte(descriptions[0]), fuzzSource, fuzzLocal); err != nil {
			b.Fatal(err)
		}
	}
}

// An answer has the lines of the offer in their order (RFC 3264, 6). Of one that puts
// others before them, or leaves some out, what can be an answer is taken.
func TestAnswerWithOtherLines(t *testing.T) {
	const head = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"
	const sound = "m=audio 5000 RTP/AVP 8\r\n"
	for name, tt := range map[string]struct {
		lines string
		err   error
	}{
		"ours":                 {sound, nil},
		"a line of theirs":     {"m=video 7000 RTP/AVP 96\r\n" + sound, nil},
		"a line of no kind":    {"m=x-foo 1 udp 0\r\n" + sound, nil},
		"ours, twice":          {"m=audio 0 RTP/AVP 8\r\n" + sound, nil},
		"one with keys first":  {"m=audio 5002 RTP/SAVP 8\r\n" + sound, nil},
		"keys that nobody has": {"m=audio 5002 RTP/SAVP 8\r\n", sip.ErrNoMedia},
		"nothing":              {"m=video 7000 RTP/AVP 96\r\n", sip.ErrNoMedia},
	} {
		e := NewCall().With(fuzzLocal)
		if _, err := e.Offer(); err != nil {
			t.Fatal(err)
		}
		m, err := e.Take([]byte(head+tt.lines), fuzzSource.host)
		if !errors.Is(err, tt.err) || err == nil && m.Remote != netip.MustParseAddrPort("192.0.2.9:5000") {
			t.Errorf("%s: %+v, %v; want %v", name, m, err, tt.err)
		}
	}
}
