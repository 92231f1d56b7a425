// Package echo works on the sound between the device and the calls, for whoever holds a
// handset or talks across a table: it takes out of what the microphone hears what
// the loudspeaker said, lets a speaker hear himself in the handset, and knows volume
// and mute.
//
// It knows speexdsp, by cgo, and ticks of PCM. It refuses to know which device there
// is and how far its clocks drift from each other: where capture and playback are not on
// one clock, the filter has to learn anew all the time (29 dB are left of 50 at 20 ppm).
//
// # Why two lengths
//
// In a handset the echo is faint, and over as soon as it has come through the
// device: a short filter takes it out and nothing else is done to the voice. Across a
// table the room answers for 200 ms, louder than who speaks there, and what
// the filter leaves has to be suppressed; noise as well, and a level control makes up
// for the distance. That costs three times as much and delays what is said by a tick.
package echo

import (
	"math"
	"sync/atomic"
	"time"

	"flexphone/audio"
)

// A Mode is how the phone is talked into.
type Mode int32

// The modes.
const (
	Off       Mode = iota // sound goes through as it is: there is no echo
	Handset               // at the ear
	HandsFree             // across a table
)

// String returns the mode's name.
func (m Mode) String() string {
	for name, o := range Modes() {
		if o == m {
			return name
		}
	}
	return "unknown"
}

// Modes are the names of the modes, as settings have them.
func Modes() map[string]Mode {
	return map[string]Mode{"off": Off, "handset": Handset, "hands-free": HandsFree}
}

const (
	// handsetTail is the way through the device and back, and handsFreeTail with the room.
	handsetTail   = 64 * time.Millisecond
	handsFreeTail = 200 * time.Millisecond
	// MaxVolume is the loudest, and UsualVolume as what comes; a step is 3 dB.
	MaxVolume   = 10
	UsualVolume = 6
	volumeStep  = 3.0
	// sideTone is how much of his own voice a speaker hears in a handset: with that of
	// the handset's acoustics within the 16 dB of ETSI ES 202 739, 5.4.
	sideTone = 0.1
)

// A Desk is what is set, from any goroutine. Its zero value is Off at volume 0.
type Desk struct {
	mode     atomic.Int32
	volume   atomic.Int32
	muted    atomic.Bool
	sideTone atomic.Bool
}

// NewDesk returns a desk in a mode, at UsualVolume, with side tone or without.
func NewDesk(m Mode, withSideTone bool) *Desk {
	d := &Desk{}
	d.mode.Store(int32(m))
	d.volume.Store(UsualVolume)
	d.sideTone.Store(withSideTone)
	return d
}

// SetMode changes the mode; it is not heard that it changes.
func (d *Desk) SetMode(m Mode) { d.mode.Store(int32(m)) }

// Mode returns the mode.
func (d *Desk) Mode() Mode { return Mode(d.mode.Load()) }

// SetVolume sets how loud calls and tones are played, 0 (3 dB to the step) to MaxVolume;
// what is outside is brought inside.
func (d *Desk) SetVolume(v int) { d.volume.Store(int32(min(max(v, 0), MaxVolume))) }

// Volume returns the volume.
func (d *Desk) Volume() int { return int(d.volume.Load()) }

// Mute keeps all peers from hearing what is captured.
func (d *Desk) Mute(on bool) { d.muted.Store(on) }

// Muted reports whether nobody hears what is captured.
func (d *Desk) Muted() bool { return d.muted.Load() }

// gain returns by what sound is multiplied.
func (d *Desk) gain() float32 {
	return float32(math.Pow(10, volumeStep*float64(d.volume.Load()-UsualVolume)/20))
}

// Processor returns what works for the desk at a device's rate, in ticks.
func (d *Desk) Processor(rate int) audio.Processor {
	p := &processor{desk: d, rate: rate, before: make([]int16, rate/ticksPerSecond), far: make([]int16, rate/ticksPerSecond), mode: d.Mode(), volume: d.volume.Load(), gain: d.gain()}
	p.now = p.canceller(p.mode)
	if d.Muted() {
		p.open = 0
	} else {
		p.open = 1
	}
	return p
}

// A processor is the audio.Processor of a desk.
type processor struct {
	desk   *Desk
	rate   int
	mode   Mode
	now    *canceller // nil: none is wanted, or to be had
	before []int16    // what was captured, when the mode changes
	volume int32
	gain   float32
	// far is what is played without the side tone, if beside says that there is one: a
	// filter that was told of that would take the speaker's own voice for echo.
	far    []int16
	beside bool
	open   float32 // what is heard of the microphone: 1, or 0 when it is muted
}

// canceller returns that of a mode.
func (p *processor) canceller(m Mode) *canceller {
	tail, clean := handsetTail, false
	switch m {
	case Off:
		return nil
	case HandsFree:
		tail, clean = handsFreeTail, true
	}
	c, err := newCanceller(p.rate, tail, clean)
	if err != nil {
		return nil // libspeexdsp refuses no rate that a device has; sound goes on without
	}
	return c
}

// Play implements audio.Processor.
func (p *processor) Play(play, captured []int16) {
	gain := p.gain
	if v := p.desk.volume.Load(); v != p.volume {
		p.volume, p.gain = v, p.desk.gain()
	}
	side := float32(0)
	if p.mode == Handset && p.desk.sideTone.Load() {
		side = sideTone * p.open
	}
	p.beside = side != 0
	if gain == 1 && p.gain == 1 && !p.beside {
		return
	}
	step := (p.gain - gain) / float32(len(play))
	for i := range play {
		gain += step
		v := gain * float32(play[i])
		p.far[i] = clip(v)
		play[i] = clip(v + side*float32(captured[i]))
	}
}

// Capture implements audio.Processor.
func (p *processor) Capture(captured, played []int16) {
	if p.beside {
		played = p.far
	}
	last := p.now
	m := p.desk.Mode()
	changes := m != p.mode
	if changes {
		copy(p.before, captured)
		p.mode, p.now = m, p.canceller(m)
	}
	if p.now != nil {
		if changes && last != nil {
			copy(p.now.reference, last.reference)
		}
		p.now.cancel(captured, played)
	}
	if changes { // from one into the other over a tick
		if last != nil {
			last.cancel(p.before, played)
		}
		for i, v := range captured {
			part := float32(i+1) / float32(len(captured))
			captured[i] = clip(part*float32(v) + (1-part)*float32(p.before[i]))
		}
	}
	p.mute(captured)
}

// mute lets a microphone fade that nobody is to hear, and come back, over a tick.
func (p *processor) mute(captured []int16) {
	to := float32(1)
	if p.desk.Muted() {
		to = 0
	}
	switch open := p.open; {
	case open != to:
		step := (to - open) / float32(len(captured))
		for i, v := range captured {
			open += step
			captured[i] = clip(open * float32(v))
		}
		p.open = to
	case to == 0:
		clear(captured)
	}
}

func clip(v float32) int16 { return int16(min(max(v, math.MinInt16), math.MaxInt16)) }
