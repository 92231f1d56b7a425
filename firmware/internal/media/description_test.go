package media

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"flexphone/firmware/internal/sip"
	"flexphone/internal/pass"
)

// good is a stream that can be taken.
const good = "m=audio 5000 RTP/AVP 8\r\n"

// oddities are offers that a strict reader refuses or misreads, and whose sound
// can be taken all the same.
var oddities = []string{
	head + good + "m=image 5022 udptl t38\r\na=T38FaxVersion:0\r\n",
	head + "m=image 5022 udptl t38\r\n" + good,
	head + "m=x-foo 5022 RTP/AVP 0\r\n" + good,
	head + "m=audio 5022 FOO/BAR 0\r\n" + good,
	head + "m=audio 5022 UDP/TLS/RTP/SAVPF 0\r\na=fingerprint:sha-256 00\r\n" + good,
	head + "m=audio 5022 RTP/SAVP 8\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n" + good,
	head + "m=application 32416 udp wb\r\n" + good + "m=message 7394 TCP/MSRP *\r\na=path:msrp://x:1/s;tcp\r\n",
	head + "m=audio 5022 RTP/AVP 100\r\na=rtpmap:100 FOO/8000\r\n" + good,
	head + "m=audio 70000 RTP/AVP 8\r\n" + good,
	head + "m=audio 1234567890123456789012345 RTP/AVP 8\r\n" + good,
	head + "m=audio -1 RTP/AVP 8\r\n" + good,
	head + "m=\r\n" + good,
	head + "m=audio\r\n" + good,
	head + "m=audio 5022\r\n" + good,
	head + "m=audio 5022 RTP/AVP\r\n" + good,
	head + "m=\x00\xff\u2028 \x01 RTP/AVP 8\r\n" + good,
	head + "m=audio 5022 RTP/AVP 8\r\nc=IN IP4 224.2.1.1/127\r\n" + good,
	head + "m=audio 5000/2 RTP/AVP 8\r\n",
	head + "m=AUDIO 5000 rtp/avp 8\r\n",
	head + "m=audio 5000 RTP/AVPF 8\r\na=rtcp-fb:* nack\r\n",
	head + "m=audio  5000\tRTP/AVP   8 \r\n",
	head + "m=audio 5000 RTP/AVP 8 8 200 x 300 -1\r\n",
	head + "y=1\r\n" + good + "y=2\r\nX-Junk: 1\r\nnothing\r\n=\r\nab=c\r\n",
	head + "b=FOO:64\r\nb=AS:\r\nb=X-YZ:many\r\nb\r\n" + good + "b=CT:1234567890123456789012345\r\n",
	head + "a=\r\na=:\r\na= \r\na\r\n" + good + "a=rtpmap\r\na=rtpmap:\r\na=rtpmap:8\r\na=rtpmap:8 \r\na=rtpmap:8 /\r\na=rtpmap:x PCMA/8000\r\na=fmtp:\r\na=ptime:\r\na=rtcp:\r\na=crypto:\xff\xfe\r\n",
	head + good + "a=rtpmap:8 PCMA / 8000 / 1\r\n",
	head + "i=room 3\r\nu=http://x\r\ne=x@y (Z)\r\np=+1\r\nr=604800 3600 0 90000\r\nz=0 0\r\nk=prompt\r\n" + good,
	strings.ReplaceAll(head+good, "\r\n", "\n"),
	strings.ReplaceAll(head+good, "\r\n", "\r"),
	strings.ReplaceAll(head+good, "\r\n", "\r\n\r\n"),
	strings.ReplaceAll(head+good, "\r\n", " \r\n"),
	strings.ReplaceAll(head+good, "\r\n", "\r\n "),
	strings.ReplaceAll(head+good, "=", " = "),
	"\ufeff" + head + good,
	strings.TrimSuffix(head+good, "\r\n"),
	strings.TrimSuffix(head+good+"a=sendrecv\r\n", "\r\n"),
	"v=0\r\nc=IN IP4 192.0.2.9\r\n" + good,
	"c=IN IP4 192.0.2.9\r\n" + good,
	"v=1\r\no=x\r\ns=\r\nt=\r\nc=IN IP4 192.0.2.9\r\n" + good,
	"v=0\r\no=- 1234567890123456789012345 9999999999999999999999999 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n" + good,
	"v=0\r\no=- -1 x IN IP4 host name with blanks\r\ns=\r\nc=IN IP4 192.0.2.9\r\nt=1234567890123456789012345 0\r\n" + good,
	"v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\nt=0 0\r\nb=AS:64\r\na=sendrecv\r\nc=IN IP4 192.0.2.9\r\ns=late\r\n" + good,
	"v=0\r\ns=-\r\nt=0 0\r\n" + good + "c=IN IP4 192.0.2.9\r\n",
	"v=0\r\ns=-\r\nt=0 0\r\nc=IN IP4 192.0.2.9/127\r\n" + good,
	"v=0\r\ns=-\r\nt=0 0\r\nc=IN IP6 192.0.2.9\r\n" + good,
	"v=0\r\ns=-\r\nt=0 0\r\nc=192.0.2.9\r\n" + good,
	"v=0\r\ns=-\r\nt=0 0\r\nc=IN IP6 ::ffff:192.0.2.9\r\n" + good,
}

