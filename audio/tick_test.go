package audio_test

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/audio"
	"flexphone/audio/limit"
	"flexphone/audio/udp"
)

// whistleOf is a tone of so many Hz, and levels tells how loud each of some is in a
// piece of sound: 1 for a whistle alone.
func whistleOf(hz float64, rate int, d time.Duration) []int16 {
	pcm := make([]int16, rate/100*int(d/audio.TickDuration))
	for i := range pcm {
		pcm[i] = int16(whistleLoud * math.Sin(2*math.Pi*hz*float64(i)/float64(rate)))
	}
	return pcm
}

const whistleLoud = 4000.0 // three at once are below all limits

func levels(pcm []int16, rate int, hz ...float64) []float64 {
	var found []float64
	for _, f := range hz {
		var re, im float64
		for i, v := range pcm {
			sin, cos := math.Sincos(2 * math.Pi * f * float64(i) / float64(rate))
			re += float64(v) * cos
			im += float64(v) * sin
		}
		found = append(found, math.Hypot(re, im)*2/float64(len(pcm))/whistleLoud)
	}
	return found
}

// A conference is two calls of one phone, whose peers are at hosts A and B. Each of
// the three whistles, and a tone plays.
type conference struct {
	engine *audio.Engine
	card   *card
	peers  [2]*phone
	calls  [2]*audio.Stream
}

// The pitch of the phone's microphone, of its peers, and of its own tone; apart by
// so much that none is taken for another.
const (
	hzMic, hzA, hzB, hzTone = 500, 700, 900, 1100
)

func confer(t *testing.T, rate int, process func(rate int) audio.Processor) *conference {
	t.Helper()
	const long = 4 * time.Second
	n := newNetwork()
	c := &conference{card: newCard(rate, whistleOf(hzMic, rate, long))}
	c.engine = audio.NewEngine(audio.Config{
		Open: func() (audio.Device, error) { return c.card, nil }, Formats: formats(), Processor: process, Log: quiet(),
	})
	codec := formats()[2].Codec()
	for i, host := range []string{hostA, hostB} {
		w := n.wire(netip.MustParseAddrPort([]string{"192.0.2.11:20000", "192.0.2.12:20000"}[i]))
		c.peers[i] = newPhone(n, host, newCard(rate, whistleOf([]float64{hzA, hzB}[i], rate, long)))
		c.peers[i].talkTo(t, w.addr, codec, 0)
		w.lead(c.peers[i].addr)
		c.calls[i] = c.engine.Open(w)
		if err := c.calls[i].Start(audio.Session{Codec: codec, Send: true, Recv: true}); err != nil {
			t.Fatal(err)
		}
	}
	level := 20 * math.Log10(whistleLoud/math.MaxInt16)
	c.engine.Play(audio.Tone{Segments: []audio.Segment{{Hz: []float64{hzTone}, Level: level + 3.14}}})
	return c
}

// run lets all three run, and returns what each hears in the middle of it.
func (c *conference) run(t *testing.T) (here, a, b []float64) {
	t.Helper()
	run(t, 3*time.Second, &phone{engine: c.engine}, c.peers[0], c.peers[1])
	hear := func(c *card) []float64 {
		return levels(c.ear[c.rate:2*c.rate], c.rate, hzMic, hzA, hzB, hzTone)
	}
	return hear(c.card), hear(c.peers[0].card), hear(c.peers[1].card)
}

func (c *conference) close() {
	for i := range c.peers {
		c.calls[i].Close()
		c.peers[i].Close()
	}
}

// heardAs asserts who is heard, of microphone, A, B and tone.
func heardAs(t *testing.T, who string, got []float64, want ...float64) {
	t.Helper()
	for i := range want {
		if math.Abs(got[i]-want[i]) > 0.1 {
			t.Errorf("%s hears %.2f of microphone, A, B and tone, want %.0f", who, got, want)
			return
		}
	}
}

