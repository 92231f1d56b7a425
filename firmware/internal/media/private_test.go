package media

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"flexphone/firmware/internal/sip"
	"flexphone/internal/secret"
)

var (
	hereAt  = netip.MustParseAddr("192.0.2.1")
	thereAt = netip.MustParseAddr("192.0.2.2")
)

// privately is fuzzLocal of a phone that can be private.
func privately(name byte, ours, vouched bool) Local {
	lm := fuzzLocal
	lm.Addr, lm.Vouched = hereAt, vouched
	lm.Private = &Private{
		Port: 6000 + uint16(name), Fingerprint: Fingerprint{"sha-256", strings.Repeat(string(name), 32)},
		Ufrag: strings.Repeat(string(name), 4), Pwd: secret.Of([]byte(strings.Repeat(string(name), 22))), Ours: ours,
	}
	return lm
}

// A talk is the ends of a call.
type talk struct{ a, b *Call }

// offers has one end offer and the other answer.
func offers(t *testing.T, from, to *Call, a, b Local) (offer, answer string, atA, atB sip.Media, err error) {
	t.Helper()
	ea, eb := from.With(a), to.With(b)
	o, err := ea.Offer()
	if err != nil {
		t.Fatal(err)
	}
	ans, atB, err := eb.Answer(o, hereAt)
	if err != nil {
		return string(o), "", atA, atB, err
	}
	atA, err = ea.Take(ans, thereAt)
	return string(o), string(ans), atA, atB, err
}

// sameWay reports whether m and o are carried alike. What may come differs with who
// has offered.
func sameWay(m, o sip.Media) bool {
	return m.Remote == o.Remote && m.Private == o.Private && reflect.DeepEqual(protection(m), protection(o))
}

func protection(m sip.Media) *Protection { return terms(m).Protection }

// Two of our phones are private, by keys that no description holds; whoever
// offers again, keys and roles stay.
func TestOursArePrivate(t *testing.T) {
	ta := talk{NewCall(), NewCall()}
	a, b := privately('a', true, true), privately('b', true, true)
	offer, answer, atA, atB, err := offers(t, ta.a, ta.b, a, b)
	if err != nil {
		t.Fatal(err)
	}
	pa, pb := protection(atA), protection(atB)
	if !atA.Private || !atB.Private || pa == nil || pb == nil {
		t.Fatalf("%+v, %+v", atA, atB)
	}
	if pa.Active || !pb.Active || !pa.Mux || !pb.Mux || !slices.Equal(pa.Fingerprints, []Fingerprint{b.Private.Fingerprint}) ||
		!slices.Equal(pb.Fingerprints, []Fingerprint{a.Private.Fingerprint}) || pa.Ufrag != "bbbb" || !pb.Pwd.Equal(a.Private.Pwd) {
		t.Errorf("agreed %+v, %+v", pa, pb)
	}
	if atA.Remote.Port() != b.Private.Port || atB.Remote.Port() != a.Private.Port {
		t.Errorf("sound goes to %v, %v", atA.Remote, atB.Remote)
	}
	for _, text := range []string{offer, answer} {
		if !strings.Contains(text, "UDP/TLS/RTP/SAVP") || strings.Contains(text, "a=crypto") || strings.Count(text, "m=") != 2 {
			t.Errorf("described as\n%s", text)
		}
	}
	for range 2 {
		offer, _, againB, againA, err := offers(t, ta.b, ta.a, b, a)
		if err != nil || !sameWay(againA, atA) || !sameWay(againB, atB) {
			t.Fatalf("the other way: %v\n%+v\n%+v\n%+v\n%+v", err, againA, atA, againB, atB)
		}
		if strings.Count(offer, "m=audio 0 ") != 1 {
			t.Errorf("offered again as\n%s", offer)
		}
		if _, _, againA, againB, err = offers(t, ta.a, ta.b, a, b); err != nil || !sameWay(againA, atA) || !sameWay(againB, atB) {
			t.Fatalf("again: %v\n%+v\n%+v", err, againA, againB)
		}
	}
	// It is never made plain again.
	if _, _, err := ta.b.With(b).Answer([]byte(descriptions[0]), hereAt); !errors.Is(err, sip.ErrNoMedia) {
		t.Errorf("a plain offer in a private call: %v", err)
	}
}

