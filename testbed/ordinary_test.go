package testbed

import (
	"context"
	"fmt"
	"slices"
	"testing"
)

// dialFails has p call number in vain and checks what the user hears and reads:
// the number, and in the second line why.
func dialFails(ctx context.Context, t testing.TB, p *Phone, number, reason, tone, line string) {
	t.Helper()
	dial(ctx, t, p, number)
	await(ctx, t, p, "ended", "reason", reason)
	s, err := p.Status(ctx)
	must(t, err)
	if s.State != "releasing" || s.Tone != tone {
		t.Errorf("after %s ended with %q the phone is %s with the tone %q; want releasing, %q", number, reason, s.State, s.Tone, tone)
	}
	if want := []string{number, line}; !slices.Equal(s.Display, want) {
		t.Errorf("after %s ended with %q the display says %q; want %q", number, reason, s.Display, want)
	}
	must(t, p.OnHook(ctx))
	await(ctx, t, p, "state", "state", "standby")
}

func TestCallsThatCannotBe(t *testing.T) {
	ctx, bed, phones := town(t, Config{}, 3)
	a, b, c := phones[0], phones[1], phones[2]

	t.Run("unknown number", func(t *testing.T) {
		dialFails(ctx, t, a, "999", "unknown number", "special information", "unknown number")
	})
	t.Run("outside the dial plan", func(t *testing.T) {
		dialFails(ctx, t, a, "12", "invalid number", "special information", "no such number")
	})
	t.Run("busy", func(t *testing.T) {
		talk, err := Call(ctx, b, c, "103")
		must(t, err)
		dialFails(ctx, t, a, "102", "busy", "busy", "busy")
		dialFails(ctx, t, a, "103", "busy", "busy", "busy")
		hearEachOther(ctx, t, b, c) // undisturbed
		must(t, talk.HangUp(ctx, b))
	})
	t.Run("given up by the caller", func(t *testing.T) {
		b.Mark()
		dial(ctx, t, a, "102")
		await(ctx, t, b, "ringing")
		s, err := b.Status(ctx)
		for err == nil && s.Display[1] == "calls, not proved" { // the storing server is asked
			s, err = b.Status(ctx)
		}
		must(t, err)
		if want := []string{"101", "is calling"}; !slices.Equal(s.Display, want) {
			t.Errorf("while it rings the display says %q; want %q", s.Display, want)
		}
		must(t, a.OnHook(ctx))
		await(ctx, t, b, "ended")
		await(ctx, t, b, "state", "state", "standby")
	})
	t.Run("no answer", func(t *testing.T) {
		dialFails(ctx, t, a, "102", "no answer", "busy", "no answer")
	})
	t.Run("phone switched off", func(t *testing.T) {
		must(t, c.PowerOff())
		dialFails(ctx, t, a, "103", "not connected", "special information", "not connected")
		must(t, c.Unplug())
		c.Mark()
		must(t, c.PowerOn(ctx))
		must(t, c.Plug())
		await(ctx, t, c, "registered")
		callWithSound(ctx, t, a, c, "103", addressOf(ctx, t, c))
	})
	t.Run("network down", func(t *testing.T) {
		a.Mark()
		must(t, a.Unplug())
		await(ctx, t, a, "state", "state", "initial")
		must(t, a.OffHook(ctx))
		s, err := a.Status(ctx)
		for err == nil && s.Tone == "" { // the handset is on its way up
			s, err = a.Status(ctx)
		}
		must(t, err)
		if want := []string{"No network", "waiting for an address"}; !slices.Equal(s.Display, want) || s.Tone != "congestion" {
			t.Errorf("without a network the phone says %q and sounds %q; want %q, congestion", s.Display, s.Tone, want)
		}
		must(t, a.OnHook(ctx))
		must(t, a.Plug())
		await(ctx, t, a, "registered")
	})
	t.Run("storing server away", func(t *testing.T) {
		bed.Server.Kill9()
		// Of a number that was called lately the phone knows enough to call it all the same.
		dialFails(ctx, t, a, "109", "no server", "congestion", "storing server away")
		// A call to an address needs no storing server.
		must(t, bed.Server.Start(ctx))
	})
}

