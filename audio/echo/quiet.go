package echo

import (
	"math"
	"slices"

	"flexphone/audio"
)

// A listener finds out whether a handset has any echo that could be heard at the far end,
// so that there is nothing to take out. It belongs to one goroutine.
//
// What is captured is the echo and all else, so the echo is no louder than that: where the
// far end has been loud for as long as an echo may last, and the microphone hears no
// more than in the pauses, or next to nothing, there is none. Somebody who talks here hides it,
// and so proves nothing: for how long it is believed that there is none goes by how long
// the far end has been loud.
//
// All powers are of differences, which weigh the lows less: where a far voice is loud
// without them, a small echo of it is not just one of its bass.
type listener struct {
	apart       int // samples between those that a difference is of: an eighth of a millisecond
	played      [echoes]float64
	at          int
	least, next float64 // power of the room, in the last seconds and since then
	ticks       int     // of next
	loud, clear int     // ticks in which the far end was loud, and of these without echo
	none        bool    // there is no echo
}

const (
	// echoes is for how many ticks a handset's echo may last, with the tick in which it begins.
	echoes = int(handsetTail/audio.TickDuration) + 2
	// loudEnough is the power of what is played that is loud, 38 dB below full scale.
	loudEnough = 400 * 400
	// inaudible is the part of it that nobody hears, and faint what may be the room.
	inaudible = 1e-5
	faint     = 1e-3
	// roomNoise is by how much a tick of a room's noise may be above the least.
	roomNoise = 2
	// It is found that there is no echo where so many of so many loud ticks are without
	// one, and believed for as long as fewer are each time. Half of them are, where nobody talks
	// here; a third of a voice's are loud.
	believed, proofs = 150, 10
	doubted, fresh   = 40, 3
	// quietTicks is in how many ticks a room is heard once.
	quietTicks = 300
)

func newListener(rate int) listener {
	return listener{apart: rate / 8000, least: math.Inf(1), next: math.Inf(1)}
}

// listen is told of a tick, and of what is played next, and reports whether there is no
// echo.
func (l *listener) listen(captured, played []int16) bool {
	heard := difference(captured, l.apart)
	l.next = min(l.next, heard)
	if l.ticks++; l.ticks == quietTicks {
		l.least, l.next, l.ticks = l.next, math.Inf(1), 0
	}
	far := slices.Min(l.played[:])
	l.played[l.at] = difference(played, l.apart)
	l.at = (l.at + 1) % echoes
	if far < loudEnough {
		return l.none
	}
	l.loud++
	if heard < inaudible*far || heard < faint*far && heard <= roomNoise*min(l.least, l.next) {
		l.clear++
	}
	wait, want := believed, proofs
	if l.none {
		wait, want = doubted, fresh
	}
	if l.loud == wait {
		l.none = l.clear >= want
		l.loud, l.clear = 0, 0
	}
	return l.none
}

// difference is the power of what is left of sound from which itself was taken, some
// samples before.
func difference(pcm []int16, apart int) float64 {
	var sum float32
	for i, v := range pcm[apart:] {
		d := float32(v) - float32(pcm[i])
		sum += d * d
	}
	return float64(sum) / float64(len(pcm)-apart)
}
