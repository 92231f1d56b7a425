// Package echo works on the sound between the device and the calls, for whoever holds a
// handset or talks across a table: it takes out of what the microphone hears what
// the loudspeaker said, lets a speaker hear himself in the handset, and knows volume
// and mute.
//
// It knows a Kalman filter of its own, in C, and speexdsp, by cgo, and ticks of PCM. It
// refuses to know which device there is. Where capture and playback are two devices, of two
// clocks, it finds out from the filter how far they drift apart, and follows.
//
// # Why two lengths
//
// In a handset the echo is faint, and over as soon as it has come through the
// device: a short filter takes it out and nothing else is done to the voice. Across a
// table the room answers for 200 ms, louder than who speaks there, and what
// the filter leaves has to be suppressed; noise as well, and a level control makes up
// for the distance. That costs three times as much and delays what is said by 12 ms.
//
// # Why a filter of our own
//
// That of speexdsp (MDF) takes a voice here for a change of the room: in the same room it
// takes 4.5 dB of the first second's echo where this one takes 18, leaves .87 of a voice
// understood while both talk, where this one leaves .94, does nothing for some seconds after
// the room has changed, and comes to 17 dB where two clocks differ by 20 ppm.
//
// # Where there is nothing to do
//
// A good handset has no echo that could be told from the noise of its microphone. Once
// that is known (listener) the filter rests: a voice is sent as wide as the device has it,
// and sooner where that is wider than telephones. It works again when there is
// no more proof, three seconds of a loud voice later at the most.
//
// # How well
//
// In a synthetic room that answers for 165 ms, with all that is done hands-free, 53 dB of
// the echo are gone once somebody has talked for half a minute, and 38 or more in the first
// second, in which one end at a time is heard (ducker); with two clocks that differ by 100 ppm
// 48. After another room has come, it takes half a second. While both talk, STOI is
// .88 where the microphone alone leaves .68, and .99 in a handset, where it leaves .79. The way through
// the device is part of the length: a handset's may be 50 ms.
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
	// MaxVolume is the loudest, and UsualVolume as what comes; a step is 3 dB. A ringer at
	// 0 is silent.
	MaxVolume   = 10
	UsualVolume = 6
	volumeStep  = 3.0
	// sideTone is how much of his own voice a speaker hears in a handset: with that of
	// the handset's acoustics within the 16 dB of ETSI ES 202 739, 5.4.
	sideTone = 0.1
)

// An Output is what has a volume of its own.
type Output int

// The outputs.
const (
	Earpiece    Output = iota // of the handset, and where there is no telling
	Loudspeaker               // of who talks hands-free
	Ringer
	outputs
)

// String returns the output's name.
func (o Output) String() string { return [...]string{"handset", "loudspeaker", "ringer"}[o] }

// Outputs are the outputs by their names.
func Outputs() map[string]Output {
	byName := map[string]Output{}
	for o := range outputs {
		byName[o.String()] = o
	}
	return byName
}

// A Desk is what is set, from any goroutine. Its zero value is Off, all volumes 0.
type Desk struct {
	mode     atomic.Int32
	volumes  [outputs]atomic.Int32
	ringing  atomic.Bool
	muted    atomic.Bool
	sideTone atomic.Bool
}

// NewDesk returns a desk in a mode, at UsualVolume, with side tone or without.
func NewDesk(m Mode, withSideTone bool) *Desk {
	d := &Desk{}
	d.mode.Store(int32(m))
	for o := range outputs {
		d.SetVolume(o, UsualVolume)
	}
	d.sideTone.Store(withSideTone)
	return d
}

// SetMode changes the mode, which takes a third of a second; it is not heard that it
// changes.
func (d *Desk) SetMode(m Mode) { d.mode.Store(int32(m)) }

// Mode returns the mode.
func (d *Desk) Mode() Mode { return Mode(d.mode.Load()) }

// SetVolume sets how loud an output is, 0 to MaxVolume; what is outside is brought
// inside.
func (d *Desk) SetVolume(o Output, v int) { d.volumes[o].Store(int32(min(max(v, 0), MaxVolume))) }

// Volume returns the volume of an output.
func (d *Desk) Volume(o Output) int { return int(d.volumes[o].Load()) }

// Voice returns the output by which people are heard, by the mode.
func (d *Desk) Voice() Output {
	if d.Mode() == HandsFree {
		return Loudspeaker
	}
	return Earpiece
}

// Ring says whether what is played is to be heard across the room.
func (d *Desk) Ring(is bool) { d.ringing.Store(is) }

// Mute keeps all peers from hearing what is captured.
func (d *Desk) Mute(on bool) { d.muted.Store(on) }

// Muted reports whether nobody hears what is captured.
func (d *Desk) Muted() bool { return d.muted.Load() }

