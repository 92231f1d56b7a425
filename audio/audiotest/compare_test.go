package audiotest

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"flexphone/audio"
	"flexphone/audio/g711"
	"flexphone/audio/opus"
)

const (
	spoken = "goforward.raw"
	other  = "something.raw"
	third  = "numbers.raw"
)

// through passes sound through a codec.
func through(t *testing.T, f audio.Format, pcm []int16, rate int) []int16 {
	t.Helper()
	e, err := f.NewEncoder(rate, 20*time.Millisecond, "")
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.NewDecoder(rate)
	if err != nil {
		t.Fatal(err)
	}
	n, b := rate/50, make([]byte, 1300)
	var out []int16
	for frame := range slices.Chunk(pcm, n) {
		if len(frame) < n {
			break
		}
		size, err := e.Encode(b, frame)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]int16, n)
		if _, err := d.Decode(got, b[:size]); err != nil {
			t.Fatal(err)
		}
		out = append(out, got...)
	}
	return out
}

func silence(d time.Duration, rate int) []int16 {
	return make([]int16, int(d*time.Duration(rate)/time.Second))
}

func noise(n int, amplitude float64) []int16 {
	r := rand.New(rand.NewPCG(1, 2))
	s := make([]int16, n)
	for i := range s {
		s[i] = int16(amplitude * r.NormFloat64())
	}
	return s
}

func TestSpeechThatArrivedIsFound(t *testing.T) {
	for _, rate := range []int{8000, 16000, 48000} {
		x := Speech(t, spoken, rate)
		for _, c := range []struct {
			name        string
			y           []int16
			correlation float64
		}{
			{"itself", x, 0.999},
			{"µ-law", through(t, g711.PCMU(), x, rate), 0.98},
			{"A-law", through(t, g711.PCMA(), x, rate), 0.98},
			{"Opus", through(t, opus.Format{}, x, rate), 0.85},
		} {
			t.Logf("%d Hz, %s: %+v", rate, c.name, Compare(x, c.y, rate))
			for _, lead := range []time.Duration{123 * time.Millisecond, 2345 * time.Millisecond} {
				y := slices.Concat(silence(lead, rate), c.y, silence(time.Second, rate))
				r := Compare(x, y, rate)
				if r.Correlation < c.correlation || r.Arrived < 0.95 {
					t.Errorf("%d Hz, %s, after %v: %+v", rate, c.name, lead, r)
				}
				if d := r.Delay - lead; d < -time.Millisecond || d > 12*time.Millisecond {
					t.Errorf("%d Hz, %s, after %v: delay %v", rate, c.name, lead, r.Delay)
				}
			}
		}
	}
}

func TestRecordingThatRepeatsOrIsCut(t *testing.T) {
	const rate = 16000
	x := Speech(t, spoken, rate)
	half := len(x) / 2
	twice := slices.Concat(x[half:], silence(300*time.Millisecond, rate), x, x[:half])
	if r := Compare(x, twice, rate); r.Arrived < 0.99 || r.Correlation < 0.99 {
		t.Errorf("from the middle of one to the middle of another: %+v", r)
	}
	r := Compare(x, x[half:], rate)
	if want := -time.Duration(half) * time.Second / rate; (r.Delay - want).Abs() > time.Millisecond {
		t.Errorf("second half: delay %v, want %v", r.Delay, want)
	}
	if r.Arrived < 0.2 || r.Arrived > 0.8 {
		t.Errorf("second half: %+v", r)
	}
}

func TestSoundThatSlippedIsFollowed(t *testing.T) {
	const rate = 16000
	x := Speech(t, spoken, rate)
	tick := rate / 100
	at := len(x) / 2
	r := Compare(x, slices.Concat(x[:at], silence(10*time.Millisecond, rate), x[at:at*3/2], x[at*3/2+2*tick:]), rate)
	if r.Arrived < 0.8 {
		t.Errorf("%+v", r)
	}
}

func TestLossIsSeen(t *testing.T) {
	const rate = 16000
	x := Speech(t, spoken, rate)
	for _, lost := range []int{10, 25, 50} {
		y := slices.Clone(x)
		r := rand.New(rand.NewPCG(7, 7))
		for frame := range slices.Chunk(y, 2*rate/50) { // 40 ms
			if r.IntN(100) < lost {
				clear(frame)
			}
		}
		want := 1 - float64(lost)/100
		if got := Compare(x, y, rate); math.Abs(got.Arrived-want) > 0.12 {
			t.Errorf("%d %% lost: %+v", lost, got)
		}
	}
}

func TestWhatIsNotTheSpeechIsNotFound(t *testing.T) {
	for _, rate := range []int{8000, 48000} {
		x := Speech(t, spoken, rate)
		tone := make([]int16, len(x))
		for i := range tone {
			tone[i] = int16(9000 * math.Sin(2*math.Pi*425*float64(i)/float64(rate)))
		}
		for name, y := range map[string][]int16{
			"other speech":    Speech(t, other, rate),
			"third speech":    Speech(t, third, rate),
			"more speech":     slices.Concat(Speech(t, other, rate), Speech(t, third, rate), Speech(t, other, rate)),
			"other by Opus":   through(t, opus.Format{}, Speech(t, other, rate), rate),
			"noise":           noise(len(x), 3000),
			"tone":            tone,
			"silence":         make([]int16, len(x)),
			"faintest noise":  noise(len(x), 1),
			"nothing at all":  nil,
			"a single sample": {1},
		} {
			if r := Compare(x, y, rate); r.Arrived > 0.1 || r.Correlation > 0.35 {
				t.Errorf("%d Hz, %s: %+v", rate, name, r)
			} else {
				t.Logf("%d Hz, %s: %+v", rate, name, r)
			}
		}
		if r := Compare(make([]int16, rate), x, rate); r != (Report{}) {
			t.Errorf("silence spoken: %+v", r)
		}
	}
}
