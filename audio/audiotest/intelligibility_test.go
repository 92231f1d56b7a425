package audiotest

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"flexphone/audio/g711"
	"flexphone/audio/opus"
)

// lossy is x with holes of 20 ms in place of a part of its packets.
func lossy(x []int16, rate int, part float64) []int16 {
	y, r := slices.Clone(x), rand.New(rand.NewPCG(5, 6))
	for frame := range slices.Chunk(y, rate/50) {
		if r.Float64() < part {
			clear(frame)
		}
	}
	return y
}

// noisy is x with noise at a ratio, in dB.
func noisy(x []int16, ratio float64) []int16 {
	var power float64
	for _, v := range x {
		power += float64(v) * float64(v) / float64(len(x))
	}
	y := slices.Clone(x)
	for i, v := range noise(len(x), math.Sqrt(power*math.Pow(10, -ratio/10))) {
		y[i] = int16(min(max(int(y[i])+int(v), -32768), 32767))
	}
	return y
}

// A copy is 1, however loud and however late; what is wrong takes away, and more
// of it more; of what was never said nothing is understood.
func TestIntelligibility(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		x := slices.Concat(Speech(t, spoken, rate), Speech(t, other, rate))
		quiet := slices.Clone(x)
		for i := range quiet {
			quiet[i] /= 4
		}
		for _, tt := range []struct {
			name        string
			y           []int16
			least, most float64
		}{
			{"itself", x, 0.9999, 1},
			{"quieter, and later", slices.Concat(silence(300*time.Millisecond, rate), quiet), 0.999, 1},
			{"by G.711", through(t, g711.PCMU(), x, rate), 0.97, 1},
			{"by Opus", through(t, opus.Format{}, x, rate), 0.94, 0.995},
			{"a twentieth lost", lossy(x, rate, 0.05), 0.9, 0.97},
			{"a tenth lost", lossy(x, rate, 0.1), 0.84, 0.9},
			{"a quarter lost", lossy(x, rate, 0.25), 0.7, 0.83},
			{"noise at 20 dB", noisy(x, 20), 0.73, 0.9},
			{"noise at 5 dB", noisy(x, 5), 0.57, 0.72},
			{"noise at -10 dB", noisy(x, -10), 0.35, 0.52},
			{"only noise", noise(len(x), 1000), -0.1, 0.33},
			{"other speech", Speech(t, third, rate), -0.1, 0.3},
			{"silence", make([]int16, len(x)), 0, 0},
			{"nothing", nil, 0, 0},
		} {
			got := Intelligibility(x, tt.y, rate)
			t.Logf("%d Hz, %s: %.3f", rate, tt.name, got)
			if !(got >= tt.least && got <= tt.most+1e-9) {
				t.Errorf("%d Hz, %s: %.3f, want %.2f to %.2f", rate, tt.name, got, tt.least, tt.most)
			}
		}
		if got := Intelligibility(x[:rate/10], x, rate); got != 0 {
			t.Errorf("a tenth of a second: %.3f", got)
		}
	}
}

// The values that the algorithm's reference has, as its authors published it (in a
// port of it to NumPy), of the same samples. Its filters of rates are others: a few
// thousandths are theirs.
func TestIntelligibilityOfTheReference(t *testing.T) {
	const off = 0.006
	for rate, want := range map[int]struct{ lost, noise [3]float64 }{
		8000:  {[3]float64{0.92897, 0.85822, 0.77187}, [3]float64{0.77917, 0.61604, 0.39177}},
		16000: {[3]float64{0.93377, 0.87432, 0.78397}, [3]float64{0.81130, 0.64671, 0.42668}},
	} {
		x := slices.Concat(Speech(t, spoken, rate), Speech(t, other, rate))
		for i, part := range []float64{0.05, 0.1, 0.25} {
			if got := Intelligibility(x, lossy(x, rate, part), rate); math.Abs(got-want.lost[i]) > off {
				t.Errorf("%d Hz, %v lost: %.4f, the reference has %.4f", rate, part, got, want.lost[i])
			}
		}
		for i, ratio := range []float64{20, 5, -10} {
			if got := Intelligibility(x, noisy(x, ratio), rate); math.Abs(got-want.noise[i]) > off {
				t.Errorf("%d Hz, noise at %v dB: %.4f, the reference has %.4f", rate, ratio, got, want.noise[i])
			}
		}
	}
}