// A phone of ours that knows plain RTP alone is still called, and calls.
func TestOlderPhonesAreNotPrivate(t *testing.T) {
	ta := talk{NewCall(), NewCall()}
	a, old := privately('a', true, true), fuzzLocal
	_, answer, atA, atB, err := offers(t, ta.a, ta.b, a, old)
	if err != nil || atA.Private || atB.Private || protection(atA) != nil || atA.Remote.Port() != old.Port || atB.Remote.Port() != a.Port {
		t.Fatalf("%+v, %+v, %v", atA, atB, err)
	}
	if !strings.Contains(answer, "m=audio 0 UDP/TLS/RTP/SAVP") {
		t.Errorf("answered\n%s", answer)
	}
	if _, _, againB, againA, err := offers(t, ta.b, ta.a, old, a); err != nil || !sameWay(againA, atA) || againB.Private {
		t.Errorf("it offers: %+v, %v", againA, err)
	}
	if _, _, againA, _, err := offers(t, ta.a, ta.b, a, old); err != nil || !sameWay(againA, atA) {
		t.Errorf("offered again: %+v, %v", againA, err)
	}
	ta = talk{NewCall(), NewCall()}
	if _, _, _, atB, err := offers(t, ta.b, ta.a, old, a); err != nil || atB.Private {
		t.Errorf("it calls: %+v, %v", atB, err)
	}
	// Unless nothing else is wanted.
	a.OnlyPrivate = true
	ta = talk{NewCall(), NewCall()}
	if offer, _, _, _, err := offers(t, ta.a, ta.b, a, old); !errors.Is(err, sip.ErrNoMedia) || strings.Count(offer, "m=") != 1 {
		t.Errorf("%v, offered\n%s", err, offer)
	}
	if _, _, err := ta.a.With(a).Answer([]byte(descriptions[0]), thereAt); !errors.Is(err, sip.ErrNoMedia) {
		t.Errorf("a plain call is taken: %v", err)
	}
}

const (
	inlineGCM = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYg==" // 28 bytes
	inlineCM  = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNk" // 30 bytes
	finger    = "a=fingerprint:SHA-256 " + "AB:CD:EF:01:AB:CD:EF:01:AB:CD:EF:01:AB:CD:EF:01:AB:CD:EF:01:AB:CD:EF:01:AB:CD:EF:01:AB:CD:EF:01" + "\r\n"
)

