// Package resample changes the rate of 16-bit sound: by a whole factor, between the
// 8 kHz of G.711 and a device's 16 or 48 kHz, and by a ratio, between 48 kHz and
// what some cards have alone, 44.1.
//
// It knows one low-pass filter in polyphase form and nothing else: no clock drift.
//
// # How much later sound comes out
//
// By 12 samples of the lower rate (Delay): 1.5 ms at 8 kHz, whatever the frequency is. A
// filter of the same gain whose phase is the least that there can be has 0.2 ms, but for
// what is near its edge, which comes up to 0.7 ms later than the rest. At 8 kHz that is
// within the telephone's band, and takes the waveforms of consonants apart. Where the
// lower rate is 16 kHz or more it is above what is in most of speech: Converter has that filter there, and
// so has who asks for the least delay.
//
// # Why not speexdsp
//
// Our factors are 2 and 6, and one ratio. For these a polyphase FIR is a page of Go without a
// C library to cross-build for each board, is exact in length (n samples in,
// n times or n divided by the factor out, always, so that a 10 ms tick stays
// one), and at 12 samples of 8 kHz (1.5 ms) has the delay of speexdsp's quality
// 3. It costs 24 multiplications a sample of the higher rate, 1.2 million a second
// at 48 kHz, four at a time where the processor can.
package resample

import (
	"math"
	"slices"
)

const (
	// taps a phase, thus the filter's length in samples of the lower rate.
	taps = 24
	// cutoff is the filter's -6 dB point as a part of the lower rate. Telephone
	// speech ends at 3.4 kHz (ITU-T G.712), so that the transition band may
	// straddle 4 kHz.
	cutoff = 3700.0 / 8000
	// wide is the lower rate from which on the filter's edge is above the telephone's band.
	wide = 16000
	// beta shapes the Kaiser window: about 60 dB of stopband.
	beta = 5.65
)

// Delay is how much later sound comes out of a filter of linear phase, in samples of the
// lower rate.
const Delay = taps / 2

// kernel returns a low-pass filter of taps*factor coefficients at the higher
// rate, whose sum is 1, and whose -6 dB point is cutoff, as a part of the lower rate.
func kernel(factor int, cutoff float64) []float32 {
	n := taps * factor
	h := make([]float64, n)
	fc := cutoff / float64(factor)
	mid := float64(n-1) / 2
	var sum float64
	for i := range h {
		x := float64(i) - mid
		s := 2 * fc
		if x != 0 {
			s = math.Sin(2*math.Pi*fc*x) / (math.Pi * x)
		}
		r := x / (mid + 1)
		h[i] = s * bessel(beta*math.Sqrt(1-r*r))
		sum += h[i]
	}
	k := make([]float32, n)
	for i := range h {
		k[i] = float32(h[i] / sum)
	}
	return k
}

// bessel is the modified Bessel function of the first kind and order 0.
func bessel(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > 1e-12*sum; k++ {
		term *= (x / 2 / k) * (x / 2 / k)
		sum += term
	}
	return sum
}

func round(v float32) int16 {
	switch {
	case v >= math.MaxInt16:
		return math.MaxInt16
	case v <= math.MinInt16:
		return math.MinInt16
	case v < 0:
		return int16(v - 0.5)
	}
	return int16(v + 0.5)
}

// plainDot is dot where there is no assembly for the processor. Of one sum each addition
// would wait for the one before.
func plainDot(a, b []float32) float32 {
	var w, x, y, z float32
	for len(a) >= 4 && len(b) >= 4 {
		w += a[0] * b[0]
		x += a[1] * b[1]
		y += a[2] * b[2]
		z += a[3] * b[3]
		a, b = a[4:], b[4:]
	}
	return (w + x) + (y + z)
}

// An Up raises the rate by a whole factor. It belongs to one goroutine.
type Up struct {
	factor int
	phases [][taps]float32 // of the kernel, each reversed: oldest sample first
	past   [2 * taps]float32
	at     int
}

// NewUp returns an Up by factor, which is at least 1; 1 copies.
func NewUp(factor int) *Up { return newUp(factor, kernel(factor, cutoff)) }

// NewSoonUp is NewUp with the least delay.
func NewSoonUp(factor int) *Up { return newUp(factor, soonestBy(factor)) }

func newUp(factor int, k []float32) *Up {
	u := &Up{factor: factor, phases: make([][taps]float32, factor)}
	for p := range u.phases {
		for t := range taps {
			u.phases[p][taps-1-t] = k[t*factor+p] * float32(factor)
		}
	}
	return u
}

// Process writes factor samples to dst for each one of src; dst holds at least
// factor*len(src). It does not allocate.
func (u *Up) Process(dst, src []int16) {
	if u.factor == 1 {
		copy(dst, src)
		return
	}
	for i, s := range src {
		// The past is kept twice, so that the newest taps samples always lie
		// in one piece.
		u.past[u.at], u.past[u.at+taps] = float32(s), float32(s)
		u.at = (u.at + 1) % taps
		window := u.past[u.at : u.at+taps]
		for p := range u.phases {
			dst[i*u.factor+p] = round(dot(u.phases[p][:], window))
		}
	}
}

// A Down lowers the rate by a whole factor. It belongs to one goroutine.
type Down struct {
	factor int
	kernel []float32 // reversed: oldest sample first
	past   []float32 // twice the kernel's length, as in Up
	at     int
}

// NewDown returns a Down by factor, which is at least 1; 1 copies.
func NewDown(factor int) *Down { return newDown(factor, kernel(factor, cutoff)) }

// NewSoonDown is NewDown with the least delay.
func NewSoonDown(factor int) *Down { return newDown(factor, soonestBy(factor)) }

func newDown(factor int, k []float32) *Down {
	d := &Down{factor: factor, kernel: slices.Clone(k), past: make([]float32, 2*len(k))}
	slices.Reverse(d.kernel)
	return d
}

// Process writes one sample to dst for each factor of src, whose length is a
// multiple of factor. It does not allocate.
func (d *Down) Process(dst, src []int16) {
	if d.factor == 1 {
		copy(dst, src)
		return
	}
	n := len(d.kernel)
	for i := range len(src) / d.factor {
		for _, s := range src[i*d.factor : (i+1)*d.factor] {
			d.past[d.at], d.past[d.at+n] = float32(s), float32(s)
			if d.at++; d.at == n {
				d.at = 0
			}
		}
		dst[i] = round(dot(d.kernel, d.past[d.at:d.at+n]))
	}
}

// A Converter is an Up or a Down, whichever leads from one rate to another. It belongs to
// one goroutine.
type Converter struct {
	up   *Up
	down *Down // nil: up
}

// NewConverter returns a Converter between rates one of which is a multiple of the other.
func NewConverter(from, to int) *Converter {
	down, up := NewDown, NewUp
	if min(from, to) >= wide {
		down, up = NewSoonDown, NewSoonUp
	}
	if from > to {
		return &Converter{down: down(from / to)}
	}
	return &Converter{up: up(to / from)}
}

// Process is that of an Up or a Down.
func (c *Converter) Process(dst, src []int16) {
	if c.down != nil {
		c.down.Process(dst, src)
	} else {
		c.up.Process(dst, src)
	}
}