// A standard phone of another maker calls and is called, in every codec that we
// share, and both hear each other.
func TestBaresip(t *testing.T) {
	for _, codec := range []string{"pcmu", "pcma", "g722", "opus"} {
		t.Run(codec, func(t *testing.T) {
			ctx, bed, phones := town(t, Config{}, 1)
			p := phones[0]
			voice := speak(t, "cards/005")
			fixed, err := bed.AddBaresip(ctx, BaresipConfig{Codec: codec, Speech: voice})
			must(t, err)

			t.Run("is called", func(t *testing.T) {
				dial(ctx, t, p, DialledAddr(fixed.Addr))
				await(ctx, t, p, "established")
				hearSpeech(ctx, t, p, voice)
				must(t, p.OnHook(ctx))
				await(ctx, t, p, "ended", "reason", "hangup")
				heardBy(ctx, t, fixed, p)
			})
			t.Run("calls", func(t *testing.T) {
				p.Mark()
				must(t, fixed.Dial("sip:"+p.MAC.Hex()+"@"+addressOf(ctx, t, p).String()))
				await(ctx, t, p, "ringing")
				if s, err := p.Status(ctx); err != nil || s.Display[1] != "calls, not proved" {
					t.Errorf("while it rings the display says %q, %v; nobody vouches for the caller", s.Display, err)
				}
				must(t, p.OffHook(ctx))
				await(ctx, t, p, "established")
				hearSpeech(ctx, t, p, voice)
				must(t, fixed.Hangup())
				await(ctx, t, p, "ended", "reason", "hangup")
				must(t, p.OnHook(ctx))
				heardBy(ctx, t, fixed, p)
			})
			if codec != "pcma" {
				return
			}
			t.Run("holds and is held", func(t *testing.T) {
				dial(ctx, t, p, DialledAddr(fixed.Addr))
				await(ctx, t, p, "established")
				_, err := p.Ctl(ctx, "hold")
				must(t, err)
				await(ctx, t, p, "held", "who", "local")
				_, err = p.Ctl(ctx, "retrieve")
				must(t, err)
				await(ctx, t, p, "retrieved", "who", "local")
				hearSpeech(ctx, t, p, voice)
				must(t, fixed.Hold())
				await(ctx, t, p, "held", "who", "peer")
				must(t, fixed.Resume())
				await(ctx, t, p, "retrieved", "who", "peer")
				hearSpeech(ctx, t, p, voice)
				must(t, p.OnHook(ctx))
				await(ctx, t, p, "ended", "reason", "hangup")
			})
		})
	}
}

// hearSpeech checks that p hears the speech of the other end.
func hearSpeech(ctx context.Context, t testing.TB, p *Phone, speech []int16) {
	t.Helper()
	heard, err := p.HearSpeech(ctx, speech)
	if err != nil {
		t.Fatal(err)
	}
	judge(t, p.Name, heard)
}

// heardBy checks that baresip, whose call is over, has heard p's speech.
func heardBy(ctx context.Context, t testing.TB, fixed *Baresip, p *Phone) {
	t.Helper()
	_, err := fixed.Await(ctx, "CALL_CLOSED")
	must(t, err)
	heard, err := fixed.CompareHeard(p)
	must(t, err)
	judge(t, "baresip", heard)
}

