package audiotest

import "time"

// Follow listens to recorded as somebody does who does not mind that sound comes
// sooner or later than before: each half second of original is taken from where it is
// found. It returns that copy, which is silent where nothing was found, and how much
// later than in original each half second of speech began that was found.
func Follow(original, recorded []int16, rate int) (followed []int16, delays []time.Duration) {
	followed = make([]int16, len(original))
	if len(original) == 0 || len(recorded) == 0 {
		return followed, nil
	}
	n := int(block * bandRate / time.Second)
	x, y := band(original, recorded, rate)
	c := correlate(x, y)
	shift, _ := c.best(1-len(x), len(y)-1)
	speech := make([]bool, len(x)/n+1)
	for _, from := range voicedPieces(x, int(piece*bandRate/time.Second)) {
		speech[from/n] = true
	}
	scale := rate / bandRate
	for i := range speech {
		from := i * n
		until := min(from+n, len(x))
		at := shift
		if speech[i] {
			var found bool
			if at, found = blockShift(x[from:until], y, from, shift, int(search*bandRate/time.Second)); found {
				delays = append(delays, time.Duration(at)*time.Second/bandRate)
				shift = at
			}
		}
		for k := from * scale; k < min((from+n)*scale, len(original)); k++ {
			if r := k + at*scale; r >= 0 && r < len(recorded) {
				followed[k] = recorded[r]
			}
		}
	}
	return followed, delays
}