// Each end of two calls at once hears all the others, and not itself; tones are
// heard here alone.
func TestEachEndHearsAllButItself(t *testing.T) {
	for _, rate := range []int{8000, 16000, 48000} {
		synctest.Test(t, func(t *testing.T) {
			c := confer(t, rate, nil)
			here, a, b := c.run(t)
			heardAs(t, "the phone", here, 0, 1, 1, 1)
			heardAs(t, "A", a, 1, 0, 1, 0)
			heardAs(t, "B", b, 1, 1, 0, 0)
			c.close()
		})
	}
}

// A muted call hears the other one; one that is on hold neither hears nor is heard.
func TestMuteAndHoldOfOneOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := confer(t, 8000, nil)
		c.calls[0].Mute(true)
		here, a, b := c.run(t)
		heardAs(t, "the phone", here, 0, 1, 1, 1)
		heardAs(t, "A, for whom it is muted", a, 0, 0, 1, 0)
		heardAs(t, "B", b, 1, 1, 0, 0)
		c.close()
	})
	synctest.Test(t, func(t *testing.T) {
		c := confer(t, 8000, nil)
		if err := c.calls[0].Start(audio.Session{Codec: formats()[2].Codec()}); err != nil {
			t.Fatal(err)
		}
		here, a, b := c.run(t)
		heardAs(t, "the phone", here, 0, 0, 1, 1)
		heardAs(t, "A, on hold", a, 0, 0, 0, 0)
		heardAs(t, "B", b, 1, 0, 0, 0)
		c.close()
	})
}

// Loud voices neither wrap round nor hurt.
func TestLoudVoicesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := confer(t, 8000, nil)
		for _, card := range []*card{c.card, c.peers[0].card, c.peers[1].card} {
			for i := range card.mic {
				card.mic[i] = 30000
			}
		}
		c.engine.Play(audio.Tone{})
		run(t, time.Second, &phone{engine: c.engine}, c.peers[0], c.peers[1])
		for i, card := range []*card{c.card, c.peers[0].card, c.peers[1].card} {
			least, most := slices.Min(card.ear[4000:6000]), slices.Max(card.ear)
			if least < limit.Level*9/10 || most > limit.Peak {
				t.Errorf("end %d hears from %d to %d", i, least, most)
			}
		}
		c.close()
	})
}

// A watcher remembers what it was given, and changes it.
type watcher struct {
	rate           int
	ticks          int
	captured, play []int16 // before it changed them
	played         []int16
	change         func([]int16)
}

func (w *watcher) Play(play, captured []int16) {
	w.ticks++
	w.captured = append(w.captured, captured...)
	w.play = append(w.play, play...)
	w.change(play)
}

func (w *watcher) Capture(captured, played []int16) {
	w.played = append(w.played, played...)
	w.change(captured)
}

// A processor sees what was captured and what will be played, tones and all, of
// each tick, before anybody hears it, and has the last word on both.
func TestProcessorSeesBothWaysOfATick(t *testing.T) {
	for _, rate := range []int{8000, 16000, 48000} {
		synctest.Test(t, func(t *testing.T) {
			var w *watcher
			spoken := whistleOf(hzMic, rate, 4*time.Second)
			c := confer(t, rate, func(rate int) audio.Processor {
				w = &watcher{rate: rate, change: func(pcm []int16) {
					for i := range pcm {
						pcm[i] /= 2
					}
				}}
				return w
			})
			before := c.engine.Progress()
			here, a, b := c.run(t)
			ticks := int(c.engine.Progress() - before)
			heardAs(t, "the phone", here, 0, 0.5, 0.5, 0.5)
			heardAs(t, "A", a, 0.5, 0, 1, 0)
			heardAs(t, "B", b, 0.5, 1, 0, 0)
			if w.rate != rate || w.ticks != ticks || len(w.captured) != ticks*rate/100 || len(w.play) != len(w.captured) {
				t.Fatalf("%d ticks at %d Hz, saw %d of %d and %d samples at %d Hz", ticks, rate, w.ticks, len(w.captured), len(w.play), w.rate)
			}
			if !slices.Equal(w.captured, spoken[:len(w.captured)]) {
				t.Error("what was captured is not what the processor saw")
			}
			// What it saw in one tick is played in the next.
			for i, v := range w.play[:len(w.play)-rate/100] {
				if played := c.card.ear[i+rate/100]; played != v/2 || played != w.played[i] {
					t.Fatalf("sample %d was %d, is played as %d, and %d was told", i, v, played, w.played[i])
				}
			}
			c.close()
		})
	}
}

