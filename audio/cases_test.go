package audio_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"flexphone/audio"
	"flexphone/audio/audiotest"
)

// How much is understood over each kind of bad network, in simulated time: half a minute
// of speech, once before that by which the buffer learns of the network. What sound cards
// and processors add is told by the bench.
func TestSpeechOverBadNetworks(t *testing.T) {
	const ms = time.Millisecond
	type way func(r *rand.Rand, n int) []time.Duration
	at := func(d time.Duration) []time.Duration { return []time.Duration{20*ms + d} }
	for name, tt := range map[string]struct {
		way        way
		pcmu, opus float64
		moves      bool // the delay changes on the way
	}{
		"clean":         {func(*rand.Rand, int) []time.Duration { return at(0) }, 0.985, 0.96, false},
		"5 % lost":      {func(r *rand.Rand, _ int) []time.Duration { return at(0)[:1-btoi(r.IntN(20) == 0)] }, 0.97, 0.945, false},
		"two at a time": {func(_ *rand.Rand, n int) []time.Duration { return at(0)[:1-btoi(n%17 < 2)] }, 0.92, 0.88, false},
		"jitter of 20":  {func(r *rand.Rand, _ int) []time.Duration { return at(time.Duration(r.IntN(20)) * ms) }, 0.98, 0.955, true},
		"jitter of 60":  {func(r *rand.Rand, _ int) []time.Duration { return at(time.Duration(r.IntN(60)) * ms) }, 0.96, 0.93, true},
		"overtaken":     {func(_ *rand.Rand, n int) []time.Duration { return at(time.Duration(25*btoi(n%10 == 0)) * ms) }, 0.98, 0.955, true},
		"repeated":      {func(_ *rand.Rand, n int) []time.Duration { return append(at(0), at(time.Duration(n%7*30)*ms)...) }, 0.98, 0.955, false},
		"stands by turn": {func(_ *rand.Rand, n int) []time.Duration {
			return at(max(0, 100*ms-time.Duration(n)*20*ms%(2*time.Second)))
		}, 0.97, 0.94, true},
	} {
		for codec, want := range map[string]float64{"PCMU": tt.pcmu, "opus": tt.opus} {
			t.Run(name+"/"+codec, func(t *testing.T) {
				t.Parallel()
				i := slices.IndexFunc(formats(), func(f audio.Format) bool { return f.Codec().Name == codec })
				words, r := much(t), rand.New(rand.NewPCG(7, 8))
				words = words[:len(words)/320*320]
				over(t, formats()[i].Codec(), "", slices.Concat(words, words), func(n int) []time.Duration { return tt.way(r, n) },
					func(t *testing.T, b *phone, _ []int16) {
						heard := b.card.ear[len(words):]
						if tt.moves {
							heard, _ = audiotest.Follow(words, heard, 16000)
						}
						s, understood := b.Stats(), audiotest.Intelligibility(words, heard, 16000)
						if t.Logf("%.3f is understood; %+v", understood, s); understood < want {
							t.Errorf("%.3f is understood, want %.3f; %+v", understood, want, s)
						}
					})
			})
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
