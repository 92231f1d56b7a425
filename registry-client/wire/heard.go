package wire

import (
	"fmt"
	"time"
)

// MaxHeard is how many calls an announcement tells of.
const MaxHeard = 8

// Bounds of what is told of a call. Delay and jitter beyond a minute are no call's.
const (
	minOpinion, maxOpinion = 100, 500
	maxLost                = 1000
	maxDelay               = time.Minute
	maxLength              = 24 * time.Hour
)

// A Heard is how a phone heard a call that is over. It does not say whom the call was
// with, nor when.
type Heard struct {
	Opinion uint16        // mean opinion score (ITU-T P.800) in hundredths, 100 to 500
	Lost    uint16        // of a thousand packets, those that did not come or came too late to be played
	Delay   time.Duration // from mouth to ear, as far as the phone knows it: whole milliseconds, at most a minute
	Jitter  time.Duration // at the end (RFC 3550, appendix A.8): whole milliseconds, at most a minute
	Length  time.Duration // whole seconds, at most a day
}

// Fit returns h without what is finer than is sent, or beyond its bounds.
func (h Heard) Fit() Heard {
	return Heard{
		Opinion: min(max(h.Opinion, minOpinion), maxOpinion),
		Lost:    min(h.Lost, maxLost),
		Delay:   min(max(h.Delay, 0), maxDelay).Truncate(time.Millisecond),
		Jitter:  min(max(h.Jitter, 0), maxDelay).Truncate(time.Millisecond),
		Length:  min(max(h.Length, 0), maxLength).Truncate(time.Second),
	}
}

// Validate reports why h cannot be meant.
func (h Heard) Validate() error {
	if h != h.Fit() {
		return fmt.Errorf("wire: call of %v with opinion %d, loss %d, delay %v, jitter %v: %w", h.Length, h.Opinion, h.Lost, h.Delay, h.Jitter, ErrInvalid)
	}
	return nil
}

// figures are h as they are sent.
func (h Heard) figures() []uint32 {
	return []uint32{uint32(h.Opinion), uint32(h.Lost), uint32(h.Delay.Milliseconds()), uint32(h.Jitter.Milliseconds()), uint32(h.Length / time.Second)}
}

// heardOf reads figures; of a later version there may be more.
func heardOf(f []uint32) (Heard, bool) {
	if len(f) < 5 || f[0] > maxOpinion || f[1] > maxLost {
		return Heard{}, false
	}
	h := Heard{
		Opinion: uint16(f[0]), Lost: uint16(f[1]), Delay: time.Duration(f[2]) * time.Millisecond,
		Jitter: time.Duration(f[3]) * time.Millisecond, Length: time.Duration(f[4]) * time.Second,
	}
	return h, h.Validate() == nil
}
