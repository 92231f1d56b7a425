package sip

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
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
	ourOpus, ourPCMA, event := fuzzMedia.Codecs[0], fuzzMedia.Codecs[1], fuzzMedia.Codecs[2]
	ourOpus.PayloadType = 96 // the offer's
	at := netip.MustParseAddrPort
	want := []struct {
		media Media
		err   error
	}{
		{media: Media{Remote: at("192.0.2.9:5000"), RemoteRTCP: at("192.0.2.9:5001"), Codec: pcma, Receive: []Codec{ourPCMA, event},
			DTMF: 101, DTMFRate: 8000, PacketTime: 30 * time.Millisecond, Send: true, Recv: true}},
		{media: Media{Remote: at("192.0.2.9:5000"), RemoteRTCP: at("192.0.2.8:5009"), Codec: opus, Receive: []Codec{ourOpus}, Send: true, Recv: true}},
		{media: Media{Remote: at("192.0.2.9:5000"), RemoteRTCP: at("192.0.2.9:5001"), Codec: pcma, Receive: []Codec{ourPCMA}, Recv: true, Silent: true}},
		{media: Media{Remote: at("192.0.2.9:5000"), RemoteRTCP: at("192.0.2.9:5001"), Codec: pcma, Receive: []Codec{ourPCMA}, Silent: true}},
		{media: Media{Remote: at("0.0.0.0:5000"), RemoteRTCP: at("0.0.0.0:5001"), Codec: pcma, Receive: []Codec{ourPCMA}, Recv: true, Silent: true}},
		{err: errNoMedia},
		{err: errNoMedia},
		{err: errNoMedia},
		{media: Media{Remote: at("[2001:db8::1]:65535"), Codec: pcma, Receive: []Codec{ourPCMA}, Send: true, Recv: true}},
		{media: Media{Remote: at("192.0.2.77:5000"), RemoteRTCP: at("192.0.2.77:5001"), Codec: pcma, Receive: []Codec{ourPCMA}, Send: true, Recv: true}},
		{media: Media{Remote: at("192.0.2.77:5000"), RemoteRTCP: at("192.0.2.77:5001"), Codec: pcma, Receive: []Codec{ourPCMA}, Send: true, Recv: true}},
		{err: errNoMedia},
		{err: errBadSDP},
	}
	for i, offer := range descriptions {
		s := newSession()
		answer, m, err := s.answer([]byte(offer), fuzzSource, fuzzMedia)
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
	opus, pcma, event := fuzzMedia.Codecs[0], fuzzMedia.Codecs[1], fuzzMedia.Codecs[2]
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
		m, err := readAnswer([]byte(body), fuzzSource, fuzzMedia)
		if err != nil {
			t.Errorf("%s: %v", answer, err)
			continue
		}
		if !slices.Equal(m.Receive, want) {
			t.Errorf("answer %s:\n got %+v\nwant %+v", answer, m.Receive, want)
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
		"a=rtpmap:13 CN/8000": true, "a=rtpmap:98 CN/16000": true, "a=fmtp:97 useinbandfec=1; usedtx=1": true, "a=fmtp:97 usedtx=0": false,
	} {
		formats := "8 97"
		if strings.Contains(lines, "CN/8000") {
			formats += " 13"
		} else if strings.Contains(lines, "CN") {
			formats += " 98"
		}
		body := []byte(head + "m=audio 5000 RTP/AVP " + formats + "\r\n" + lines + "\r\na=rtpmap:97 opus/48000/2\r\n")
		s := newSession()
		_, offered, err := s.answer(body, fuzzSource, fuzzMedia)
		if err != nil || offered.Silent != want {
			t.Errorf("%q offered: silent %v, %v", lines, offered.Silent, err)
		}
		answered, err := readAnswer(body, fuzzSource, fuzzMedia)
		if err != nil || answered.Silent != want {
			t.Errorf("%q answered: silent %v, %v", lines, answered.Silent, err)
		}
	}
	hold := fuzzMedia
	hold.Hold = true
	if m, err := readAnswer([]byte(descriptions[0]), fuzzSource, hold); err != nil || !m.Silent {
		t.Errorf("holding: %+v, %v", m, err)
	}
}

// TestOfferAnswer: both ends of an exchange come to the same conclusion, and
// each sends with the payload types that the other named.
func TestOfferAnswer(t *testing.T) {
	a := fuzzMedia
	b := LocalMedia{Addr: netip.MustParseAddr("192.0.2.2"), Port: 5000, Codecs: []Codec{
		{Name: "PCMA", PayloadType: 8, ClockRate: 8000},
		{Name: "OPUS", PayloadType: 97, ClockRate: 48000, Channels: 2},
		{Name: eventName, PayloadType: 99, ClockRate: 8000},
	}}
	sa, sb := newSession(), newSession()
	for _, hold := range []bool{false, true} {
		a.Hold = hold
		offer, _, err := sa.offer(a)
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
		if ma.Codec.Name != "PCMA" || mb.Codec.Name != "PCMA" {
			t.Errorf("A talks %s, B talks %s; B prefers PCMA", ma.Codec.Name, mb.Codec.Name)
		}
		if ma.Send != mb.Recv || ma.Recv != mb.Send || ma.Recv == hold {
			t.Errorf("hold %v: A %+v, B %+v", hold, ma, mb)
		}
		if ma.DTMF != 101 || mb.DTMF != 101 || !slices.Contains(mb.Receive, Codec{Name: eventName, PayloadType: 101, ClockRate: 8000}) {
			t.Errorf("digits: A %+v, B %+v", ma, mb)
		}
		if ma.Remote.Port() != 5000 || mb.Remote.Port() != 4000 {
			t.Errorf("A sends to %v, B to %v", ma.Remote, mb.Remote)
		}
	}
}

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

// BenchmarkAnswer is an offer read and answered, once in the setting up of a call.
func BenchmarkAnswer(b *testing.B) {
	s := newSession()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.answer([]byte(descriptions[0]), fuzzSource, fuzzMedia); err != nil {
			b.Fatal(err)
		}
	}
}
