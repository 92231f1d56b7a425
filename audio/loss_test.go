package audio_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"flexphone/audio"
	"flexphone/audio/audiotest"
)

// through passes speech of 16 kHz through a codec, of whose packets of 20 ms some
// are lost, and returns how much of it is understood: as the decoder makes up what
// is missing, or with holes of silence.
func through(t *testing.T, f audio.Format, spoken []int16, percent int, holes bool) float64 {
	t.Helper()
	const rate, packet, tick = 16000, 320, 160
	e, err := f.NewEncoder(rate, 20*time.Millisecond, "")
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.NewDecoder(rate)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, uint64(percent)))
	var heard []int16
	b, pcm := make([]byte, 1300), make([]int16, packet)
	for frame := range slices.Chunk(spoken[:len(spoken)/packet*packet], packet) {
		n, err := e.Encode(b, frame)
		if err != nil {
			t.Fatal(err)
		}
		switch lost := r.IntN(100) < percent; {
		case !lost:
			_, err = d.Decode(pcm, b[:n])
		case holes:
			clear(pcm)
		default:
			err = errors.Join(d.Conceal(pcm[:tick]), d.Conceal(pcm[tick:]))
		}
		if err != nil {
			t.Fatal(err)
		}
		heard = append(heard, pcm...)
	}
	return audiotest.Intelligibility(spoken, heard, rate)
}

// much is half a minute of four speakers, of 16 kHz.
func much(t *testing.T) (speech []int16) {
	for _, name := range []string{speechA, speechB, "numbers.raw", "cards/002.wav", "cards/004.wav", "cards/005.wav"} {
		speech = append(speech, audiotest.Speech(t, name, 16000)...)
	}
	return speech
}

// What is lost is made up, so that words are understood that holes would have
// taken away.
func TestWordsAreUnderstoodInSpiteOfLoss(t *testing.T) {
	type bound struct{ least, gain float64 }
	least := map[string]map[int]bound{ // PCMA differs from PCMU by nothing that matters here
		"PCMU": {10: {0.935, 0.03}, 20: {0.905, 0.07}},
		"G722": {10: {0.9, 0.02}, 20: {0.865, 0.04}},
		"opus": {10: {0.92, 0.02}, 20: {0.865, 0.04}},
	}
	for _, f := range formats() {
		for percent, want := range least[f.Codec().Name] {
			t.Run(fmt.Sprintf("%s/%d", f.Codec().Name, percent), func(t *testing.T) {
				t.Parallel()
				spoken := much(t)
				made, holes := through(t, f, spoken, percent, false), through(t, f, spoken, percent, true)
				if t.Logf("%d %% lost: %.3f, with holes %.3f", percent, made, holes); made < want.least || made-holes < want.gain {
					t.Errorf("%.3f is understood, with holes %.3f; want %.3f, and %.2f more than with holes", made, holes, want.least, want.gain)
				}
			})
		}
	}
}

// Over a network that loses packets at random, and nothing else, the delay stays
// what it was, and as much is understood as the codec alone leaves of it.
func TestLossCostsWordsAndNoTime(t *testing.T) {
	type peer struct{ codec, params string }
	least := map[peer]map[int]float64{
		{"PCMU", ""}: {10: 0.96, 20: 0.915},
		{"G722", ""}: {10: 0.94},
		{"opus", ""}: {10: 0.94, 20: 0.86},
		// What is repeated is repeated once the first report has come.
		{"opus", "useinbandfec=1"}:                         {10: 0.97, 20: 0.92},
		{"opus", "useinbandfec=1;maxaveragebitrate=24000"}: {10: 0.955, 20: 0.89},
	}
	for p, bounds := range least {
		for percent, want := range bounds {
			t.Run(fmt.Sprintf("%s %s/%d", p.codec, p.params, percent), func(t *testing.T) {
				t.Parallel()
				i := slices.IndexFunc(formats(), func(f audio.Format) bool { return f.Codec().Name == p.codec })
				r := rand.New(rand.NewPCG(2, uint64(percent)))
				words := much(t)
				words = words[:len(words)/320*320]
				// As much again before, by which the buffer learns of the network.
				over(t, formats()[i].Codec(), p.params, slices.Concat(words, words), func(n int) []time.Duration {
					if n == len(words)/320+1 {
						r = rand.New(rand.NewPCG(2, uint64(percent)))
					}
					if r.IntN(100) < percent {
						return nil
					}
					return []time.Duration{20 * time.Millisecond}
				}, func(t *testing.T, b *phone, _ []int16) {
					s, understood := b.Stats(), audiotest.Intelligibility(words, b.card.ear[len(words):], 16000)
					t.Logf("%.3f is understood; %+v", understood, s)
					if understood < want || s.Late != 0 || s.Delay > 70*time.Millisecond {
						t.Errorf("%.3f is understood, want %.3f; %d were late, and %v wait", understood, want, s.Late, s.Delay)
					}
				})
			})
		}
	}
}

// A network that stands still for a fifth of a second each three seconds, and then
// brings all that was sent meanwhile, costs few words once it is known.
func TestStallsCostFewWords(t *testing.T) {
	const ms = time.Millisecond
	const packet, stall, every = 20 * ms, 200 * ms, 3 * time.Second
	for name, want := range map[string]float64{"PCMU": 0.98, "opus": 0.98} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(formats(), func(f audio.Format) bool { return f.Codec().Name == name })
			words := much(t)
			over(t, formats()[i].Codec(), "", slices.Concat(words, words), func(n int) []time.Duration {
				return []time.Duration{20*ms + max(0, stall-time.Duration(n)*packet%every)}
			}, func(t *testing.T, b *phone, _ []int16) {
				heard, _ := audiotest.Follow(words, b.card.ear[len(words):], 16000)
				s, understood := b.Stats(), audiotest.Intelligibility(words, heard, 16000)
				t.Logf("%.3f is understood; %+v", understood, s)
				if understood < want || s.PacketsLost != 0 {
					t.Errorf("%.3f is understood, want %.3f; %+v", understood, want, s)
				}
			})
		})
	}
}