// A processor that panics, in its making or in its work, is left out from then on.
func TestProcessorThatPanicsIsLeftOut(t *testing.T) {
	for name, process := range map[string]func(int) audio.Processor{
		"making": func(int) audio.Processor { panic("processor") },
		"work": func(int) audio.Processor {
			return &watcher{change: func([]int16) { panic("processor") }}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := confer(t, 16000, process)
				here, a, b := c.run(t)
				heardAs(t, "the phone", here, 0, 1, 1, 1)
				heardAs(t, "A", a, 1, 0, 1, 0)
				heardAs(t, "B", b, 1, 1, 0, 0)
				c.close()
			})
		})
	}
}

// conferring returns an engine in calls with itself over loopback, with a
// processor.
func conferring(t testing.TB, f audio.Format, rate, calls int) *audio.Engine {
	t.Helper()
	e := audio.NewEngine(audio.Config{
		Open: func() (audio.Device, error) { return still(rate), nil }, Formats: formats(), Log: quiet(),
		Processor: func(int) audio.Processor { return halving{} },
	})
	e.Retune(rate)
	local := netip.MustParseAddr("127.0.0.1")
	for range calls {
		p, err := udp.Open(t.Context(), local, udp.PortRange{})
		if err != nil {
			t.Fatal(err)
		}
		p.SetPeer(netip.AddrPortFrom(local, p.Port()), netip.AddrPort{})
		s := e.Open(p)
		t.Cleanup(func() { s.Close() })
		if err := s.Start(audio.Session{Codec: f.Codec(), DTMF: 101, Noise: 13, Send: true, Recv: true}); err != nil {
			t.Fatal(err)
		}
		s.SendDigit('5')
	}
	e.Play(audio.Germany().Ringing)
	return e
}

type halving struct{}

func (halving) Play(play, _ []int16)        { halve(play) }
func (halving) Capture(captured, _ []int16) { halve(captured) }

func halve(pcm []int16) {
	for i := range pcm {
		pcm[i] /= 2
	}
}

func TestTicksDoNotAllocate(t *testing.T) {
	for _, f := range formats() {
		for _, rate := range []int{8000, 16000, 48000} {
			e := conferring(t, f, rate, 2)
			play, captured := make([]int16, rate/100), make([]int16, rate/100)
			// What else runs is counted as well, such as reports where 300 ticks take seconds.
			least := math.Inf(1)
			for range 3 {
				least = min(least, testing.AllocsPerRun(100, func() { e.Tick(play, captured, time.Now()) }))
			}
			if least != 0 {
				t.Errorf("%s at %d Hz: %v allocations a tick", f.Codec().Name, rate, least)
			}
			if e.Progress() < 300 {
				t.Errorf("progress %d", e.Progress())
			}
		}
	}
}

func BenchmarkTick(b *testing.B) {
	for _, f := range formats() {
		for _, calls := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/calls=%d", f.Codec().Name, calls), func(b *testing.B) {
				const rate = 16000
				e := conferring(b, f, rate, calls)
				play, captured := make([]int16, rate/100), make([]int16, rate/100)
				b.ReportAllocs()
				for b.Loop() {
					e.Tick(play, captured, time.Now())
				}
			})
		}
	}
}
