package main

import (
	"math"
	"sync"
	"time"

	"flexphone/audio"
	"flexphone/audio/emodel"
	"flexphone/registry-client/wire"
)

// heardOf is what is told of a call that was so long, and whose sound went so at its end.
func heardOf(t audio.Stats, length time.Duration, way string) wire.Heard {
	lost := 0.0
	if sent := t.PacketsReceived + t.PacketsLost; sent > 0 {
		lost = min(1, float64(t.PacketsLost+t.Late)/float64(sent))
	}
	return wire.Heard{
		Opinion: uint16(math.Round(100 * emodel.MOS(t.Rating()))), Lost: uint16(math.Round(1000 * lost)),
		Delay: t.RoundTrip/2 + t.Delay, Jitter: t.Jitter, Length: length, Way: wire.WayOf(way),
	}.Fit()
}

// heardCalls are the last calls that the storing server has not been told of, at most
// wire.MaxHeard.
type heardCalls struct {
	full func() // so many wait that they are worth an announcement

	mu      sync.Mutex
	waiting []wire.Heard // the newest last
	shown   int          // how many of them stand in the announcement that is tried
}

// add takes a call that is over. Of too many the oldest is forgotten.
func (h *heardCalls) add(c wire.Heard) {
	h.mu.Lock()
	h.waiting = append(h.waiting, c)
	if len(h.waiting) > wire.MaxHeard {
		h.waiting = h.waiting[1:]
		h.shown = max(0, h.shown-1)
	}
	full := len(h.waiting) == wire.MaxHeard
	h.mu.Unlock()
	if full {
		h.full()
	}
}

// show returns what the next announcement tells.
func (h *heardCalls) show() []wire.Heard {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shown = len(h.waiting)
	return append([]wire.Heard(nil), h.waiting...)
}

// told is that the announcement which showed them was taken.
func (h *heardCalls) told() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting, h.shown = h.waiting[h.shown:], 0
}
