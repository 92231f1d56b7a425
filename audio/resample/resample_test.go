package resample

import (
	"fmt"
	"math"
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
	for _, factor := range []int{1, 2, 6} {
		src := make([]int16, 800*factor)
		for i := 100 * factor; i < 101*factor; i++ {
			src[i] = 20000
		}
		whole, parts := make([]int16, 800), make([]int16, 800)
		NewDown(factor).Process(whole, src)
		d := NewDown(factor)
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
		want := Delay
		if factor == 1 {
			want = 0
		}
		if got := peak - 100; got < want-1 || got > want+1 {
			t.Errorf("factor %d: delay %d samples, want %d", factor, got, want)
		}
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
