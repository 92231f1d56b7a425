package audiotest

import "math"

// The numbers of the short-time objective intelligibility (Taal, Hendriks, Heusdens,
// Jensen: An Algorithm for Intelligibility Prediction of Time-Frequency Weighted
// Noisy Speech; IEEE Transactions on Audio, Speech, and Language Processing 19,
// 2011).
const (
	stoiRate    = 10000
	stoiFrame   = 256 // samples, every second half of which begins another
	stoiFFT     = 512
	stoiBands   = 15 // of a third of an octave
	stoiLowest  = 150.0
	stoiSegment = 30 // frames: 384 ms
	stoiDynamic = 40 // dB below the loudest frame speech ends
	stoiClip    = 15 // dB: the worst signal-to-distortion ratio that counts
)

// Intelligibility is the STOI of recorded, 0 to 1: how well the words of original,
// of which it is to be a copy, can be understood. It is listened to from where
// the whole fits best on, at one delay: what slips on the way counts as wrong. 1
// is a copy; a tenth of speech in holes of 20 ms leaves about .88. rate is a
// multiple of 8000. 0 is also what cannot be told, such as of less than half a
// second of speech.
func Intelligibility(original, recorded []int16, rate int) float64 {
	if len(original) == 0 || len(recorded) == 0 {
		return 0
	}
	c := correlate(band(original, recorded, rate))
	shift, _ := c.best(1-len(original)*bandRate/rate, len(recorded)*bandRate/rate-1)
	at := shift * rate / bandRate
	aligned := make([]int16, len(original))
	for i := range aligned {
		if k := at + i; k >= 0 && k < len(recorded) {
			aligned[i] = recorded[k]
		}
	}
	x, y := speaking(resampled(original, rate), resampled(aligned, rate))
	return stoi(bands(x), bands(y))
}

// resampled is pcm at stoiRate, by a windowed sinc. Every fifth sample lies as the
// first does between those of any multiple of 8000.
//
//go:norace
func resampled(pcm []int16, rate int) []float64 {
	const lobes, phases = 24, 5
	step := float64(rate) / stoiRate
	cutoff := 0.95 * min(1, 1/step) // of rate's half
	reach := int(lobes / cutoff)
	var kernels [phases][]float64
	for p := range kernels {
		_, fraction := math.Modf(float64(p) * step)
		for k := -reach; k <= reach; k++ {
			d := float64(k) - fraction
			w, s := math.Cos(math.Pi/2*d/float64(reach+1)), 1.0
			if a := math.Pi * cutoff * d; a != 0 {
				s = math.Sin(a) / a
			}
			kernels[p] = append(kernels[p], cutoff*s*w*w)
		}
	}
	y := make([]float64, int(float64(len(pcm))/step))
	for i := range y {
		first := i*rate/stoiRate - reach
		for k, c := range kernels[i%phases] {
			if at := first + k; at >= 0 && at < len(pcm) {
				y[i] += c * float64(pcm[at])
			}
		}
	}
	return y
}

// hann is a window without the zeros at its ends.
func hann() (w [stoiFrame]float64) {
	for i := range w {
		w[i] = 0.5 - 0.5*math.Cos(2*math.Pi*float64(i+1)/(stoiFrame+1))
	}
	return w
}

// speaking is x and y without the frames in which x is silent.
//
//go:norace
func speaking(x, y []float64) (_, _ []float64) {
	w := hann()
	var energies []float64
	loudest := math.Inf(-1)
	for from := 0; from+stoiFrame <= len(x); from += stoiFrame / 2 {
		var e float64
		for i, v := range w {
			e += v * v * x[from+i] * x[from+i]
		}
		energies = append(energies, 10*math.Log10(e+1e-9))
		loudest = max(loudest, energies[len(energies)-1])
	}
	var outX, outY []float64
	for n, e := range energies {
		if e < loudest-stoiDynamic {
			continue
		}
		half := make([]float64, stoiFrame/2)
		if len(outX) == 0 {
			outX, outY = append(outX, half...), append(outY, half...)
		}
		outX, outY = append(outX, half...), append(outY, half...)
		for i, v := range w {
			at := len(outX) - stoiFrame + i
			outX[at] += v * x[n*stoiFrame/2+i]
			outY[at] += v * y[n*stoiFrame/2+i]
		}
	}
	return outX, outY
}

// bands are the levels of x in each band, frame by frame.
//
//go:norace
func bands(x []float64) [][stoiBands]float64 {
	w := hann()
	var out [][stoiBands]float64
	f := make([]complex128, stoiFFT)
	var edges [stoiBands + 1]int // bins
	for b := range edges {
		edges[b] = int(math.Round(stoiLowest * math.Pow(2, (float64(b)-0.5)/3) * stoiFFT / stoiRate))
	}
	for from := 0; from+stoiFrame <= len(x); from += stoiFrame / 2 {
		clear(f)
		for i, v := range w {
			f[i] = complex(v*x[from+i], 0)
		}
		transform(f, false)
		var levels [stoiBands]float64
		for b := range levels {
			for _, v := range f[edges[b]:edges[b+1]] {
				levels[b] += real(v)*real(v) + imag(v)*imag(v)
			}
			levels[b] = math.Sqrt(levels[b])
		}
		out = append(out, levels)
	}
	return out
}

// stoi is the mean correlation of the bands' envelopes.
//
//go:norace
func stoi(x, y [][stoiBands]float64) float64 {
	var sum float64
	n := 0
	clip := 1 + math.Pow(10, stoiClip/20.0)
	for end := stoiSegment; end <= len(x); end++ {
		for b := range stoiBands {
			var u, v [stoiSegment]float64
			for i := range u {
				u[i], v[i] = x[end-stoiSegment+i][b], y[end-stoiSegment+i][b]
			}
			gain := math.Sqrt(dot(u[:], u[:]) / (dot(v[:], v[:]) + 1e-9))
			var meanU, meanV float64
			for i := range u {
				v[i] = min(gain*v[i], clip*u[i])
				meanU, meanV = meanU+u[i]/stoiSegment, meanV+v[i]/stoiSegment
			}
			for i := range u {
				u[i], v[i] = u[i]-meanU, v[i]-meanV
			}
			sum += ratio(dot(u[:], v[:]), dot(u[:], u[:]), dot(v[:], v[:]))
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return sum / float64(n)
}