func TestSipp(t *testing.T) {
	ctx, bed, phones := town(t, Config{}, 1)
	p := phones[0]
	t.Run("uac", func(t *testing.T) {
		p.Mark()
		s, err := bed.StartSipp("uac", p.MAC.Hex(), addressOf(ctx, t, p))
		must(t, err)
		rungBy(ctx, t, p, s)
		must(t, p.OffHook(ctx))
		await(ctx, t, p, "established")
		await(ctx, t, p, "ended", "reason", "hangup")
		must(t, s.Wait(ctx))
		must(t, p.OnHook(ctx))
	})
	t.Run("uac with extensions", func(t *testing.T) { // RFC 3262, 3311, 4028
		p.Mark()
		s, err := bed.StartSipp("uac-extensions", p.MAC.Hex(), addressOf(ctx, t, p))
		must(t, err)
		rungBy(ctx, t, p, s)
		must(t, p.OffHook(ctx))
		await(ctx, t, p, "established")
		await(ctx, t, p, "ended", "reason", "hangup")
		must(t, s.Wait(ctx))
		must(t, p.OnHook(ctx))
	})
	t.Run("uas with extensions", func(t *testing.T) {
		s, err := bed.StartSipp("uas-extensions", "", addressOf(ctx, t, p))
		must(t, err)
		must(t, s.Listening(ctx))
		dial(ctx, t, p, DialledAddr(s.Addr))
		await(ctx, t, p, "established")
		must(t, p.OnHook(ctx))
		await(ctx, t, p, "ended", "reason", "hangup")
		must(t, s.Wait(ctx))
	})
	t.Run("uac that holds", func(t *testing.T) {
		p.Mark()
		s, err := bed.StartSipp("uac-holds", p.MAC.Hex(), addressOf(ctx, t, p))
		must(t, err)
		rungBy(ctx, t, p, s)
		must(t, p.OffHook(ctx))
		for _, name := range []string{"established", "held", "retrieved", "held", "retrieved", "ended"} {
			if e := await(ctx, t, p, name); name == "held" && e.Field("who") != "peer" {
				t.Errorf("%v; want it of the peer", e)
			}
		}
		must(t, s.Wait(ctx))
		must(t, p.OnHook(ctx))
	})
	t.Run("uac in pjsip's manner", func(t *testing.T) {
		p.Mark()
		s, err := bed.StartSipp("uac-pjsip", p.MAC.Hex(), addressOf(ctx, t, p))
		must(t, err)
		rungBy(ctx, t, p, s)
		must(t, p.OffHook(ctx))
		for _, name := range []string{"established", "held", "retrieved", "ended"} {
			if e := await(ctx, t, p, name); name == "held" && e.Field("who") != "peer" {
				t.Errorf("%v; want it of the peer", e)
			}
		}
		must(t, s.Wait(ctx))
		must(t, p.OnHook(ctx))
	})
	t.Run("uas in pjsip's manner", func(t *testing.T) {
		s, err := bed.StartSipp("uas-pjsip", "", addressOf(ctx, t, p))
		must(t, err)
		must(t, s.Listening(ctx))
		dial(ctx, t, p, DialledAddr(s.Addr))
		for _, name := range []string{"established", "held", "retrieved"} {
			await(ctx, t, p, name)
		}
		must(t, p.OnHook(ctx))
		await(ctx, t, p, "ended", "reason", "hangup")
		must(t, s.Wait(ctx))
	})
	t.Run("uas of which there are two", func(t *testing.T) {
		s, err := bed.StartSipp("uas-forks", "", addressOf(ctx, t, p))
		must(t, err)
		must(t, s.Listening(ctx))
		dial(ctx, t, p, DialledAddr(s.Addr))
		await(ctx, t, p, "established")
		must(t, s.AwaitBYE(ctx)) // of the second
		must(t, p.OnHook(ctx))
		await(ctx, t, p, "ended", "reason", "hangup")
		must(t, s.Wait(ctx))
	})
	t.Run("uas that leads in a circle", func(t *testing.T) {
		s, err := bed.StartSipp("uas-redirect", "", bed.nextFixed())
		must(t, err)
		must(t, s.Listening(ctx))
		dial(ctx, t, p, DialledAddr(s.Addr))
		if e := await(ctx, t, p, "ended"); e.Field("reason") == "hangup" {
			t.Errorf("%v of a call that leads to itself", e)
		}
		must(t, s.Wait(ctx)) // and it was asked once
		must(t, p.OnHook(ctx))
	})
	t.Run("uas elsewhere", func(t *testing.T) {
		there, err := bed.StartSipp("uas", "", addressOf(ctx, t, p))
		must(t, err)
		must(t, there.Listening(ctx))
		here, err := bed.StartSipp("uas-redirect", "", there.Addr)
		must(t, err)
		must(t, here.Listening(ctx))
		dial(ctx, t, p, DialledAddr(here.Addr))
		await(ctx, t, p, "established")
		must(t, p.OnHook(ctx))
		await(ctx, t, p, "ended", "reason", "hangup")
		must(t, here.Wait(ctx))
		must(t, there.Wait(ctx))
	})
	t.Run("uas elsewhere, by TLS", func(t *testing.T) {
		voice := speak(t, "cards/005")
		there, err := bed.AddBaresip(ctx, BaresipConfig{Codec: "pcma", Speech: voice, TLS: true})
		must(t, err)
		here, err := bed.StartSipp("uas-redirect-sips", "", there.Addr)
		must(t, err)
		must(t, here.Listening(ctx))
		dial(ctx, t, p, DialledAddr(here.Addr))
		await(ctx, t, p, "established")
		hearSpeech(ctx, t, p, voice)
		must(t, p.OnHook(ctx))
		await(ctx, t, p, "ended", "reason", "hangup")
		must(t, here.Wait(ctx))
	})
	t.Run("uas", func(t *testing.T) {
		s, err := bed.StartSipp("uas", "", addressOf(ctx, t, p))
		must(t, err)
		must(t, s.Listening(ctx))
		dial(ctx, t, p, DialledAddr(s.Addr))
		await(ctx, t, p, "established")
		must(t, p.OnHook(ctx))
		await(ctx, t, p, "ended", "reason", "hangup")
		must(t, s.Wait(ctx))
	})
}

