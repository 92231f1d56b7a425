package testbed

import (
	"os"
	"strings"
	"testing"
)

// A call between two of our phones is private, in what both ends say and in what
// somebody sees who reads along at the provider; and it stays so, and is heard,
// when one end moves, the other, and both at once.
func TestPrivateCallMoves(t *testing.T) {
	if board() != hostBoard {
		t.Skip("it moves programs")
	}
	ctx, bed, phones := town(t, Config{}, 2)
	a, b := phones[0], phones[1]
	sniffer, err := bed.Sniff()
	must(t, err)
	talk, err := Call(ctx, a, b, "102")
	must(t, err)
	hearEachOther(ctx, t, a, b)
	for _, p := range phones {
		s, err := p.Status(ctx)
		must(t, err)
		if talk.Security != "private" || !strings.Contains(string(s.Call), `"security":"private"`) || s.Display[1] != "private" {
			t.Errorf("%s says %q, %s; the event %q", p.Name, s.Display, s.Call, talk.Security)
		}
	}
	moveInCall(ctx, t, bed, b, East.Address(70))
	hearEachOther(ctx, t, a, b)
	moveInCall(ctx, t, bed, a, East.Address(71))
	hearEachOther(ctx, t, a, b)

	for i, p := range phones {
		p.Mark()
		must(t, bed.ISP.GiveNext(ctx, p.MAC, East.Address(72+i)))
	}
	for _, p := range phones {
		must(t, p.Unplug())
	}
	for _, p := range phones {
		await(ctx, t, p, "lease.lost")
	}
	for _, p := range phones {
		must(t, p.Plug())
	}
	for i, p := range phones {
		awaitAddress(ctx, t, p, East.Address(72+i))
	}
	hearEachOther(ctx, t, a, b)
	must(t, talk.HangUp(ctx, a))

	expectVoices(t, sniffer, true)
}

// A phone whose settings want it neither calls nor takes what is not private, and
// says so; between our phones it makes no difference.
func TestOnlyPrivate(t *testing.T) {
	if board() != hostBoard {
		t.Skip("it changes a program's settings")
	}
	ctx, bed, phones := town(t, Config{}, 2)
	a, b := phones[0], phones[1]
	must(t, a.PowerOff())
	m := program{a}
	must(t, os.WriteFile(m.config(), []byte("only_private = true\n"+m.settings()), 0o600))
	a.Mark()
	var err error
	a.proc, err = a.host.run(a.dir, command{name: a.Name, path: a.binary, args: []string{"run", "--config", m.config()}})
	must(t, err)
	must(t, a.listen(ctx))
	await(ctx, t, a, "registered")
	callWithSound(ctx, t, a, b, "102", addressOf(ctx, t, b))

	fixed, err := bed.AddBaresip(ctx, BaresipConfig{Codec: "opus", Speech: speak(t, "cards/005")})
	must(t, err)
	dial(ctx, t, a, DialledAddr(fixed.Addr))
	await(ctx, t, a, "ended", "reason", "cannot be private")
	s, err := a.Status(ctx)
	must(t, err)
	if s.Display[1] != "cannot be private" || s.Tone != "congestion" {
		t.Errorf("the display says %q, and it sounds %q", s.Display, s.Tone)
	}
	must(t, a.OnHook(ctx))
	mark := len(a.Events())
	must(t, fixed.Dial("sip:"+a.MAC.Hex()+"@"+addressOf(ctx, t, a).String()))
	closed, err := fixed.Await(ctx, "CALL_CLOSED")
	must(t, err)
	if !strings.Contains(closed.Param, "488") {
		t.Errorf("baresip's call in the clear ended with %q; want 488", closed.Param)
	}
	silent(t, a, mark)
}

// baresip calls over its TLS with what it has of keys, and over plain SIP with DTLS.
// Both hear each other, and the display says whether that is private.
func TestBaresipPrivately(t *testing.T) {
	for _, tt := range []struct {
		name string
		BaresipConfig
		says string
	}{
		{"DTLS, over TLS", BaresipConfig{Encryption: "dtls_srtp", TLS: true}, "private"},
		{"SDES, over TLS", BaresipConfig{Encryption: "srtp-mand", TLS: true}, "private"},
		{"SDES if we like, over TLS", BaresipConfig{Encryption: "srtp", TLS: true}, "private"},
		{"DTLS, over plain SIP", BaresipConfig{Encryption: "dtls_srtp"}, "not private"},
		{"SDES if we like, over plain SIP", BaresipConfig{Encryption: "srtp"}, "not private"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, bed, phones := town(t, Config{}, 1)
			p := phones[0]
			sniffer, err := bed.Sniff()
			must(t, err)
			voice := speak(t, "cards/005")
			tt.Codec, tt.Speech = "opus", voice
			fixed, err := bed.AddBaresip(ctx, tt.BaresipConfig)
			must(t, err)
			p.Mark()
			uri := "sip:" + p.MAC.Hex() + "@" + addressOf(ctx, t, p).String()
			if tt.TLS {
				uri += ":5061" // over TLS, as its account says
			}
			must(t, fixed.Dial(uri))
			await(ctx, t, p, "ringing")
			must(t, p.OffHook(ctx))
			established := await(ctx, t, p, "established")
			hearSpeech(ctx, t, p, voice)
			s, err := p.Status(ctx)
			must(t, err)
			if established.Field("security") != tt.says || s.Display[1] != tt.says {
				t.Errorf("the display says %q, the event %q; want %q", s.Display, established.Field("security"), tt.says)
			}
			must(t, fixed.Hangup())
			await(ctx, t, p, "ended", "reason", "hangup")
			must(t, p.OnHook(ctx))
			heardBy(ctx, t, fixed, p)
			expectVoices(t, sniffer, !strings.Contains(tt.name, "SDES if we like, over plain"))
		})
	}
}

// expectVoices checks that both directions of a call were seen, encrypted or not.
func expectVoices(t *testing.T, s *Sniffer, encrypted bool) {
	t.Helper()
	seen := 0
	for r, v := range s.Voices() {
		if v.Packets < 100 {
			continue
		}
		if seen++; v.Encrypted() != encrypted {
			t.Errorf("sound from %v to %v: encrypted %v, want %v", r.From, r.To, v.Encrypted(), encrypted)
		}
	}
	if seen < 2 {
		t.Errorf("%d directions of sound were seen", seen)
	}
}
