package noise_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"flexphone/audio/audiotest"
	"flexphone/audio/noise"
)

func level(pcm []int16) float64 {
	sum := 1e-9
	for _, v := range pcm {
		sum += float64(v) * float64(v)
	}
	return 10 * math.Log10(sum/float64(len(pcm))/32768/32768)
}

func fill(s *noise.Source, rate, ticks int) []int16 {
	pcm := make([]int16, ticks*rate/100)
	for tick := range slices.Chunk(pcm, rate/100) {
		s.Fill(tick)
	}
	return pcm
}

// room is a noise of low frequencies, of a level in dBov.
func room(rate, ticks int, dBov float64) []int16 {
	r := rand.New(rand.NewPCG(3, 4))
	pcm, y := make([]int16, ticks*rate/100), 0.0
	pole := math.Exp(-2 * math.Pi * 500 / float64(rate))
	gain := 32768 * math.Pow(10, dBov/20) * math.Sqrt(1-pole*pole)
	for i := range pcm {
		y = pole*y + gain*r.NormFloat64()
		pcm[i] = int16(y)
	}
	return pcm
}

// bands is how loud the halves of a sound of 8 kHz are against each other, in dB.
func bands(pcm []int16) float64 {
	var low, high float64
	for i := 1; i < len(pcm); i++ {
		sum, diff := float64(pcm[i])+float64(pcm[i-1]), float64(pcm[i])-float64(pcm[i-1])
		low, high = low+sum*sum, high+diff*diff
	}
	return 10 * math.Log10(low/high)
}

// What is described is made: its level at any rate, and the shape of its spectrum.
func TestWhatIsMeasuredIsMade(t *testing.T) {
	for _, rate := range []int{8000, 16000, 48000} {
		for _, dBov := range []float64{-70, -60, -50} {
			sound := room(rate, 400, dBov)
			m := noise.NewMeter(rate)
			silent := 0
			for frame := range slices.Chunk(sound, rate/50) {
				if !m.Voice(frame) {
					silent++
				}
			}
			b := make([]byte, noise.Size)
			n := m.Describe(b)
			if n != noise.Size || math.Abs(float64(b[0])+dBov) > 2 || silent < 80 {
				t.Errorf("%d Hz: noise of %.0f is described by %d; %d frames were silent", rate, dBov, b[:n], silent)
			}
			s := noise.NewSource(rate)
			s.Describe(b[:n])
			made := fill(s, rate, 400)[rate:]
			if l := level(made); math.Abs(l-dBov) > 2 {
				t.Errorf("%d Hz: noise of %.1f instead of %.1f", rate, l, dBov)
			}
			if rate == 8000 {
				if was, is := bands(sound), bands(made); math.Abs(was-is) > 2 {
					t.Errorf("low against high: %.1f dB, was %.1f", is, was)
				}
			}
		}
	}
}

// A word in a room is a voice from its beginning to its end, and the room
// between words is none.
func TestVoiceIsToldFromTheRoom(t *testing.T) {
	for _, name := range []string{"numbers.raw", "something.raw", "goforward.raw"} {
		speech := audiotest.Speech(t, name, 16000)
		for i := range speech {
			speech[i] /= 5 // 14 dB, so that the recording's own room is one: it has about -48
		}
		own := level(speech[:3200])
		sound := slices.Concat(room(16000, 300, own), speech, room(16000, 400, own))
		m := noise.NewMeter(16000)
		var missed, saved float64
		pauses := 0
		for i := 0; i+320 <= len(sound); i += 320 {
			frame := sound[i : i+320]
			voice := m.Voice(frame)
			power := math.Pow(10, level(frame)/10)
			if i >= 3*16000 && i < 3*16000+len(speech) && !voice {
				missed = max(missed, power)
			}
			if i > 3*16000+len(speech)+2*16000 && voice {
				saved++
			}
			if !voice {
				pauses++
			}
		}
		if loudest := 10 * math.Log10(missed); loudest > own+9 || saved > 3 || pauses < 80 {
			t.Errorf("%s in %.1f: %.1f dBov was taken for silence, %.0f frames of the room for a voice; %d silent frames", name, own, loudest, saved, pauses)
		}
	}
}

// Nothing is silence before the room is known, nor is an even sound that is heard.
func TestWhatIsNoSilence(t *testing.T) {
	m := noise.NewMeter(8000)
	for i, frame := range slices.Collect(slices.Chunk(room(8000, 190, -60), 160)) {
		if !m.Voice(frame) {
			t.Fatalf("frame %d is silence", i)
		}
	}
	tone := make([]int16, 8000*6)
	for i := range tone {
		tone[i] = int16(1000 * math.Sin(2*math.Pi*425*float64(i)/8000))
	}
	m = noise.NewMeter(8000)
	for i, frame := range slices.Collect(slices.Chunk(tone, 160)) {
		if !m.Voice(frame) {
			t.Fatalf("frame %d of a tone is silence", i)
		}
	}
	m = noise.NewMeter(8000)
	muted, b := make([]int16, 8000), make([]byte, noise.Size)
	m.Voice(muted)
	if m.Voice(muted) || m.Describe(b) != 1 || b[0] != noise.Silent {
		t.Errorf("what is muted: %d", b)
	}
}

// The example of RFC 3389, section 3, is -dBov; what is louder than comfort is not
// made.
func TestLevels(t *testing.T) {
	for in, want := range map[byte]float64{40: -40, 60: -60, 0: -30, 128 + 50: -50} {
		s := noise.NewSource(8000)
		s.Describe([]byte{in})
		if l := level(fill(s, 8000, 300)[8000:]); math.Abs(l-want) > 0.7 {
			t.Errorf("level %d makes %.1f dBov", in, l)
		}
	}
	s := noise.NewSource(8000)
	s.Describe([]byte{40})
	fill(s, 8000, 100)
	s.Describe(nil)
	if got := fill(s, 8000, 200)[8000:]; slices.Max(got) > 1 || slices.Min(got) < -1 {
		t.Error("an empty payload is not silence")
	}
}

// FuzzSource: whatever is described, what is made stays within bounds, for ever.
func FuzzSource(f *testing.F) {
	f.Add([]byte{40}, []byte{30, 254, 254, 254, 254, 254, 254, 254, 254, 254, 254})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{127})
	f.Add([]byte("0"), []byte("\xff\xfe\xfe\xfe\xfe \xff"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := noise.NewSource(16000)
		for _, payload := range [][]byte{first, second, first} {
			kept := bytes.Clone(payload)
			s.Describe(payload)
			got := fill(s, 16000, 60)
			if l := level(got[len(got)/2:]); l > -15 || !bytes.Equal(kept, payload) {
				t.Fatalf("%v makes %.1f dBov", payload, l)
			}
		}
	})
}

func TestDoesNotAllocate(t *testing.T) {
	s, m := noise.NewSource(48000), noise.NewMeter(48000)
	pcm, b := room(48000, 1, -60), make([]byte, noise.Size)
	if n := testing.AllocsPerRun(500, func() {
		m.Voice(pcm)
		m.Describe(b)
		s.Describe(b)
		s.Fill(pcm)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkVoice(b *testing.B) {
	m, pcm := noise.NewMeter(16000), room(16000, 1, -60)
	b.ReportAllocs()
	for b.Loop() {
		m.Voice(pcm)
	}
}

func BenchmarkFill(b *testing.B) {
	s, pcm := noise.NewSource(16000), make([]int16, 160)
	s.Describe([]byte{40, 30, 200})
	b.ReportAllocs()
	for b.Loop() {
		s.Fill(pcm)
	}
}