// TestOddDescriptions: each oddity is answered with its sound, and with each
// other stream refused in its place.
func TestOddDescriptions(t *testing.T) {
	for _, offer := range oddities {
		s := newSession()
		answer, m, err := s.answer([]byte(offer), fuzzSource, fuzzLocal)
		if err != nil {
			t.Errorf("%q: %v", offer, err)
			continue
		}
		if want := netip.MustParseAddrPort("192.0.2.9:5000"); m.Remote != want || m.Codec != "PCMA" || !m.Send || !m.Recv {
			t.Errorf("%q: agreed on %+v", offer, m)
		}
		fits(t, []byte(offer), answer, m)
		if m, err := readAnswer([]byte(offer), fuzzSource, fuzzLocal); err != nil || m.Remote.Port() != 5000 {
			t.Errorf("%q as an answer: %+v, %v", offer, m, err)
		}
	}
}

// TestRefusedLines: what a refusal says is the offer's own (RFC 3264, 6).
func TestRefusedLines(t *testing.T) {
	for line, want := range map[string]string{
		"m=image 5022 udptl t38":             "m=image 0 udptl t38",
		"m=x-foo 5022/3 X/Y/Z a b c":         "m=x-foo 0 X/Y/Z a b c",
		"m=audio 5022 RTP/SAVP 0 8 96":       "m=audio 0 RTP/SAVP 0 8 96",
		"m=video 5022 RTP/AVPF 31 99":        "m=video 0 RTP/AVPF 31 99",
		"m=message 7394 TCP/TLS/MSRP *":      "m=message 0 TCP/TLS/MSRP *",
		"m=application 9 UDP/DTLS/SCTP 5000": "m=application 0 UDP/DTLS/SCTP 5000",
		"m=audio":                            "m=audio 0 unknown 0",
		"m=":                                 "m=unknown 0 unknown 0",
		"m=te\x00xt 1 TCP \u00fc":            "m=te-xt 0 TCP -",
		"m=audio 6000 RTP/AVP 8 0":           "m=audio 0 RTP/AVP 8 0", // the second that we could take
	} {
		for _, first := range []bool{false, true} {
			offer := head + good + line + "\r\na=x\r\n"
			if first && !strings.HasSuffix(line, "8 0") {
				offer = head + line + "\r\na=x\r\n" + good
			}
			s := newSession()
			answer, _, err := s.answer([]byte(offer), fuzzSource, fuzzLocal)
			if err != nil {
				t.Errorf("%q: %v", line, err)
				continue
			}
			if !strings.Contains(string(answer), "\r\n"+want+"\r\n") {
				t.Errorf("%q is refused by\n%s", line, answer)
			}
			if at := strings.Index(string(answer), want); at > strings.Index(string(answer), "m=audio 4000") == (first && !strings.HasSuffix(line, "8 0")) {
				t.Errorf("%q is refused out of place:\n%s", line, answer)
			}
		}
	}
}

