package conceal_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"flexphone/audio/conceal"
)

// tone is n samples of a voice-like sound with a period, in samples.
func tone(n int, period float64) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		x := 2 * math.Pi * float64(i) / period
		pcm[i] = int16(6000*math.Sin(x) + 3000*math.Sin(2*x+1) + 1500*math.Sin(5*x+2))
	}
	return pcm
}

func power(pcm []int16) (p float64) {
	for _, v := range pcm {
		p += float64(v) * float64(v) / float64(len(pcm))
	}
	return p
}

// A periodic sound goes on as it would have, for as long as nothing fades, and what
// comes after a gap is what came.
func TestVoiceGoesOn(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		for hz := 70; hz <= 400; hz += 15 {
			t.Run(fmt.Sprintf("%d/%d", rate, hz), func(t *testing.T) {
				tick := rate / 100
				x := tone(40*tick, float64(rate)/float64(hz))
				y := append([]int16(nil), x...)
				c := conceal.New(rate)
				for i := 0; i < len(y); i += tick {
					if i/tick == 20 {
						c.Fill(y[i : i+tick])
					} else {
						c.Heard(y[i : i+tick])
					}
				}
				gap, wrong := x[20*tick:21*tick], make([]int16, tick)
				for i := range wrong {
					wrong[i] = gap[i] - y[20*tick+i]
				}
				// A period is a whole number of samples, so that a high voice is
				// out of tune by up to 1 %.
				if ratio := power(wrong) / power(gap); ratio > 0.1 {
					t.Errorf("the gap is wrong by %.0f %%", 100*ratio)
				}
				for i := range y {
					if i < 20*tick && y[i] != x[i] || i >= 22*tick && y[i] != x[i] {
						t.Fatalf("sample %d, which came, is %d instead of %d", i, y[i], x[i])
					}
				}
			})
		}
	}
}

// A long gap fades away within 60 ms, evenly and without a step, and stays silent.
func TestLongGapFades(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		tick := rate / 100
		c := conceal.New(rate)
		x := tone(100*tick, float64(rate)/130)
		c.Heard(x)
		var last float64
		steepest := 0
		for i := 1; i < len(x); i++ {
			steepest = max(steepest, int(x[i])-int(x[i-1]), int(x[i-1])-int(x[i]))
		}
		before := x[len(x)-1]
		for n := range 100 {
			pcm := make([]int16, tick)
			c.Fill(pcm)
			for _, v := range pcm {
				if step := max(int(v)-int(before), int(before)-int(v)); step > steepest*3/2 {
					t.Fatalf("%d Hz, tick %d: a step of %d, the sound's own are %d at most", rate, n, step, steepest)
				}
				before = v
			}
			p := power(pcm)
			switch {
			case n == 0 && p < power(x)/2, n > 1 && p > last, n >= 6 && p != 0:
				t.Errorf("%d Hz, tick %d: power %.0f after %.0f", rate, n, p, last)
			}
			last = p
		}
		pcm := tone(tick, float64(rate)/130)
		c.Heard(pcm)
		if pcm[0] > 1000 || pcm[0] < -1000 {
			t.Errorf("%d Hz: sound begins with %d", rate, pcm[0])
		}
	}
}

func TestFullScaleStaysInBounds(t *testing.T) {
	c, r := conceal.New(8000), rand.New(rand.NewPCG(1, 1))
	pcm := make([]int16, 80)
	for range 500 {
		for i := range pcm {
			pcm[i] = int16(32767 * (2*r.IntN(2) - 1))
		}
		c.Heard(pcm)
		for range r.IntN(4) {
			c.Fill(pcm)
			if power(pcm) == 0 {
				t.Fatal("noise was followed by silence")
			}
		}
	}
}

// FuzzGaps: after whatever, a gap is the same in whatever pieces it is filled, and
// is not heard any more soon after it.
func FuzzGaps(f *testing.F) {
	f.Add([]byte("a voice, or not"), uint8(1), uint8(3))
	f.Add([]byte{0x80, 0x7f, 0x80, 0x7f, 0, 0}, uint8(200), uint8(7))
	f.Fuzz(func(t *testing.T, b []byte, first, second uint8) {
		a, c := conceal.New(8000), conceal.New(8000)
		heard := make([]int16, 800)
		for i := range heard {
			if len(b) > 0 {
				heard[i] = int16(b[i%len(b)]) << 8
			}
		}
		a.Heard(append([]int16(nil), heard...))
		c.Heard(append([]int16(nil), heard...))
		n := int(first) + int(second)
		whole, pieces := make([]int16, n), make([]int16, n)
		a.Fill(whole)
		c.Fill(pieces[:first])
		c.Fill(pieces[first:])
		for i := range whole {
			if whole[i] != pieces[i] {
				t.Fatalf("sample %d of a gap is %d in one piece and %d in two", i, whole[i], pieces[i])
			}
		}
		after := make([]int16, 160)
		a.Heard(after)
		for _, v := range after[80:] {
			if v != 0 {
				t.Fatal("a gap goes on in what was heard")
			}
		}
	})
}

func TestNoAllocation(t *testing.T) {
	c, pcm := conceal.New(16000), make([]int16, 160)
	if n := testing.AllocsPerRun(100, func() { c.Heard(pcm); c.Fill(pcm); c.Fill(pcm) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkTick is 10 ms of 8 kHz: heard, and the first of a gap, which is the
// dearest.
func BenchmarkTick(b *testing.B) {
	c, pcm := conceal.New(8000), tone(80, 61)
	b.Run("heard", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.Heard(pcm)
		}
	})
	b.Run("gap", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.Heard(pcm)
			c.Fill(pcm)
		}
	})
}
