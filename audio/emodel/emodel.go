// Package emodel says how good a call is by what can be counted: the E-model of ITU-T
// G.107, as far as a phone can know its parameters.
//
// It knows loss, delay and what codecs make of loss. It refuses to know noise, levels
// and echo of either end, which keep the values that G.107 takes where nobody has
// measured (without echo R is 93.2); and that a wide band sounds better, for which
// G.107.1 has another scale: figures of all codecs can be compared.
package emodel

import "math"

// perfect is R where nothing is wrong (G.107, table 2, all values by default).
const perfect = 93.2

// A Codec is how a codec bears loss (ITU-T G.113, appendix I).
type Codec struct {
	Impairment float64 // Ie, without any loss
	Robustness float64 // Bpl: the percent of loss that takes half of what it can take
}

// Of returns the named codec. G.711 is that whose gaps are filled. Opus and G.722 are in
// no table for this scale: what loses nothing is not worse than G.711, and gaps
// are taken to be as well filled.
func Of(string) Codec { return Codec{0, 25.1} }

// R is the rating of what is heard, 0 to 93.2: lost is the share of sound that did
// not come, or came too late, 0 to 1; delay is that from mouth to ear, in
// milliseconds.
func R(c Codec, lost, delay float64) float64 {
	percent := 100 * min(max(lost, 0), 1)
	return max(0, perfect-delayed(delay)-c.Impairment-(95-c.Impairment)*percent/(percent+c.Robustness))
}

// delayed is Idd (G.107, section 7.4).
func delayed(ms float64) float64 {
	if ms <= 100 {
		return 0
	}
	x := math.Log2(ms / 100)
	root := func(v float64) float64 { return math.Pow(1+math.Pow(v, 6), 1.0/6) }
	return 25 * (root(x) - 3*root(x/3) + 2)
}

// MOS is the mean opinion of people about what is rated r, 1 to 4.5 (G.107, annex B).
func MOS(r float64) float64 {
	switch {
	case r <= 0:
		return 1
	case r >= 100:
		return 4.5
	}
	return max(1, 1+0.035*r+r*(r-60)*(100-r)*7e-6)
}
