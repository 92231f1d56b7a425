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
	Way     Way           // of what was heard, when the call was over
}

// A Way is how the sound of a call between phones of ours goes.
type Way uint8

// The ways.
const (
	WayUnknown Way = iota // nobody has told, or the call was with another phone
	WayDirect             // to an address of the peer's own
	WayPunched            // to one that a NAT has given it
	WayRelayed            // by a relay
)

// Ways are all of them, each at its own place.
var Ways = [...]Way{WayUnknown, WayDirect, WayPunched, WayRelayed}

// String implements fmt.Stringer.
func (w Way) String() string {
	switch w {
	case WayDirect:
		return "direct"
	case WayPunched:
		return "punched"
	case WayRelayed:
		return "relayed"
	}
	return "unknown"
}

// WayOf is the Way of that name; WayUnknown: of none.
func WayOf(name string) Way {
	for _, w := range Ways {
		if w.String() == name {
			return w
		}
	}
	return WayUnknown
}

// Fit returns h without what is finer than is sent, or beyond its bounds.
func (h Heard) Fit() Heard {
	return Heard{
		Opinion: min(max(h.Opinion, minOpinion), maxOpinion),
		Lost:    min(h.Lost, maxLost),
		Delay:   min(max(h.Delay, 0), maxDelay).Truncate(time.Millisecond),
		Jitter:  min(max(h.Jitter, 0), maxDelay).Truncate(time.Millisecond),
		Length:  min(max(h.Length, 0), maxLength).Truncate(time.Second),
		Way:     wayOf(uint32(h.Way)),
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
	return []uint32{uint32(h.Opinion), uint32(h.Lost), uint32(h.Delay.Milliseconds()), uint32(h.Jitter.Milliseconds()), uint32(h.Length / time.Second), uint32(h.Way)}
}

// wayOf is a way as it is sent; one that a later version knows is unknown.
func wayOf(f uint32) Way {
	if int64(f) >= int64(len(Ways)) {
		return WayUnknown
	}
	return Way(f)
}

// heardOf reads figures; of a later version there may be more, and of an earlier one no way.
func heardOf(f []uint32) (Heard, bool) {
	if len(f) < 5 || f[0] > maxOpinion || f[1] > maxLost {
		return Heard{}, false
	}
	h := Heard{
		Opinion: uint16(f[0]), Lost: uint16(f[1]), Delay: time.Duration(f[2]) * time.Millisecond,
		Jitter: time.Duration(f[3]) * time.Millisecond, Length: time.Duration(f[4]) * time.Second,
	}
	if len(f) > 5 {
		h.Way = wayOf(f[5])
	}
	return h, h.Validate() == nil
}
