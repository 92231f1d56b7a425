package resample

import (
	"fmt"
	"math"
	"math/cmplx"
	"testing"
)

// gain returns the level of a sine of hz after process, in dB; the higher rate
// is 8000*factor, and rates are those before and after.
func gain(hz float64, from, to int, process func(dst, src []int16)) float64 {
	src := make([]int16, from) // a second
	for i := range src {
		src[i] = int16(math.Round(20000 * math.Sin(2*math.Pi*hz*float64(i)/float64(from))))
	}
	dst := make([]int16, to)
	process(dst, src)
	return level(dst[to/10:]) - level(src[from/10:])
}

func level(s []int16) float64 {
	var p float64
	for _, v := range s {
		p += float64(v) * float64(v)
	}
	return 10 * math.Log10(max(p, 1)/float64(len(s)))
}

func TestPassbandIsFlatAndStopbandIsSilent(t *testing.T) {
	for _, factor := range []int{2, 6} {
		t.Run(fmt.Sprint(factor), func(t *testing.T) {
			high := 8000 * factor
			for hz := 100.0; hz <= 3200; hz += 100 {
				if g := gain(hz, high, 8000, NewDown(factor).Process); math.Abs(g) > 0.5 {
					t.Errorf("down: %.0f Hz by %.2f dB", hz, g)
				}
				if g := gain(hz, 8000, high, NewUp(factor).Process); math.Abs(g) > 0.5 {
					t.Errorf("up: %.0f Hz by %.2f dB", hz, g)
				}
			}
			// What G.712 lets a telephone lose at 3.4 kHz.
			if g := gain(3400, high, 8000, NewDown(factor).Process); g < -3 {
				t.Errorf("down: 3400 Hz by %.2f dB", g)
			}
			for hz := 4600.0; hz < float64(high)/2; hz += 150 {
				if g := gain(hz, high, 8000, NewDown(factor).Process); g > -50 {
					t.Errorf("down: %.0f Hz is heard, %.1f dB", hz, g)
				}
			}
		})
	}
}

// TestImagesAreSilent: a tone at 8 kHz stays one tone at a higher rate.
func TestImagesAreSilent(t *testing.T) {
	for _, factor := range []int{2, 6} {
		rate := 8000 * factor
		for hz := 300.0; hz <= 3300; hz += 500 {
			src, dst := make([]int16, 8000), make([]int16, rate)
			for i := range src {
				src[i] = int16(20000 * math.Sin(2*math.Pi*hz*float64(i)/8000))
			}
			NewUp(factor).Process(dst, src)
			for image := 8000.0; image < float64(rate)/2; image += 8000 {
				for _, f := range []float64{image - hz, image + hz} {
					if f > float64(rate)/2 {
						continue
					}
					if db := tone(dst[rate/2:], f, rate) - tone(dst[rate/2:], hz, rate); db > -50 {
						t.Errorf("%.0f Hz by %d: image at %.0f Hz of %.1f dB", hz, factor, f, db)
					}
				}
			}
		}
	}
}

// tone returns the level of one frequency.
func tone(s []int16, hz float64, rate int) float64 {
	var re, im float64
	for i, v := range s {
		w := 2 * math.Pi * hz * float64(i) / float64(rate)
		re, im = re+float64(v)*math.Cos(w), im+float64(v)*math.Sin(w)
	}
	return 10 * math.Log10((re*re+im*im+1e-9)/float64(len(s)))
}

func TestDelayIsAsToldAndPiecesDoNotMatter(t *testing.T) {
	for _, factor := range []int{1, 2, 3, 6} {
		testDelay(t, factor, Delay, NewDown)
		testDelay(t, factor, 2, NewSoonDown)
	}
}