// Standard phones are private as far as they can be.
func TestStandardPhones(t *testing.T) {
	const avp, savp, dtls = "m=audio 5000 RTP/AVP 8\r\n", "m=audio 5000 RTP/SAVP 8\r\n", "m=audio 5000 UDP/TLS/RTP/SAVPF 8\r\n"
	gcm, cm := "a=crypto:2 AEAD_AES_128_GCM inline:"+inlineGCM+"|2^31\r\n", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"+inlineCM+"\r\n"
	for _, tt := range []struct {
		name, offer string
		tls         bool
		way         way
		private     bool
		suite       string
	}{
		{"SDES over TLS", savp + cm, true, bySDES, true, "AES_CM_128_HMAC_SHA1_80"},
		{"the better suite", savp + cm + gcm, true, bySDES, true, "AEAD_AES_128_GCM"},
		{"SDES over plain SIP", savp + cm, false, noWay, false, ""},
		{"SDES if we like, over plain SIP", avp + cm, false, inPlain, false, ""},
		{"SDES if we like, over TLS", avp + cm, true, bySDES, true, "AES_CM_128_HMAC_SHA1_80"},
		{"DTLS over TLS", dtls + finger + "a=setup:actpass\r\n", true, byDTLS, true, ""},
		{"DTLS over plain SIP", dtls + finger + "a=setup:actpass\r\n", false, byDTLS, false, ""},
		{"DTLS of the session", finger + dtls + "a=setup:active\r\n", true, byDTLS, true, ""},
		{"DTLS before SDES", savp + cm + finger, true, byDTLS, true, ""},
		{"the private line, not the first", avp + dtls + finger, true, byDTLS, true, ""},
		{"no connection is held", dtls + finger + "a=setup:holdconn\r\n", true, noWay, false, ""},
		{"no fingerprint", dtls + cm, true, noWay, false, ""},
		{"an old hash", dtls + "a=fingerprint:sha-1 00:11\r\n", true, noWay, false, ""},
		{"only a fingerprint that is none", finger + dtls + "a=fingerprint:sha-256 00\r\n", true, noWay, false, ""},
		{"an unknown suite", savp + "a=crypto:1 F8_128_HMAC_SHA1_80 inline:" + inlineCM + "\r\n", true, noWay, false, ""},
		{"a key of another length", savp + "a=crypto:1 AEAD_AES_128_GCM inline:" + inlineCM + "\r\n", true, noWay, false, ""},
		{"an MKI", savp + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + inlineCM + "|2^20|1:4\r\n", true, noWay, false, ""},
		{"two keys", savp + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + inlineCM + ";inline:" + inlineCM + "\r\n", true, noWay, false, ""},
		{"no encryption", savp + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + inlineCM + " UNENCRYPTED_SRTP\r\n", true, noWay, false, ""},
		{"a hint", savp + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + inlineCM + " WSH=64\r\n", true, bySDES, true, "AES_CM_128_HMAC_SHA1_80"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lm := privately('a', false, tt.tls)
			c := NewCall()
			answer, m, err := c.With(lm).Answer([]byte(head+tt.offer), thereAt)
			if (tt.way == noWay) != errors.Is(err, sip.ErrNoMedia) {
				t.Fatal(err)
			}
			refused := Answerable(lm.Codecs, false)([]byte(head+tt.offer), thereAt, tt.tls)
			if (refused != nil) != (tt.way == noWay) {
				t.Errorf("before it rings: %v", refused)
			}
			if err := Answerable(lm.Codecs, true)([]byte(head+tt.offer), thereAt, tt.tls); (err == nil) != tt.private {
				t.Errorf("if it must be private: %v", err)
			}
			if err != nil {
				return
			}
			p, text := protection(m), string(answer)
			if m.Private != tt.private || (p != nil) != (tt.way != inPlain) || p != nil && p.Suite != tt.suite {
				t.Errorf("agreed %+v, %+v", m, p)
			}
			if strings.Contains(text, "a=crypto") != (tt.way == bySDES) || strings.Contains(text, "a=fingerprint") != (tt.way == byDTLS) ||
				strings.Contains(text, "a=ice") || strings.Contains(text, "rtcp-mux") {
				t.Errorf("answered\n%s", text)
			}
			if tt.way == bySDES && (p.Own.Equal(p.Peer) || !strings.Contains(text, tt.suite+" inline:"+base64.StdEncoding.EncodeToString(p.Own.Reveal()))) {
				t.Errorf("our key is not answered:\n%s", text)
			}
			_, again, err := c.With(lm).Answer([]byte(head+tt.offer), thereAt)
			if err != nil || !again.Equal(m) {
				t.Errorf("offered again: %+v, %v", again, err)
			}
			own, err := c.With(lm).Offer()
			if err != nil || strings.Count(string(own), "m=") != strings.Count(tt.offer, "m=") ||
				strings.Contains(string(own), "a=crypto") != (tt.way == bySDES) || strings.Contains(string(own), "a=setup:actpass") != (tt.way == byDTLS) {
				t.Errorf("we offer, %v:\n%s", err, own)
			}
		})
	}
}

