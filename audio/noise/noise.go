// Package noise is what is heard while nobody speaks: comfort noise as RFC 3389
// describes it, a level and the shape of a spectrum, measured at one end and made at
// the other, so that a peer need not send its silence.
//
// It knows samples at a rate, and payloads of comfort noise. It refuses to know
// packets, their times, and codecs.
//
// # Which sound is silence
//
// What is not louder than the room. The room's level is the least power of the last
// two seconds (R. Martin, "Noise power spectral density estimation based on optimal
// smoothing and minimum statistics", 2001); four times that is a voice. What
// follows a voice within a fifth of a second is taken for its end: a word fades, and
// has holes. Nothing is silence before the room is known, and nothing that a
// peer would hear as a sound, such as a tone that stands still.
package noise

import (
	"math"
	"math/rand/v2"
	"time"

	"flexphone/audio/resample"
)

const (
	rate = 8000
	tick = 10 * time.Millisecond
	// order of the spectra: that of G.711, appendix II. Of longer ones the beginning
	// is taken.
	order = 10
	// Size is that of the longest payload that is made.
	Size = 1 + order
	// Silent is the level of no noise at all, in -dBov.
	Silent = 127
	// loudest is the level of the noise that is made at most, in -dBov: nobody's
	// comfort is louder, and a payload may be a mistake.
	loudest = 30
	// settle is how much a level moves towards another one with each sample.
	settle = 1.0 / 400
	// steepest is the largest coefficient that is believed: a filter beyond it rings
	// for longer than a room does.
	steepest = 0.97
	// crest is how far above the level a sample may be: few of a room's are.
	crest = 4
)

// full is the mean square of a sound of 0 dBov: a square wave of full scale.
const full = 32768.0 * 32768.0

// A Source makes noise. It belongs to one goroutine and does not allocate.
type Source struct {
	up     *resample.Up
	factor int
	random *rand.PCG

	shape [order]float64 // reflection coefficients
	gain  float64        // of the excitation, that both give
	now   float64        // gain that is under way to it
	most  float64        // largest sample
	back  [order]float64 // of the lattice: what went backwards, a sample ago
	low   [rate / 100]int16
}

// NewSource returns a source of silence at deviceRate, a multiple of 8000.
func NewSource(deviceRate int) *Source {
	factor := deviceRate / rate
	return &Source{up: resample.NewUp(factor), factor: factor, random: rand.NewPCG(1, 2)}
}

// Describe says what noise is to be made, as a payload of RFC 3389, section 3, has it.
// An empty one is silence.
func (s *Source) Describe(payload []byte) {
	before := s.shape
	s.shape = [order]float64{}
	level := byte(Silent)
	if len(payload) > 0 {
		level = max(payload[0]&Silent, loudest)
		for i, n := range payload[1:min(len(payload), Size)] {
			k := 258 * (float64(min(n, 254)) - 127) / 32768
			s.shape[i] = min(max(k, -steepest), steepest)
		}
	}
	if level == Silent {
		s.gain = 0
		return
	}
	// An all-pole filter makes the power of white noise greater by the product of these.
	left := 1.0
	for _, k := range s.shape {
		left *= 1 - k*k
	}
	power := full * math.Pow(10, -float64(level)/10)
	s.gain, s.most = math.Sqrt(power*left), crest*math.Sqrt(power)
	s.now = min(s.now, s.gain) // what was right for another filter may be much for this one
	if s.shape != before {
		s.back = [order]float64{}
	}
}

// Fill fills pcm, of no more than 10 ms at a time and a multiple of a sample of
// 8 kHz, with noise.
func (s *Source) Fill(pcm []int16) {
	low := s.low[:len(pcm)/s.factor]
	for i := range low {
		s.now += (s.gain - s.now) * settle
		low[i] = s.next()
	}
	s.up.Process(pcm, low)
}

// next makes a sample: white noise through the lattice.
func (s *Source) next() int16 {
	white := float64(int64(s.random.Uint64())>>32) / (1 << 31) // evenly from -1 to 1
	f := s.now * math.Sqrt(3) * white
	for m := order - 1; m >= 0; m-- {
		f -= s.shape[m] * s.back[m]
		if m+1 < order {
			s.back[m+1] = s.back[m] + s.shape[m]*f
		}
	}
	s.back[0] = f
	return int16(min(max(f, -s.most), s.most))
}
