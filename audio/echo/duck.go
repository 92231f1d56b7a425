package echo

import "math"

// A ducker turns the microphone down while nothing but the rest of an echo is in it. It
// is what a filter that knows its room hardly needs, and what makes a phone of one way
// at a time where the filter does not, in the first seconds of a call or where two cards
// drift: until then whoever talks first is heard. It belongs to one goroutine.
//
// What is louder than the echo can be is somebody who talks here. How loud that is, is
// learned: how much of what was played was left lately, which is believed quickly when it
// is less, and slowly when it is more, since it may be that somebody talks.
type ducker struct {
	recent      float64 // power of what was played, as a room still may ring of it
	played      float64 // smoothed, as what is left is
	left        float64
	now         float64 // power of what is left, less smoothed
	share       float64 // of what was played that is left
	least, next float64 // power of the room, in the last seconds and since then
	ticks       int
	heard       int // ticks for which something was played
	gain        float64
}

const (
	rings     = 0.9  // of recent after a tick: 60 dB in 1.3 s
	slow      = 0.03 // of a tick in played and left
	quick     = 0.3  // of a tick in now
	audible   = 2500 // power of what is played that makes an echo to learn of
	built     = 30   // ticks until a room is full of what is played
	believes  = 0.93 // of share after a tick that left less
	forgets   = 1.002
	enough    = 0.01 // share of a filter that knows its room: nothing is turned down
	mostShare = 4    // of a loudspeaker that is nearer than who talks
	doubt     = 12   // by how much what is left may be above share
	deepest   = 0.06 // gain
	closing   = 0.3  // of the gain after a tick
	roomTicks = 150  // in which the room is found
)

func newDucker() *ducker {
	return &ducker{share: mostShare, gain: 1, least: math.Inf(1), next: math.Inf(1)}
}

func powerOf(pcm []int16) (sum float64) {
	for _, v := range pcm {
		sum += float64(v) * float64(v)
	}
	return sum / float64(len(pcm))
}

// duck works on a tick that the filter has left, in place; played was played before it.
func (d *ducker) duck(pcm, played []int16) {
	out, in := powerOf(played), powerOf(pcm)
	d.recent = max(out, d.recent*rings)
	d.played += (out - d.played) * slow
	d.left += (in - d.left) * slow
	d.now += (in - d.now) * quick
	d.next = min(d.next, d.now)
	if d.ticks++; d.ticks == roomTicks {
		d.ticks, d.least, d.next = 0, d.next, math.Inf(1)
	}
	room := min(d.least, d.next)
	if d.played < audible {
		d.heard = 0
	} else if d.heard++; d.heard > built {
		if d.left < d.share*d.played {
			d.share = max(d.share*believes, d.left/d.played)
		} else {
			d.share = min(d.share*forgets, mostShare)
		}
	}
	to := 1.0
	if d.share > enough && d.now < doubt*d.share*d.recent {
		// The room itself goes on to be heard.
		to = min(1, max(deepest, math.Sqrt(room/(d.now+1e-9))))
		to = max(to, d.gain*closing)
	}
	if to == 1 && d.gain == 1 {
		return
	}
	step := (to - d.gain) / float64(len(pcm))
	for i, v := range pcm {
		d.gain += step
		pcm[i] = int16(d.gain * float64(v))
	}
	d.gain = to
}