// TestNewKeys: keys of SDES stay in a call until they are worn. A peer that brings
// another gets another of ours; who has offered one of its own keeps that.
func TestNewKeys(t *testing.T) {
	lm := fuzzLocal
	lm.Private, lm.Vouched = &Private{Port: 4002}, true
	key := func(fill string) string {
		return "m=audio 5000 RTP/SAVP 8\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + strings.Repeat(fill, 40) + "\r\n"
	}
	c := NewCall()
	agree := func(how string, by func() (sip.Media, error)) *Protection {
		t.Helper()
		m, err := by()
		if err != nil || protection(m) == nil {
			t.Fatalf("%s: %+v, %v", how, m, err)
		}
		return protection(m)
	}
	offered := func(how, fill string) *Protection {
		t.Helper()
		return agree(how, func() (sip.Media, error) {
			_, m, err := c.With(lm).Answer([]byte(head+key(fill)), thereAt)
			return m, err
		})
	}
	asked := func(how, fill string, end sip.LocalMedia) *Protection {
		t.Helper()
		return agree(how, func() (sip.Media, error) {
			if _, err := end.Offer(); err != nil {
				return sip.Media{}, err
			}
			return end.Take([]byte(head+key(fill)), thereAt)
		})
	}
	first := offered("at first", "A")
	if again := offered("again", "A"); !again.Own.Equal(first.Own) {
		t.Error("our key changes when nothing does")
	}
	if same := asked("by us", "A", c.With(lm)); !same.Own.Equal(first.Own) {
		t.Error("our key changes when nothing does, by our own offer")
	}
	wanting := lm
	wanting.NewKeys = true
	end := c.With(wanting)
	second := asked("when worn", "B", end)
	if second.Own.Equal(first.Own) || second.Peer.Equal(first.Peer) {
		t.Error("keys are as before, though they are worn")
	}
	if again := asked("by the same end", "B", end); !again.Own.Equal(second.Own) {
		t.Error("our key changes again and again")
	}
	if again := offered("by the peer's key", "B"); !again.Own.Equal(second.Own) {
		t.Error("our key changes though the peer's does not")
	}
	if third := offered("by another of the peer's", "C"); third.Own.Equal(second.Own) {
		t.Error("our key stays when the peer's is worn")
	}
}

// FuzzPrivateSDP: whatever is offered to a phone that can be private: what is said to
// be private has keys, no key is in what does not go by TLS, and whoever answers us
// by one of our own descriptions is understood.
func FuzzPrivateSDP(f *testing.F) {
	for _, s := range slices.Concat(descriptions, oddities) {
		f.Add([]byte(s), true)
	}
	f.Add([]byte(head+"m=audio 5000 RTP/SAVP 8\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"+inlineCM+"\r\n"), true)
	f.Add([]byte(head+"m=audio 5000 RTP/AVP 8\r\na=crypto:1 AEAD_AES_128_GCM inline:"+inlineGCM+"|2^20 WSH=1\r\na=rtcp-mux\r\n"), false)
	f.Add([]byte(head+finger+"m=audio 5000 UDP/TLS/RTP/SAVP 8\r\na=setup:passive\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n"), true)
	f.Fuzz(func(t *testing.T, offer []byte, tls bool) {
		lm := privately('a', true, tls)
		c := NewCall()
		for range 2 {
			answer, m, err := c.With(lm).Answer(offer, thereAt)
			if err != nil {
				return
			}
			p := protection(m)
			switch {
			case m.Private && (p == nil || !tls):
				t.Fatalf("private: %+v", m)
			case !tls && strings.Contains(string(answer), "a=crypto"):
				t.Fatalf("a key in the clear:\n%s", answer)
			case p != nil && p.Suite == "" && len(p.Fingerprints) == 0, p != nil && p.Suite != "" && (p.Own.Len() == 0 || p.Peer.Len() != p.Own.Len()):
				t.Fatalf("private without keys: %+v", p)
			}
			if _, err := readDescription(answer); err != nil {
				t.Fatal(err)
			}
			own, err := c.With(lm).Offer()
			if err != nil {
				t.Fatal(err)
			}
			other := NewCall()
			if _, again, err := other.With(privately('b', true, tls)).Answer(own, hereAt); err != nil || (protection(again) == nil) != (p == nil) {
				t.Fatalf("our own offer: %+v, %v\n%s", again, err, own)
			}
		}
	})
}
