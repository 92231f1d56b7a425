package audiotest

import (
	"math"
	"math/bits"
	"math/cmplx"

	"flexphone/audio/resample"
)

// transform is the discrete Fourier transform of x, in place, or its inverse
// without the factor 1/n; len(x) is a power of two.
//
//go:norace
func transform(x []complex128, inverse bool) {
	n := len(x)
	shift := 64 - bits.Len64(uint64(n-1))
	for i := range x {
		if j := int(bits.Reverse64(uint64(i)) >> shift); n > 1 && i < j {
			x[i], x[j] = x[j], x[i]
		}
	}
	sign := -2 * math.Pi
	if inverse {
		sign = -sign
	}
	roots := make([]complex128, n/2)
	for i := range roots {
		roots[i] = cmplx.Rect(1, sign*float64(i)/float64(n))
	}
	for size := 2; size <= n; size *= 2 {
		for from := 0; from < n; from += size {
			for k := range size / 2 {
				a, b := x[from+k], x[from+k+size/2]*roots[k*(n/size)]
				x[from+k], x[from+k+size/2] = a+b, a-b
			}
		}
	}
}

func powerOfTwo(n int) int { return 1 << bits.Len(uint(max(n, 2)-1)) }

// band returns what of x and y, of the same rate, lies in the telephone's band, at 8 kHz.
//
//go:norace
func band(x, y []int16, rate int) (_, _ []float64) {
	low := func(x []int16) []int16 {
		low := make([]int16, len(x)*bandRate/rate)
		resample.NewDown(rate/bandRate).Process(low, x[:len(low)*rate/bandRate])
		return low
	}
	lowX, lowY := low(x), low(y)
	// What is done to all frequencies by real factors is done to the real and to the
	// imaginary part each by itself.
	n := powerOfTwo(max(len(lowX), len(lowY)))
	f := make([]complex128, n)
	for i, v := range lowX {
		f[i] = complex(float64(v), 0)
	}
	for i, v := range lowY {
		f[i] += complex(0, float64(v))
	}
	transform(f, false)
	for i := range f {
		hz := float64(min(i, n-i)) * bandRate / float64(n)
		if hz < lowest || hz > highest {
			f[i] = 0
		}
	}
	transform(f, true)
	// What is left of one in the other is no sound: silence is to be silent.
	const rounding = 1e-6
	whole := func(v float64) float64 {
		if v /= float64(n); v < -rounding || v > rounding {
			return v
		}
		return 0
	}
	outX, outY := make([]float64, len(lowX)), make([]float64, len(lowY))
	for i := range outX {
		outX[i] = whole(real(f[i]))
	}
	for i := range outY {
		outY[i] = whole(imag(f[i]))
	}
	return outX, outY
}

// A correlation is that of two signals at every shift.
type correlation []float64

// correlate returns c with c.at(s) = the sum over i of x[i] y[i+s].
//
//go:norace
func correlate(x, y []float64) correlation {
	n := powerOfTwo(len(x) + len(y))
	z := make([]complex128, n)
	for i, v := range x {
		z[i] = complex(v, 0)
	}
	for i, v := range y {
		z[i] += complex(0, v)
	}
	transform(z, false)
	// Of a real signal the transform at -f is the conjugate of that at f: so both are told
	// apart in one.
	a := make([]complex128, n)
	for i := range a {
		there := cmplx.Conj(z[(n-i)%n])
		fx, fy := (z[i]+there)/2, (z[i]-there)/2i
		a[i] = cmplx.Conj(fx) * fy
	}
	transform(a, true)
	c := make(correlation, n)
	for i := range c {
		c[i] = real(a[i]) / float64(n)
	}
	return c
}

// best returns the shift of the highest correlation from first to last.
func (c correlation) best(first, last int) (shift int, peak float64) {
	peak = math.Inf(-1)
	for s := first; s <= last; s++ {
		if v := c[(s+len(c))%len(c)]; v > peak {
			shift, peak = s, v
		}
	}
	return shift, peak
}
