package resample

import (
	"math"
	"sync"
)

const (
	// points of the spectrum that soonest works on: so many that what a logarithm has of
	// sharp edges, where nothing passes, does not come round.
	points = 4096
	// nothing is what counts as no gain: 20 dB below the stopband.
	nothing = 1e-4
)

// soonest returns the filter that lets pass what the kernel h lets pass, and has the least
// delay of all that do: its phase is the minimum, and most of it is in its first
// coefficients. It is h's cepstrum, folded forward (Oppenheim and Schafer, Discrete-Time
// Signal Processing, chapter 13).
func soonest(h []float32) []float32 {
	turn := make([]float64, points) // cosines of a whole turn
	for i := range turn {
		turn[i] = math.Cos(2 * math.Pi * float64(i) / points)
	}
	logarithm := make([]float64, points/2+1) // of the gain, from 0 Hz to half the rate
	for k := range logarithm {
		var re, im float64
		for i, v := range h {
			re += float64(v) * turn[k*i%points]
			im += float64(v) * turn[(k*i+points/4)%points]
		}
		logarithm[k] = math.Log(max(math.Hypot(re, im), nothing))
	}
	c := make([]float64, len(h)) // the cepstrum, folded
	for n := range c {
		sum := logarithm[0] + logarithm[points/2]*turn[n*points/2%points]
		for k := 1; k < points/2; k++ {
			sum += 2 * logarithm[k] * turn[k*n%points]
		}
		c[n] = 2 * sum / points
	}
	m := make([]float64, len(h))
	m[0] = math.Exp(c[0] / 2)
	all := m[0]
	for n := 1; n < len(m); n++ {
		for k := 1; k <= n; k++ {
			m[n] += float64(k) / float64(n) * c[k] * m[n-k]
		}
		all += m[n]
	}
	soon := make([]float32, len(h))
	for i, v := range m {
		soon[i] = float32(v / all)
	}
	return soon
}

// kept are the filters that were made, by factor: each takes as long as a tick of sound
// on a small processor.
var kept sync.Map

func soonestBy(factor int) []float32 {
	if k, ok := kept.Load(factor); ok {
		return k.([]float32)
	}
	k, _ := kept.LoadOrStore(factor, soonest(kernel(factor, cutoff)))
	return k.([]float32)
}