// TestUnusable: there is no sound to take, or there is no description.
func TestUnusable(t *testing.T) {
	many := strings.Repeat("m=video 1 RTP/AVP 31\r\n", maxStreamLines)
	for body, want := range map[string]error{
		head:                                 sip.ErrNoMedia,
		head + "m=image 5022 udptl t38\r\n":  sip.ErrNoMedia,
		head + "m=audio 5000 RTP/SAVP 8\r\n": sip.ErrNoMedia,
		head + "m=audio 5000 UDP/TLS/RTP/SAVPF 8\r\n":         sip.ErrNoMedia,
		head + "m=audio 5000 RTP/AVP/TCP 8\r\n":               sip.ErrNoMedia,
		head + "m=audio 5000 RTP 8\r\n":                       sip.ErrNoMedia,
		head + "m=audio 0 RTP/AVP 8\r\n":                      sip.ErrNoMedia,
		head + "m=audio 5000 RTP/AVP 13 101\r\n":              sip.ErrNoMedia,
		head + "m=audio 5000 RTP/AVP 8\r\na=rtpmap:8 X/1\r\n": sip.ErrNoMedia,
		head + many + good:                                    sip.ErrNoMedia,
		"":                                                    sip.ErrDescription,
		"hello":                                               sip.ErrDescription,
		"\x00\x01\x02":                                        sip.ErrDescription,
		"<?xml version='1.0'?>":                               sip.ErrDescription,
		strings.Repeat(head, 2000):                            sip.ErrDescription,
	} {
		s := newSession()
		if _, _, err := s.answer([]byte(body), fuzzSource, fuzzLocal); !errors.Is(err, want) {
			t.Errorf("%.60q: %v, want %v", body, err, want)
		}
	}
	s := newSession()
	if _, _, err := s.answer([]byte(head+strings.Replace(many, "m=video 1 RTP/AVP 31\r\n", "", 1)+good), fuzzSource, fuzzLocal); err != nil {
		t.Errorf("%d m= lines: %v", maxStreamLines, err)
	}
	if _, _, err := s.answer([]byte("v=0\r\nc=IN IP4 x.example\r\n"+good), origin{}, fuzzLocal); !errors.Is(err, sip.ErrNoMedia) {
		t.Errorf("from nowhere: %v", err)
	}
}

// TestWhereTo: the address of c=, or the sender's where that is none.
func TestWhereTo(t *testing.T) {
	for c, want := range map[string]string{
		"IN IP4 192.0.2.9": "192.0.2.9", "IN IP4 host.example": "192.0.2.77", "IN IP4 192.0.2.999": "192.0.2.77",
		"IN IP6 2001:db8::9": "2001:db8::9", "IN IP6 [2001:db8::9]": "2001:db8::9", "IN IP6 fe80::1%eth0": "fe80::1",
		"IN IP4": "192.0.2.77", "": "192.0.2.77", "IN IP4 0.0.0.0": "0.0.0.0", "IN IP6 ::": "::", "IN IP4 ": "192.0.2.77",
		"TN RFC2543 +4930123456": "192.0.2.77",
	} {
		s := newSession()
		_, m, err := s.answer([]byte("v=0\r\nc="+c+"\r\n"+good), fuzzSource, fuzzLocal)
		if err != nil || m.Remote.Addr() != netip.MustParseAddr(want) {
			t.Errorf("c=%s: to %v, %v; want %s", c, m.Remote, err, want)
		}
		if held := m.Remote.Addr().IsUnspecified(); m.Send == held || m.Silent != held {
			t.Errorf("c=%s: %+v", c, m)
		}
	}
}

