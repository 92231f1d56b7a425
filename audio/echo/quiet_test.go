package echo

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"flexphone/audio/audiotest"
)

// at has a handset say far, whose echo is of the level that a function of time gives, in
// dB, and somebody say near in a room of noise. It returns for each second whether the
// canceller rested at its end, what the microphone heard and what was sent.
func at(t *testing.T, level func(second int) float64, far, near []int16, noise float64) (rested []bool, heard, sent []int16) {
	t.Helper()
	const n = rate / ticksPerSecond
	p := NewDesk(Handset, false).Processor(rate).(*processor)
	r := newRoom(0.012, 1, 0.02, 9)
	energy := 0.0
	for _, g := range r.gains {
		energy += g * g
	}
	for i := range r.gains {
		r.gains[i] /= math.Sqrt(energy)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	coming, captured := make([]float64, n), make([]int16, n)
	for k := 0; k < len(far)/n; k++ {
		gain := math.Pow(10, level(k/ticksPerSecond)/20)
		for i := range captured {
			captured[i] = clip(float32(gain*coming[i] + float64(near[k*n+i]) + noise*rng.NormFloat64()))
		}
		heard = append(heard, captured...)
		play := slices.Clone(far[k*n : k*n+n])
		p.Play(play, captured)
		p.Capture(captured, play)
		sent = append(sent, captured...)
		coming = r.echo(play)
		if (k+1)%ticksPerSecond == 0 {
			rested = append(rested, p.mode == Off)
		}
	}
	return rested, heard, sent
}

func always(db float64) func(int) float64 { return func(int) float64 { return db } }

// The canceller of a handset rests where there is no echo, and does not where there is
// one that could be heard, or nobody can say.
func TestHandsetWithoutEcho(t *testing.T) {
	t.Parallel()
	const seconds = 12
	far := loop(audiotest.Speech(t, "numbers.raw", rate), seconds)
	other := loop(audiotest.Speech(t, "something.raw", rate), seconds)
	turns := slices.Clone(other) // somebody who waits until the far end has spoken
	clear(turns[:6*rate])
	silence := make([]int16, len(far))
	none := always(math.Inf(-1))
	for name, tt := range map[string]struct {
		level     func(int) float64
		far, near []int16
		noise     float64
		rests     bool
	}{
		"no echo":                         {none, far, silence, 5, true},
		"a dead room":                     {none, far, silence, 0, true},
		"a loud room":                     {none, far, silence, 30, true},
		"by turns":                        {none, far, turns, 5, true},
		"far below the room":              {always(-60), far, silence, 5, true},
		"faint":                           {always(-40), far, silence, 5, false},
		"faint, in a dead room":           {always(-45), far, silence, 0, false},
		"usual":                           {always(-30), far, silence, 5, false},
		"usual, by turns":                 {always(-30), far, turns, 5, false},
		"usual, while both talk":          {always(-30), far, other, 5, false},
		"nobody at the other end":         {none, silence, other, 5, false},
		"one voice, heard in the handset": {always(-20), far, silence, 5, false},
		"a far end that only whispers":    {none, quieter(far, 40), silence, 5, false},
		"a room as loud as a voice":       {always(-30), far, silence, 1000, false},
	} {
		t.Run(name, func(t *testing.T) {
			rested, heard, sent := at(t, tt.level, tt.far, tt.near, tt.noise)
			if got := slices.Contains(rested, true); got != tt.rests {
				t.Errorf("rested %v", rested)
			}
			if end := len(rested) - 1; tt.rests && rested[end] && rested[end-1] && !slices.Equal(heard[len(heard)-rate/2:], sent[len(sent)-rate/2:]) {
				t.Error("a canceller that rests changes what is said")
			}
		})
	}
}

// quieter is sound some dB below.
func quieter(pcm []int16, db float64) (out []int16) {
	for _, v := range pcm {
		out = append(out, int16(float64(v)*math.Pow(10, -db/20)))
	}
	return out
}

// An echo that begins while the canceller rests, as where a handset is laid on a table, is
// taken out soon.
func TestEchoThatBegins(t *testing.T) {
	t.Parallel()
	const begins, seconds = 8, 18
	far := loop(audiotest.Speech(t, "numbers.raw", rate), seconds)
	rested, heard, sent := at(t, func(second int) float64 {
		if second < begins {
			return math.Inf(-1)
		}
		return -25
	}, far, make([]int16, len(far)), 5)
	if !rested[begins-1] || slices.Contains(rested[begins+3:], true) {
		t.Errorf("rested %v", rested)
	}
	// As one that was there from the beginning.
	_, all, left := at(t, always(-25), far, make([]int16, len(far)), 5)
	end := 14 * rate
	erle, want := decibels(power(heard[end:])/power(sent[end:])), decibels(power(all[end:])/power(left[end:]))
	if t.Logf("taken down by %.1f dB, one that was always there by %.1f dB", erle, want); erle < want-3 {
		t.Error("that is much less")
	}
}

// What is known of a handset is not of a loudspeaker.
func TestHandsFreeNeverRests(t *testing.T) {
	const n = rate / ticksPerSecond
	d := NewDesk(Handset, false)
	p := d.Processor(rate).(*processor)
	for tick := range 1000 {
		if tick == 500 {
			if p.mode != Off {
				t.Error("a handset without echo has its canceller work")
			}
			d.SetMode(HandsFree)
		}
		play, captured := sine(tick, n, 8000), make([]int16, n)
		p.Play(play, captured)
		p.Capture(captured, play)
	}
	if p.mode != HandsFree || p.now == nil {
		t.Errorf("mode %v", p.mode)
	}
}
