// Package limit keeps what a phone plays from hurting whoever listens: an acoustic
// shock is a sound that is suddenly much louder than speech, such as a tone of
// a fax or what becomes of a damaged packet.
//
// It knows samples at a rate. It refuses to know where they come from: whatever was
// decoded, made up or mixed, nothing leaves it beyond Peak, nor lastingly beyond
// Level. What is below both is not touched by a bit.
//
// # Why so
//
// A limiter that looks ahead would delay all sound. This one knows a tick at a
// time: within it, the gain comes down before a peak, and at its beginning with
// the peak itself. What that distorts is a millisecond of a sound that is too loud.
package limit

import (
	"math"
	"time"
)

const (
	// Peak is the largest sample that leaves: 6 dB below full scale. Speech of the
	// usual level, 26 dB below it (ITU-T P.56, G.111), has its peaks 8 dB lower.
	Peak = 1 << 14
	// Level is the highest lasting level, as a root of the mean square: 12 dB below
	// full scale, 14 dB above usual speech, and a little above the ringer of a phone.
	Level = 1 << 13
)

const (
	// block is how finely the gain follows.
	block  = time.Millisecond
	blocks = 10 // of a tick
	// rising is how quickly a level is believed, with which a burst of 30 ms is still
	// one of peaks; falling, how slowly it is forgotten.
	rising  = 30 * time.Millisecond
	falling = 300 * time.Millisecond
	// release is how long the gain takes to come back.
	release = 200 * time.Millisecond
)

// A Limiter limits one sound. It belongs to one goroutine and does not allocate.
type Limiter struct {
	gain float64 // of the last sample
	mean float64 // square of the level
}

// New returns a limiter that has heard nothing.
func New() *Limiter { return &Limiter{gain: 1} }

// over is how much of a step of block is left of what takes d.
func over(d time.Duration) float64 { return math.Exp(-float64(block) / float64(d)) }

var rise, fall, back = over(rising), over(falling), over(release)

// Limit changes a tick of sound in place, and reports whether it had to.
func (l *Limiter) Limit(pcm []int16) bool {
	n := len(pcm) / blocks
	if n == 0 {
		return false
	}
	var most [blocks]float64 // that the gain may be, in each
	loud := false
	for k := range most {
		most[k] = l.allowed(pcm[k*n : (k+1)*n])
		loud = loud || most[k] < 1
	}
	if !loud && l.gain == 1 {
		return false
	}
	from := l.gain
	for k := range most {
		to := 1 - (1-from)*back
		if to > 0.99 { // a tenth of a dB
			to = 1
		}
		to = min(to, most[k])
		if k+1 < blocks {
			to = min(to, most[k+1])
		}
		fade(pcm[k*n:(k+1)*n], from, to)
		from = to
	}
	l.gain = from
	return true
}

// allowed is the gain that a block may have at most.
func (l *Limiter) allowed(pcm []int16) float64 {
	peak, sum := 0, 0
	for _, v := range pcm {
		peak = max(peak, int(v), -int(v))
		sum += int(v) * int(v)
	}
	left := fall
	mean := float64(sum) / float64(len(pcm))
	if mean > l.mean {
		left = rise
	}
	l.mean = mean + (l.mean-mean)*left
	most := 1.0
	if peak > Peak {
		most = Peak / float64(peak)
	}
	if l.mean > Level*Level {
		most = min(most, Level/math.Sqrt(l.mean))
	}
	return most
}

// fade changes the gain evenly. Where even that is too loud, as where it begins too
// high, the sample itself is cut.
func fade(pcm []int16, from, to float64) {
	step := (to - from) / float64(len(pcm))
	for i, v := range pcm {
		from += step
		pcm[i] = int16(min(max(float64(v)*from, -Peak), Peak))
	}
}