// TestPacketTime: whatever is wished is passed on, or is no wish.
func TestPacketTime(t *testing.T) {
	for lines, want := range map[string]time.Duration{
		"": 0, "a=ptime:20": 20 * time.Millisecond, "a=ptime:15": 15 * time.Millisecond, "a=ptime:2.5": 2500 * time.Microsecond,
		"a=ptime: 30 ": 30 * time.Millisecond, "a=ptime:120": 120 * time.Millisecond, "a=ptime:0.125": 125 * time.Microsecond,
		"a=ptime:0": 0, "a=ptime:-20": 0, "a=ptime:x": 0, "a=ptime:": 0, "a=ptime": 0, "a=ptime:NaN": 0, "a=ptime:-1e400": 0,
		"a=ptime:1e400": longestPacket, "a=ptime:1234567890123456789012345": longestPacket, "a=ptime:5000": longestPacket,
		"a=PTIME:40": 40 * time.Millisecond, "a=ptime:20\r\na=ptime:30": 30 * time.Millisecond,
		"a=maxptime:60": 0, "a=maxptime:10": 10 * time.Millisecond, "a=ptime:40\r\na=maxptime:30": 30 * time.Millisecond,
		"a=ptime:20\r\na=maxptime:150": 20 * time.Millisecond, "a=maxptime:x\r\na=ptime:60": 60 * time.Millisecond,
	} {
		s := newSession()
		_, m, err := s.answer([]byte(head+good+lines+"\r\n"), fuzzSource, fuzzLocal)
		if err != nil || m.PacketTime != want {
			t.Errorf("%q: %v, %v; want %v", lines, m.PacketTime, err, want)
		}
	}
}

// TestFamilyOfAnswer: what we say of ourselves is of the family in which the
// peer's media are, whatever the signalling came by.
func TestFamilyOfAnswer(t *testing.T) {
	four, six := fuzzLocal, fuzzLocal
	six.Addr = fuzzLocal6
	mapped := fuzzLocal
	mapped.Addr = netip.AddrFrom16(fuzzLocal.Addr.As16())
	for _, c := range []struct {
		lm         Local
		peer, want string
	}{
		{four, "IN IP4 192.0.2.1", "IN IP4 192.0.2.1"},
		{six, "IN IP4 192.0.2.1", "IN IP4 192.0.2.1"},
		{four, "IN IP6 2001:db8::1", "IN IP6 2001:db8::1"},
		{six, "IN IP6 2001:db8::1", "IN IP6 2001:db8::1"},
		{six, "IN IP6 ::ffff:192.0.2.9", "IN IP4 192.0.2.1"},
		{four, "IN IP4 0.0.0.0", "IN IP4 192.0.2.1"}, // on hold
		{six, "IN IP4 0.0.0.0", "IN IP6 2001:db8::1"},
		{mapped, "IN IP4 192.0.2.1", "IN IP4 192.0.2.1"},
	} {
		s := newSession()
		answer, _, err := s.answer([]byte("v=0\r\nc="+c.peer+"\r\n"+good), fuzzSource, c.lm)
		if err != nil {
			t.Errorf("%v to %s: %v", c.lm.Addr, c.peer, err)
			continue
		}
		o, _, _ := strings.Cut(string(answer), "\r\ns=")
		if !strings.HasSuffix(o, c.want) || !strings.Contains(string(answer), "\r\nc="+c.want+"\r\n") {
			t.Errorf("%v to %s:\n%s", c.lm.Addr, c.peer, answer)
		}
	}
}

