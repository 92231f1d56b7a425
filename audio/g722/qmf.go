package g722

// taps are every second coefficient of the filter that parts the bands and joins
// them again, in 1/8192 (table 11); the others are the same from the end.
var taps = [12]int32{3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11}

// A filter is the past that the quadrature mirror filter works on: 24 samples of
// 16 kHz. It is kept twice, so that they always lie in one piece.
type filter struct {
	past [48]int32
	at   int
}

// sums takes two samples, and returns the sums over the even and the odd places.
func (f *filter) sums(x, y int32) (even, odd int32) {
	f.past[f.at], f.past[f.at+24] = x, x
	f.past[f.at+1], f.past[f.at+25] = y, y
	if f.at += 2; f.at == 24 {
		f.at = 0
	}
	w := f.past[f.at : f.at+24 : f.at+24]
	for i, c := range taps {
		even += c * w[2*i]
		odd += c * w[23-2*i]
	}
	return even, odd
}

// part is the transmit filter: two samples become one of each band.
func (f *filter) part(x, y int32) (low, high int32) {
	even, odd := f.sums(x, y)
	return limit((odd + even) >> 14), limit((odd - even) >> 14)
}

// join is the receive filter: one sample of each band becomes two.
func (f *filter) join(low, high int32) (x, y int16) {
	even, odd := f.sums(low+high, low-high)
	return int16(saturate(odd >> 11)), int16(saturate(even >> 11))
}
