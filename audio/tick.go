package audio

import (
	"math"
	"runtime/debug"
	"sync/atomic"
	"time"

	"flexphone/audio/limit"
)

// A Processor works on the sound between the device and the streams, a tick at a
// time. It belongs to one goroutine and does not allocate.
type Processor interface {
	// Play may change what peers and tones say before it is played; captured is what
	// the microphone heard meanwhile.
	Play(play, captured []int16)
	// Capture may change what was captured before peers hear it. played is what the
	// device is given next, limited, so that its echo is in the capture of the next
	// tick at the soonest.
	Capture(captured, played []int16)
}

// mostSamples is a tick at the highest rate of a device.
const mostSamples = 48000 / ticksPerSecond

// ticking is what belongs to the goroutine that ticks.
type ticking struct {
	processor Processor // nil: there is none
	limiter   *limit.Limiter
	voices    [2]*player // of the tone and of the feedback, as they played last
	peers     [mostSamples]int32
	said      [mostSamples]int16
}

// newProcessor returns nil where there is none to be had.
func (e *Engine) newProcessor(rate int) (p Processor) {
	defer func() {
		if r := recover(); r != nil {
			e.unprocessed(r)
		}
	}()
	if e.making != nil {
		p = e.making(rate)
	}
	return p
}

func (e *Engine) unprocessed(panicked any) {
	e.log.Error("sound is not processed any more", "panic", panicked, "stack", string(debug.Stack()))
}

// tick takes what was captured until now, and makes what is played next: it receives from
// all streams, mixes, processes, and then sends to all. Each end hears everything
// but itself. Tones are heard here alone.
func (e *Engine) tick(play, captured []int16, now time.Time) {
	peers := e.peers[:len(play)]
	clear(peers)
	for _, s := range *e.streams.Load() {
		e.receive(s, peers, now)
	}
	for i, v := range peers {
		play[i] = clip(v)
	}
	e.mix(&e.tone, &e.voices[0], play)
	e.mix(&e.feedback, &e.voices[1], play)
	e.process(func(p Processor) { p.Play(play, captured) })
	e.limiter.Limit(play)
	e.process(func(p Processor) { p.Capture(captured, play) })
	for _, s := range *e.streams.Load() { // those that have not been dropped
		e.send(s, peers, captured)
	}
	e.progress.Add(1)
}

// receive adds a tick of one stream to what all peers say. A stream that panics
// ends.
func (e *Engine) receive(s *Stream, peers []int32, now time.Time) {
	defer s.survive()
	s.receive(len(peers), now)
	for i, v := range s.in {
		peers[i] += int32(v)
	}
}

// process lets the processor work. One that panics is not asked again.
func (e *Engine) process(work func(Processor)) {
	if e.processor == nil {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			e.processor = nil
			e.unprocessed(r)
		}
	}()
	work(e.processor)
}

// send sends a tick to one peer: what was captured and what the other peers say. A
// stream that panics ends.
func (e *Engine) send(s *Stream, peers []int32, captured []int16) {
	defer s.survive()
	said := e.said[:len(peers)]
	muted := s.muted.Load()
	for i, v := range peers {
		if s.in != nil {
			v -= int32(s.in[i])
		}
		if !muted {
			v += int32(captured[i])
		}
		said[i] = clip(v)
	}
	s.send(said)
}

func clip(v int32) int16 { return int16(min(max(v, math.MinInt16), math.MaxInt16)) }

// mix adds a tone to pcm and takes it away when it is over. before is what played
// in its place in the last tick: one that was cut off fades away.
func (e *Engine) mix(tone *atomic.Pointer[player], before **player, pcm []int16) {
	p, cut := tone.Load(), *before
	*before = nil
	over := true
	defer func() {
		if r := recover(); r != nil {
			e.log.Error("tone dropped", "panic", r, "stack", string(debug.Stack()))
		}
		if over {
			tone.CompareAndSwap(p, nil)
		}
	}()
	if cut != nil && cut != p && cut.fits(pcm) {
		cut.fade(pcm)
	}
	if p == nil {
		return
	}
	if over = p.fits(pcm) && !p.mix(pcm); !over {
		*before = p
	}
}