// A loudness is an output at a volume.
type loudness struct {
	output Output
	volume int
}

// loudness returns that of what is played now.
func (d *Desk) loudness() loudness {
	o := d.Voice()
	if d.ringing.Load() {
		o = Ringer
	}
	return loudness{o, d.Volume(o)}
}

// gain returns by what sound is multiplied.
func (l loudness) gain() float32 {
	if l.output == Ringer && l.volume == 0 {
		return 0
	}
	return float32(math.Pow(10, volumeStep*float64(l.volume-UsualVolume)/20))
}

// Processor returns what works for the desk at a device's rate, in ticks.
func (d *Desk) Processor(rate int) audio.Processor {
	p := &processor{desk: d, rate: rate, other: make([]int16, rate/ticksPerSecond), far: make([]int16, rate/ticksPerSecond), mode: d.Mode(), loud: d.loudness()}
	p.gain = p.loud.gain()
	p.wanted, p.now = p.mode, p.canceller(p.mode)
	p.echo = newListener(rate)
	if d.Muted() {
		p.open = 0
	} else {
		p.open = 1
	}
	return p
}

// A processor is the audio.Processor of a desk.
type processor struct {
	desk *Desk
	rate int
	mode Mode       // that is heard; Off as well while the canceller of a handset rests
	now  *canceller // nil: none is wanted, or to be had
	loud loudness
	gain float32
	// wanted is the mode that is to be heard once its canceller has learned for some
	// ticks; if it is not mode.
	wanted Mode
	next   *canceller
	ticks  int
	other  []int16 // what next makes of a tick
	side   float32 // how much a speaker hears of himself
	// far is what is played without the side tone, if beside says that there is one: a
	// filter that was told of that would take the speaker's own voice for echo.
	far    []int16
	beside bool
	// echo knows of a handset without echo: its canceller rests, and is kept.
	echo listener
	kept *canceller
	open float32 // what is heard of the microphone: 1, or 0 when it is muted
}

// canceller returns that of a mode.
func (p *processor) canceller(m Mode) *canceller {
	tail, clean := handsetTail, false
	switch m {
	case Off:
		return nil
	case Handset:
		if p.kept != nil {
			return p.kept
		}
	case HandsFree:
		tail, clean = handsFreeTail, true
	}
	c, err := newCanceller(p.rate, tail, clean)
	if err != nil {
		return nil // libspeexdsp refuses no rate that a device has; sound goes on without
	}
	if m == Handset {
		p.kept = c
	}
	return c
}

// Play implements audio.Processor.
func (p *processor) Play(play, captured []int16) {
	gain := p.gain
	if l := p.desk.loudness(); l != p.loud {
		p.loud, p.gain = l, l.gain()
	}
	side, toSide := p.side, float32(0)
	if p.desk.Mode() == Handset && p.desk.sideTone.Load() {
		toSide = sideTone * p.open
	}
	p.side = toSide
	p.beside = side != 0 || toSide != 0
	if gain == 1 && p.gain == 1 && !p.beside {
		return
	}
	step, sideStep := (p.gain-gain)/float32(len(play)), (toSide-side)/float32(len(play))
	for i := range play {
		gain += step
		side += sideStep
		v := gain * float32(play[i])
		p.far[i] = clip(v)
		play[i] = clip(v + side*float32(captured[i]))
	}
}

const (
	// learning is for how long another mode works unheard, in ticks: it finds the room and its
	// noise meanwhile. changing is how long the one then takes to become the other.
	learning = 30
	changing = 2
)

// Capture implements audio.Processor.
func (p *processor) Capture(captured, played []int16) {
	if p.beside {
		played = p.far
	}
	m := p.desk.Mode()
	if m != Handset {
		p.echo = newListener(p.rate) // what is known is of the handset
	} else if p.echo.listen(captured, played) {
		m = Off
	}
	if m != p.wanted {
		p.wanted, p.next, p.ticks = m, nil, 0
		if m != p.mode {
			p.next = p.canceller(m)
		}
	}
	if p.wanted != p.mode {
		copy(p.other, captured)
		if p.next != nil {
			p.next.cancel(p.other, played)
		}
	}
	if p.now != nil {
		p.now.cancel(captured, played)
	}
	if p.wanted != p.mode {
		p.change(captured)
	}
	p.mute(captured)
}

// change lets what is heard become other, once that has learned.
func (p *processor) change(captured []int16) {
	at := p.ticks - learning
	if p.ticks++; at < 0 {
		return
	}
	n := len(captured)
	for i, v := range captured {
		part := float32(at*n+i+1) / float32(changing*n)
		captured[i] = clip(part*float32(p.other[i]) + (1-part)*float32(v))
	}
	if at == changing-1 {
		p.mode, p.now, p.next = p.wanted, p.next, nil
	}
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
