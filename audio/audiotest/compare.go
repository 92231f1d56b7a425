// Package audiotest says how much of what was spoken arrived: it compares a
// recording with the original.
//
// It is for tests and for the testbed, and knows sampled speech alone: no files,
// no devices, no codecs.
//
// # How it listens
//
// Both signals are limited to the telephone's band, where every codec keeps the
// waveform, and correlated over all shifts by an FFT: the highest peak is where
// the recording holds the original, wherever it begins and however often it is
// repeated. A playout buffer may drop or insert sound on the way, so that each
// half second is sought again near there. A voiced piece of 40 ms has arrived if
// it correlates with what stands at its place; at the place of its half second,
// and not wherever it fits best, because a vowel of anybody fits somewhere.
//
// The race detector leaves its loops out (go:norace): they compute on memory of their
// own, and take three times as long where it looks at each sample.
package audiotest

import (
	"math"
	"time"
)

// A Report is how a recording compares to the original.
type Report struct {
	// Delay is where the original begins in the recording; negative if its
	// beginning is not in it.
	Delay time.Duration
	// Correlation is that of the voiced parts where they were found, -1 to 1:
	// about 0.99 for G.711, 0.9 for Opus, below 0.3 for other speech.
	Correlation float64
	// Arrived is the share of the voiced pieces that were found, 0 to 1.
	Arrived float64
}

const (
	block  = 500 * time.Millisecond
	piece  = 40 * time.Millisecond
	search = 150 * time.Millisecond // of a block, around the whole's place
	// blockMin is the correlation from which on a block is believed to be
	// elsewhere than the whole.
	blockMin = 0.5
	// pieceMin is the correlation of a piece that arrived. Codecs leave more,
	// other speech at the same place reaches it in one piece of fifty.
	pieceMin = 0.7
	// voiced is the level below the loudest piece at which speech ends, in dB.
	voiced = 25

	lowest, highest = 200, 3300 // Hz
	bandRate        = 8000
)

// Compare finds original in recorded, both at rate samples a second, a multiple
// of 8000.
func Compare(original, recorded []int16, rate int) Report {
	n := func(d time.Duration) int { return int(d * bandRate / time.Second) }
	x, y := band(original, recorded, rate)
	pieces := voicedPieces(x, n(piece))
	if len(pieces) == 0 || energy(y) == 0 {
		return Report{}
	}
	c := correlate(x, y)
	shift, _ := c.best(1-len(x), len(y)-1)
	shifts := make([]int, len(x)/n(block)+1)
	for i := range shifts {
		from := i * n(block)
		shifts[i], _ = blockShift(x[from:min(from+n(block), len(x))], y, from, shift, n(search))
	}
	var xy, xx, yy float64
	found := 0
	for _, from := range pieces {
		a := x[from : from+n(piece)]
		b := window(y, from+shifts[from/n(block)], len(a))
		pxy, pxx, pyy := dot(a, b), dot(a, a), dot(b, b)
		xy, xx, yy = xy+pxy, xx+pxx, yy+pyy
		if ratio(pxy, pxx, pyy) >= pieceMin {
			found++
		}
	}
	return Report{
		Delay:       time.Duration(shift) * time.Second / bandRate,
		Correlation: ratio(xy, xx, yy),
		Arrived:     float64(found) / float64(len(pieces)),
	}
}

// blockShift returns where a block, which begins at from in the original, lies
// in y: near shift if it is found there, else at shift.
func blockShift(x, y []float64, from, shift, search int) (at int, found bool) {
	near := window(y, from+shift-search, len(x)+2*search)
	c := correlate(x, near)
	at, peak := c.best(0, 2*search)
	there := near[at : at+len(x)]
	if ratio(peak, dot(x, x), dot(there, there)) < blockMin {
		return shift, false
	}
	return shift - search + at, true
}

// window returns n samples of y from a place on, with silence where there are none.
func window(y []float64, from, n int) []float64 {
	if from >= 0 && from+n <= len(y) {
		return y[from : from+n]
	}
	w := make([]float64, n)
	for i := range w {
		if k := from + i; k >= 0 && k < len(y) {
			w[i] = y[k]
		}
	}
	return w
}

// voicedPieces returns the beginnings of the pieces in which somebody speaks.
func voicedPieces(x []float64, n int) []int {
	var loudest float64
	for i := 0; i+n <= len(x); i += n {
		loudest = max(loudest, energy(x[i:i+n]))
	}
	var pieces []int
	for i := 0; i+n <= len(x); i += n {
		if e := energy(x[i : i+n]); e > 0 && e > loudest*math.Pow(10, -voiced/10.0) {
			pieces = append(pieces, i)
		}
	}
	return pieces
}

func energy(x []float64) float64 { return dot(x, x) }

//go:norace
func dot(a, b []float64) float64 {
	var s float64
	for i, v := range a {
		s += v * b[i]
	}
	return s
}

// ratio is a coefficient of correlation; silence correlates with nothing.
func ratio(xy, xx, yy float64) float64 {
	if xx <= 0 || yy <= 0 {
		return 0
	}
	return xy / math.Sqrt(xx*yy)
}