func testDelay(t *testing.T, factor, delay int, down func(factor int) *Down) {
	t.Helper()
	src := make([]int16, 800*factor)
	for i := 100 * factor; i < 101*factor; i++ {
		src[i] = 20000
	}
	whole, parts := make([]int16, 800), make([]int16, 800)
	down(factor).Process(whole, src)
	d := down(factor)
	for i := range 80 {
		d.Process(parts[10*i:10*i+10], src[10*i*factor:(10*i+10)*factor])
	}
	peak := 0
	for i := range whole {
		if whole[i] != parts[i] {
			t.Fatalf("factor %d: sample %d is %d in one piece, %d in many", factor, i, whole[i], parts[i])
		}
		if whole[i] > whole[peak] {
			peak = i
		}
	}
	want := delay
	if factor == 1 {
		want = 0
	}
	if got := peak - 100; got < want-1 || got > want+1 {
		t.Errorf("factor %d: delay %d samples, want %d", factor, got, want)
	}
}

func TestLoudSoundClipsAndNothingIsAllocated(t *testing.T) {
	src := make([]int16, 480)
	for i := range src {
		src[i] = math.MaxInt16
		if i/50%2 == 1 {
			src[i] = math.MinInt16
		}
	}
	up, down := NewUp(6), NewDown(6)
	low, high := make([]int16, 80), make([]int16, 480)
	if a := testing.AllocsPerRun(20, func() { down.Process(low, src); up.Process(high, low) }); a != 0 {
		t.Errorf("%v allocations", a)
	}
	// An overshoot wraps nowhere: neighbours at 48 kHz stay neighbours.
	for i := 1; i < len(high); i++ {
		if d := int(high[i]) - int(high[i-1]); d > 30000 || d < -30000 {
			t.Fatalf("a jump of %d at sample %d", d, i)
		}
	}
}

// What passes is the same with either phase, and everything comes sooner with the least.
func TestSoonestPassesTheSame(t *testing.T) {
	for _, factor := range []int{2, 3, 6} {
		linear := kernel(factor, cutoff)
		soon := soonest(linear)
		at := func(h []float32, hz float64, ramp bool) (sum complex128) {
			for i, v := range h {
				w := complex(float64(v), 0)
				if ramp {
					w *= complex(float64(i), 0)
				}
				sum += w * cmplx.Exp(complex(0, -2*math.Pi*hz*float64(i)/float64(8000*factor)))
			}
			return sum
		}
		for hz := 0.0; hz <= 3600; hz += 50 {
			got, want := at(soon, hz, false), at(linear, hz, false)
			if db := 20 * math.Log10(cmplx.Abs(got)/cmplx.Abs(want)); math.Abs(db) > 0.001 {
				t.Errorf("factor %d: %.0f Hz by %.4f dB more", factor, hz, db)
			}
			// The group delay, in ms.
			most := 0.3
			if hz > 2000 {
				most = 0.9
			}
			if ms := real(at(soon, hz, true)/got) / float64(8*factor); ms > most {
				t.Errorf("factor %d: %.0f Hz comes after %.2f ms", factor, hz, ms)
			}
		}
		for hz := 4600.0; hz < float64(4000*factor); hz += 20 {
			if db := 20 * math.Log10(cmplx.Abs(at(soon, hz, false))); db > -59 {
				t.Errorf("factor %d: %.0f Hz passes with %.1f dB", factor, hz, db)
			}
		}
	}
}

// BenchmarkTick is 10 ms between 8 kHz and each rate of a device.
func BenchmarkTick(b *testing.B) {
	for _, factor := range []int{2, 6} {
		fast, slow := make([]int16, 80*factor), make([]int16, 80)
		up, down := NewUp(factor), NewDown(factor)
		b.Run(fmt.Sprintf("up/%d", factor), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				up.Process(fast, slow)
			}
		})
		b.Run(fmt.Sprintf("down/%d", factor), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				down.Process(slow, fast)
			}
		})
	}
}

// Between 16 and 48 kHz sound comes 0.1 ms later.
func TestConverterOfWideSoundIsSoon(t *testing.T) {
	src, low, high := make([]int16, 4800), make([]int16, 1600), make([]int16, 4800)
	src[1200] = math.MaxInt16
	NewConverter(48000, 16000).Process(low, src)
	NewConverter(16000, 48000).Process(high, low)
	loudest := 0
	for i, v := range high {
		if v > high[loudest] {
			loudest = i
		}
	}
	if late := loudest - 1200; late < 0 || late > 14 {
		t.Errorf("%d samples at 48 kHz later", late)
	}
}
