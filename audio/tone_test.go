package audio_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"flexphone/audio"
)

// hear returns what an engine plays of a tone.
func hear(play func(e *audio.Engine), rate int, d time.Duration) []int16 {
	e := audio.On(still(rate), nil, quiet())
	play(e)
	pcm, captured := make([]int16, rate/100), make([]int16, rate/100)
	var heard []int16
	for range d / audio.TickDuration {
		e.Tick(pcm, captured, time.Time{})
		heard = append(heard, pcm...)
	}
	return heard
}

// level returns the level of one frequency in pcm, in dBm0.
func level(pcm []int16, hz float64, rate int) float64 {
	var re, im float64
	for i, v := range pcm {
		w := 2 * math.Pi * hz * float64(i) / float64(rate)
		re, im = re+float64(v)*math.Cos(w), im+float64(v)*math.Sin(w)
	}
	amplitude := 2 * math.Hypot(re, im) / float64(len(pcm))
	return 20*math.Log10(max(amplitude, 1e-3)/32767) + 3.14
}

func TestTonesHaveTheirFrequencyLevelAndCadence(t *testing.T) {
	set := audio.Germany()
	for _, tone := range []audio.Tone{set.Dial, set.Ringback, set.Busy, set.Congestion, set.Unknown, set.Ringing} {
		for _, rate := range []int{8000, 16000, 48000} {
			heard := hear(func(e *audio.Engine) { e.Play(tone) }, rate, 12*time.Second)
			var at, end time.Duration
			for i := 0; at < 11*time.Second; i++ {
				if i == len(tone.Segments) && !tone.Repeat {
					t.Fatalf("%s ends", tone.Name)
				}
				s := tone.Segments[i%len(tone.Segments)]
				if end = at + s.For; s.For == 0 {
					end = 12 * time.Second
				}
				end = min(end, 12*time.Second)
				n := func(d time.Duration) int { return int(d * time.Duration(rate) / time.Second) }
				from, to := n(at+5*time.Millisecond), n(end-5*time.Millisecond)
				for _, hz := range s.Hz {
					if l := level(heard[from:to], hz, rate); math.Abs(l-s.Level) > 0.6 {
						t.Fatalf("%s at %d Hz, %v-%v: %.0f Hz has %.1f dBm0", tone.Name, rate, at, end, hz, l)
					}
				}
				if len(s.Hz) == 0 {
					for k, v := range heard[from:to] {
						if v != 0 {
							t.Fatalf("%s at %d Hz: %d in the pause, sample %d", tone.Name, rate, v, from+k)
						}
					}
				}
				at = end
			}
		}
	}
}

func TestKeysHaveTwoFrequenciesAndEnd(t *testing.T) {
	const rate = 8000
	want := map[rune][2]float64{'1': {697, 1209}, '5': {770, 1336}, '9': {852, 1477}, '0': {941, 1336}, '*': {941, 1209}, '#': {941, 1477}, 'D': {941, 1633}}
	for key, hz := range want {
		tone, ok := audio.DTMF(key, 100*time.Millisecond)
		if !ok {
			t.Fatalf("no tone for %q", key)
		}
		tone.Repeat = true // Feedback plays once whatever it says
		heard := hear(func(e *audio.Engine) { e.Feedback(tone) }, rate, 200*time.Millisecond)
		for _, f := range hz {
			if l := level(heard[rate/100:rate*9/100], f, rate); math.Abs(l+12) > 0.5 {
				t.Errorf("%q: %.0f Hz has %.1f dBm0", key, f, l)
			}
		}
		for _, v := range heard[rate/10:] {
			if v != 0 {
				t.Fatalf("%q does not end", key)
			}
		}
	}
	if _, ok := audio.DTMF('x', time.Second); ok {
		t.Error("x has a tone")
	}
}

func TestATonePlayedReplacesAndTheZeroToneIsSilence(t *testing.T) {
	const rate = 8000
	heard := hear(func(e *audio.Engine) {
		e.Play(audio.Germany().Dial)
		e.Play(audio.Germany().Unknown)
	}, rate, 300*time.Millisecond)
	if l := level(heard, 425, rate); l > -40 {
		t.Errorf("the first tone is still heard: %.1f dBm0", l)
	}
	for _, silent := range []audio.Tone{
		{},
		{Name: "instant", Segments: []audio.Segment{{Hz: []float64{400}, For: 1}}, Repeat: true},
	} {
		for _, v := range hear(func(e *audio.Engine) { e.Play(audio.Germany().Dial); e.Play(silent) }, rate, 100*time.Millisecond) {
			if v != 0 {
				t.Fatalf("%q is heard", silent.Name)
			}
		}
	}
}

// A tone that is cut off or replaced fades, wherever in its wave that is, and is
// over with the tick.
func TestToneThatIsCutOffFades(t *testing.T) {
	const hz, peak = 425, 7218 // of the dial tone, at -10 dBm0
	for _, rate := range []int{8000, 16000, 48000} {
		for _, next := range []audio.Tone{{}, audio.Germany().Busy} {
			for ticks := range 8 {
				e := audio.On(still(rate), nil, quiet())
				e.Play(audio.Germany().Dial)
				pcm, captured := make([]int16, rate/100), make([]int16, rate/100)
				var heard []int16
				for range 3 + ticks {
					e.Tick(pcm, captured, time.Time{})
					heard = append(heard, pcm...)
				}
				e.Play(next)
				for range 2 {
					e.Tick(pcm, captured, time.Time{})
					heard = append(heard, pcm...)
				}
				// The tone itself, and the fading of it within 4 ms.
				most := peak * (2*math.Pi*hz/float64(rate) + 2*1000/float64(4*rate))
				for i := 1; i < len(heard); i++ {
					if step := math.Abs(float64(heard[i]) - float64(heard[i-1])); step > most {
						t.Fatalf("%d Hz, %q: a step of %.0f, the steepest of the tone is %.0f", rate, next.Name, step, most)
					}
				}
				if l := slices.Max(pcm); next.Name == "" && l != 0 {
					t.Fatalf("%d Hz: %d is left of it", rate, l)
				}
			}
		}
	}
}