// TestLaterOffers: an offer of ours in a call has the lines of the peer's last
// offer in their places, and its payload types (RFC 3264, 8).
func TestLaterOffers(t *testing.T) {
	s := newSession()
	if _, _, err := s.answer([]byte(head+"m=image 5022 udptl t38\r\nm=audio 5000 RTP/AVPF 111 97 8 101\r\n"+
		"a=rtpmap:111 telephone-event/8000\r\na=rtpmap:97 opus/48000/2\r\na=rtpmap:101 speex/8000\r\nm=audio 5002 RTP/AVP 8\r\n"), fuzzSource, fuzzLocal); err != nil {
		t.Fatal(err)
	}
	lm := fuzzLocal
	lm.Codecs = append(lm.Codecs[:3:3], Codec{Name: eventName, PayloadType: 101, ClockRate: 48000}, Codec{Name: "L16", PayloadType: 98, ClockRate: 44100})
	offer, numbered, _, err := s.offer(lm)
	if err != nil {
		t.Fatal(err)
	}
	_, lines, _ := strings.Cut(string(offer), "t=0 0\r\n")
	want := "m=image 0 udptl t38\r\nm=audio 4000 RTP/AVPF 97 8 111 127 98\r\n"
	if !strings.HasPrefix(lines, want) || !strings.HasSuffix(lines, "m=audio 0 RTP/AVP 8\r\n") {
		t.Errorf("offer\n%swant\n%s", lines, want)
	}
	m, err := readAnswer([]byte(head+"m=image 0 udptl t38\r\nm=audio 5000 RTP/AVPF 97 111\r\na=rtpmap:97 opus/48000/2\r\na=rtpmap:111 telephone-event/8000\r\nm=audio 0 RTP/AVP 8\r\n"), fuzzSource, numbered)
	if err != nil || terms(m).Codec.PayloadType != 97 || terms(m).DTMF != 111 || terms(m).Receive[0].PayloadType != 97 || len(terms(m).Receive) != 5 {
		t.Errorf("agreed on %+v, %v", m, err)
	}
}

// TestFamilyNotHad: a stream in a family that we do not have is passed over, and
// of the family of whoever sent it is always believed to be had. A pass for a relay
// joins the families.
func TestFamilyNotHad(t *testing.T) {
	nowhere := func(netip.Addr) netip.Addr { return netip.Addr{} }
	four, six := origin{host: netip.MustParseAddr("192.0.2.77"), source: nowhere}, origin{host: netip.MustParseAddr("2001:db8::77"), source: nowhere}
	both := "v=0\r\nm=audio 5006 RTP/AVP 8\r\nc=IN IP6 2001:db8::9\r\nm=audio 5004 RTP/AVP 8\r\nc=IN IP4 192.0.2.9\r\n"
	only6 := "v=0\r\nc=IN IP6 2001:db8::9\r\n" + good
	only4 := "v=0\r\nc=IN IP4 192.0.2.9\r\n" + good
	secret := pass.New().Text()
	passed := "a=candidate:1 1 UDP 1 2001:db8::5 3480 typ relay pass " + secret + "\r\n"
	for _, c := range []struct {
		offer string
		from  origin
		port  uint16 // 0: no media
	}{
		{both, four, 5004}, {both, six, 5006}, {both, fuzzSource, 5006},
		{only6, four, 0}, {only6, six, 5000}, {only4, six, 0}, {only4, four, 5000},
		{only6 + passed, four, 5000}, {only4 + passed, six, 5000}, // by a relay
		{only6 + strings.Replace(passed, " pass "+secret, "", 1), four, 0},    // a relay of another
		{only6, origin{host: four.host, source: nowhere, passed: true}, 5000}, // our own relay
		{"v=0\r\nc=IN IP6 ::\r\n" + good, four, 5000},                         // on hold
		{"v=0\r\nc=IN IP6 host.example\r\n" + good, four, 5000},
	} {
		s := newSession()
		_, m, err := s.answer([]byte(c.offer), c.from, fuzzLocal)
		if m.Remote.Port() != c.port || c.port == 0 && !errors.Is(err, sip.ErrNoMedia) {
			t.Errorf("%q from %v: %v, %v; want port %d", c.offer, c.from.host, m.Remote, err, c.port)
		}
	}
}
