package portaudio

import (
	"sync/atomic"

	"flexphone/audio"
)

const (
	ticksPerSecond = int(1e9 / audio.TickDuration)
	// usualAhead is how much sound waits for the card before the engine's first
	// tick, in ticks: one is being played while the next is made.
	usualAhead = 1
	// onTop is how much more may ever wait. After the engine was late the card
	// has played silence in its place, and what was late comes on top.
	onTop = 2
)

// A line is one opening of a card: the two rings between the card's thread and
// the engine. A card that was reopened is another line.
type line struct {
	tick           int // samples
	most           int // that may wait for the card, in samples
	play, captured *ring
	silence        []int16       // that is ahead
	wake           chan struct{} // the callback was here
	underruns      atomic.Uint64 // of playback
	overruns       atomic.Uint64 // of capture
}

func newLine(rate, ahead int) *line {
	tick := rate / ticksPerSecond
	l := &line{
		tick:     tick,
		most:     (ahead + onTop) * tick,
		play:     newRing((ahead + 15) * tick),
		captured: newRing((ahead + 15) * tick),
		wake:     make(chan struct{}, 1),
	}
	l.silence = make([]int16, ahead*tick)
	l.play.write(l.silence)
	return l
}

// restart empties both rings. Nobody calls back meanwhile.
func (l *line) restart() {
	l.play.taken.Store(l.play.written.Load())
	l.captured.taken.Store(l.captured.written.Load())
	l.play.write(l.silence)
}

// callback runs on the card's thread. in and out are C memory that is valid
// during the call only. It must not panic, block or allocate.
func (l *line) callback(in, out []int16) {
	if n := l.play.read(out); n < len(out) {
		clear(out[n:])
		l.underruns.Add(1)
	}
	if !l.captured.write(in) {
		l.overruns.Add(1)
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// put hands a tick to the card, unless too much is waiting already.
func (l *line) put(play []int16) {
	if l.play.len()+len(play) <= l.most {
		l.play.write(play)
	}
}

// take fetches a captured tick, if there is a whole one.
func (l *line) take(captured []int16) bool {
	if l.captured.len() < len(captured) {
		return false
	}
	l.captured.read(captured)
	return true
}

// A ring is a queue of samples with one writer and one reader, neither of whom
// ever waits.
type ring struct {
	written, taken atomic.Uint64
	samples        []int16
}

func newRing(n int) *ring { return &ring{samples: make([]int16, n)} }

func (r *ring) len() int { return int(r.written.Load() - r.taken.Load()) }

// write adds all of s, or nothing and returns false if there is no room.
func (r *ring) write(s []int16) bool {
	w := r.written.Load()
	if int(w-r.taken.Load())+len(s) > len(r.samples) {
		return false
	}
	at := int(w % uint64(len(r.samples)))
	n := copy(r.samples[at:], s)
	copy(r.samples, s[n:])
	r.written.Store(w + uint64(len(s)))
	return true
}

// read fills s as far as it can and returns how far.
func (r *ring) read(s []int16) int {
	t := r.taken.Load()
	s = s[:min(len(s), int(r.written.Load()-t))]
	at := int(t % uint64(len(r.samples)))
	n := copy(s, r.samples[at:])
	copy(s[n:], r.samples)
	r.taken.Store(t + uint64(len(s)))
	return len(s)
}
