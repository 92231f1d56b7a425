package resample

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

var ratios = [][2]int{{44100, 48000}, {48000, 44100}, {44100, 16000}, {16000, 44100}}

// ticks changes the rate a tick at a time.
func (r *Ratio) ticks(dst, src []int16, from, to int) {
	for len(src) > 0 {
		r.Process(dst[:to/100], src[:from/100])
		dst, src = dst[to/100:], src[from/100:]
	}
}

// A tone stays that tone: as loud up to three tenths of the lower rate, and nothing
// beside it.
func TestRatioKeepsATone(t *testing.T) {
	for _, c := range ratios {
		from, to := c[0], c[1]
		t.Run(fmt.Sprint(from, to), func(t *testing.T) {
			most := 0.5*float64(min(from, to)) - 2*transition*float64(from)
			for hz := 100.0; hz < most; hz += most / 20 {
				src, dst := make([]int16, from), make([]int16, to)
				for i := range src {
					src[i] = int16(math.Round(20000 * math.Sin(2*math.Pi*hz*float64(i)/float64(from))))
				}
				NewRatio(from, to).ticks(dst, src, from, to)
				if g := level(dst[to/10:]) - level(src[from/10:]); math.Abs(g) > 0.5 {
					t.Errorf("%.0f Hz by %.2f dB", hz, g)
				}
				if rest := level(without(dst[to/10:], hz, to)) - level(dst[to/10:]); rest > -50 {
					t.Errorf("%.0f Hz: the rest is %.1f dB", hz, rest)
				}
			}
		})
	}
}

// without takes a sine out of sound.
func without(pcm []int16, hz float64, rate int) []int16 {
	var a, b float64
	at := func(i int) (sin, cos float64) { return math.Sincos(2 * math.Pi * hz * float64(i) / float64(rate)) }
	for i, v := range pcm {
		sin, cos := at(i)
		a += float64(v) * sin
		b += float64(v) * cos
	}
	rest := make([]int16, len(pcm))
	for i, v := range pcm {
		sin, cos := at(i)
		rest[i] = int16(math.Round(float64(v) - 2/float64(len(pcm))*(a*sin+b*cos)))
	}
	return rest
}

// What is above half of the lower rate is not heard as something else.
func TestRatioSilencesWhatHasNoPlace(t *testing.T) {
	for _, hz := range []float64{22500, 23500} {
		src, dst := make([]int16, 48000), make([]int16, 44100)
		for i := range src {
			src[i] = int16(math.Round(20000 * math.Sin(2*math.Pi*hz*float64(i)/48000)))
		}
		NewRatio(48000, 44100).ticks(dst, src, 48000, 44100)
		if g := level(dst[4410:]) - level(src[4800:]); g > -45 {
			t.Errorf("%.0f Hz is heard, %.1f dB", hz, g)
		}
	}
}

func TestRatioGoesOnBetweenTicks(t *testing.T) {
	src := make([]int16, 44100)
	for i := range src {
		src[i] = int16(7919 * i)
	}
	whole, parts := make([]int16, 48000), make([]int16, 48000)
	NewRatio(44100, 48000).Process(whole, src)
	r := NewRatio(44100, 48000)
	if a := testing.AllocsPerRun(1, func() { r.Process(parts[:480], src[:441]) }); a != 0 {
		t.Errorf("%v allocations a tick", a)
	}
	r = NewRatio(44100, 48000)
	r.ticks(parts, src, 44100, 48000)
	if !slices.Equal(whole, parts) {
		t.Error("ticks differ from the whole")
	}
}
