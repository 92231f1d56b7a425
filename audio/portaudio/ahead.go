package portaudio

import (
	"time"

	"flexphone/audio"
)

const (
	// spareAfter is how long sound must have waited for the card without need before less
	// does. Whenever that turns out to be too little it takes twice as long, to spareMost: a
	// machine that is late now and then is heard to be so a few times an hour.
	spareAfter = 10 * time.Second
	spareMost  = 20 * time.Minute
	// inaudible is the largest sample of what may be left out.
	inaudible = 32
)

// An ahead is how much sound waits for the card when the engine brings the next tick.
// That is as little as is allowed at first. Where it is too little the card has nothing
// to play for a moment, and what comes then waits for that much longer. Where the engine
// would have been in time with half a tick less, each time, half a tick of a pause is
// left out.
type ahead struct {
	least  int // samples that wait always, where the engine is prompt
	half   int // of a tick
	now    int // that wait where the engine is prompt
	hold   int // ticks before less wait
	ticks  int // since now was found, or looked at again
	lowest int // that waited in these
	spared bool
}

func newAhead(least, tick int) ahead {
	return ahead{least: least, half: tick / 2, now: least, hold: int(spareAfter / audio.TickDuration)}
}

// begin returns how much silence is to wait for the card before its clock starts.
func (a *ahead) begin() int {
	a.watch()
	return a.now
}

// watch begins to look whether less will do.
func (a *ahead) watch() { a.ticks, a.lowest = 0, a.now }

// spare is told how much waits when a tick is brought, and returns how much of the
// tick's beginning is to be left out.
func (a *ahead) spare(waits int, tick []int16) int {
	if waits > a.now { // the card had nothing to play
		a.now = waits
		if a.spared {
			a.hold = min(2*a.hold, int(spareMost/audio.TickDuration))
		}
		a.watch()
	}
	a.lowest = min(a.lowest, waits)
	if a.ticks++; a.ticks < a.hold {
		return 0
	}
	if a.lowest < a.half || a.now-a.half < a.least {
		a.watch()
		return 0
	}
	for _, v := range tick[:a.half] {
		if v > inaudible || v < -inaudible {
			return 0
		}
	}
	a.now, a.spared = a.now-a.half, true
	a.watch()
	return a.half
}
