package limit_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"

	"flexphone/audio/audiotest"
	"flexphone/audio/limit"
)

// through limits pcm a tick at a time.
func through(pcm []int16, rate int) []int16 {
	out := slices.Clone(pcm)
	l := limit.New()
	for tick := range slices.Chunk(out, rate/100) {
		l.Limit(tick)
	}
	return out
}

func sine(hz, amplitude float64, rate, n int) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		pcm[i] = int16(amplitude * math.Sin(2*math.Pi*hz*float64(i)/float64(rate)))
	}
	return pcm
}

func level(pcm []int16) float64 {
	sum := 0.0
	for _, v := range pcm {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum / float64(len(pcm)))
}

func TestSpeechIsNotTouched(t *testing.T) {
	for _, name := range []string{"numbers.raw", "something.raw", "goforward.raw"} {
		pcm := audiotest.Speech(t, name, 16000)
		gain := 0.05 * 32768 / level(pcm) // 26 dB below full scale
		for i, v := range pcm {
			pcm[i] = int16(float64(v) * gain)
		}
		if !slices.Equal(through(pcm, 16000), pcm) {
			t.Errorf("%s was changed", name)
		}
	}
}

// A tone of full scale comes down to the level and stays there, and what
// follows it comes back.
func TestToneOfFullScale(t *testing.T) {
	for _, rate := range []int{8000, 16000, 48000} {
		loud := sine(1000, 32767, rate, rate)
		soft := sine(300, 3000, rate, 3*rate)
		out := through(slices.Concat(soft[:rate], loud, soft), rate)
		if peak := slices.Max(out); peak > limit.Peak {
			t.Errorf("%d Hz: peak of %d", rate, peak)
		}
		if l := level(out[rate+rate/5 : 2*rate]); l > limit.Level*1.02 || l < limit.Level*0.9 {
			t.Errorf("%d Hz: level of %.0f", rate, l)
		}
		if !slices.Equal(out[4*rate:], soft[2*rate:]) {
			t.Errorf("%d Hz: what follows is not as it was", rate)
		}
	}
}

// The gain does not step within a tick: what is below the peak comes down in
// time for one that is above it.
func TestGainComesDownBeforeAPeak(t *testing.T) {
	const rate = 16000
	pcm := make([]int16, rate/100)
	for i := range pcm {
		pcm[i] = 10000
		if i >= len(pcm)/2 {
			pcm[i] = 32767
		}
	}
	out := slices.Clone(pcm)
	limit.New().Limit(out)
	step := 0.0
	for i := 1; i < len(out); i++ {
		gain := func(i int) float64 { return float64(out[i]) / float64(pcm[i]) }
		step = max(step, math.Abs(gain(i)-gain(i-1)))
	}
	if step > 0.05 {
		t.Errorf("the gain steps by %.2f", step)
	}
}

func FuzzLimit(f *testing.F) {
	f.Add(uint8(1), []byte{0xff, 0x7f, 0, 0x80, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		rate := []int{8000, 16000, 48000}[which%3]
		l := limit.New()
		pcm, mean := make([]int16, rate/100), 0.0
		for k := range 30 {
			for i := range pcm {
				if at := (k*len(pcm) + i) * 2; len(b) > 1 {
					pcm[i] = int16(binary.LittleEndian.Uint16(b[at%(len(b)-1):]))
				}
			}
			before := slices.Clone(pcm)
			changed := l.Limit(pcm)
			if !changed && !slices.Equal(before, pcm) {
				t.Fatal("changed, and it does not say so")
			}
			for i, v := range pcm {
				if v > limit.Peak || v < -limit.Peak {
					t.Fatalf("%d leaves", v)
				}
				if int(v)*int(before[i]) < 0 || max(int(v), -int(v)) > max(int(before[i]), -int(before[i])) {
					t.Fatalf("%d became %d", before[i], v)
				}
			}
			lv := level(pcm)
			mean = lv*lv/10 + mean*9/10
		}
		if mean > 1.1*limit.Level*limit.Level {
			t.Fatalf("a level of %.0f lasts", math.Sqrt(mean))
		}
	})
}

func TestDoesNotAllocate(t *testing.T) {
	l, pcm := limit.New(), sine(1000, 32767, 48000, 480)
	if n := testing.AllocsPerRun(100, func() { l.Limit(pcm) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLimit(b *testing.B) {
	for _, amplitude := range []float64{3000, 32767} {
		b.Run(fmt.Sprintf("amplitude=%.0f", amplitude), func(b *testing.B) {
			l, loud := limit.New(), sine(1000, amplitude, 16000, 160)
			pcm := make([]int16, len(loud))
			b.ReportAllocs()
			for b.Loop() {
				copy(pcm, loud)
				l.Limit(pcm)
			}
		})
	}
}