// A telephone of another make that rings keeps the line from nobody of ours: who
// is proved takes the ring over, and the stranger hears that it is engaged. While
// ours rings, it is the stranger that does not get through.
func TestStrangersRingGivesWay(t *testing.T) {
	ctx, bed, phones := town(t, Config{}, 2)
	a, b := phones[0], phones[1]
	engaged := func(s *Sipp) {
		t.Helper()
		if err := s.Wait(ctx); err == nil {
			t.Error("the stranger was answered")
		}
		if status, err := s.Answer(); err != nil || status != "486" {
			t.Errorf("the stranger was told %q, %v; want 486", status, err)
		}
	}
	b.Mark()
	first, err := bed.StartSipp("uac", b.MAC.Hex(), addressOf(ctx, t, b))
	must(t, err)
	rungBy(ctx, t, b, first)
	must(t, a.OffHook(ctx))
	must(t, a.Press(ctx, "102#"))
	await(ctx, t, b, "ringing", "from", "101")
	engaged(first)
	if s, err := b.Status(ctx); err != nil || !slices.Equal(s.Display, []string{"101", "is calling"}) {
		t.Errorf("when ours has taken the ring over the display says %q, %v", s.Display, err)
	}
	second, err := bed.StartSipp("uac", b.MAC.Hex(), addressOf(ctx, t, b))
	must(t, err)
	engaged(second)
	must(t, b.OffHook(ctx))
	await(ctx, t, b, "established")
	hearEachOther(ctx, t, a, b)
	must(t, a.OnHook(ctx))
	must(t, b.OnHook(ctx))
	await(ctx, t, b, "state", "state", "standby")
}

// rungBy waits until s rings p, and fails with what it says where it has ended before.
func rungBy(ctx context.Context, t testing.TB, p *Phone, s *Sipp) {
	t.Helper()
	ctx, rings := context.WithCancelCause(ctx)
	defer rings(nil)
	go func() {
		select {
		case <-s.proc.done:
			rings(fmt.Errorf("sipp has ended: %v", s.proc.err)) // its log says why
		case <-ctx.Done():
		}
	}()
	await(ctx, t, p, "ringing")
}
