package audio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"flexphone/audio/limit"
)

// A Config says what an engine is made of.
type Config struct {
	// Open opens the sound device. It is called again after the device failed,
	// but not before it has returned.
	Open func() (Device, error)
	// Ringer opens the device that rings, in place of the other one and for as long as
	// it rings; nil: that one rings.
	Ringer  func() (Device, error)
	Formats []Format // the codecs that streams may use, preferred first
	// Processor makes what works on the sound of each tick, at a device's rate. It
	// is called again when that changes. nil: nothing does.
	Processor func(rate int) Processor
	Log       *slog.Logger
}

// An Engine joins one device, the tones that are played on it, and the streams
// of its calls. All its methods may be called from any goroutine.
type Engine struct {
	device  func() (Device, error) // opens it
	ringer  func() (Device, error) // likewise; nil: there is none
	formats []Format
	making  func(rate int) Processor
	log     *slog.Logger
	rate    atomic.Int64 // of the device, or what is assumed before it is known

	tone     atomic.Pointer[player]
	ringing  atomic.Bool // tone is heard across the room
	feedback atomic.Pointer[player]
	progress atomic.Uint64
	gaps     atomic.Uint64 // under-runs of all devices
	lates    atomic.Uint64 // likewise, of periods
	resting  atomic.Bool   // nothing ticks
	wake     chan struct{} // something has begun
	ask      chan struct{} // whether Run still turns

	ticking // of the goroutine that ticks

	mu      sync.Mutex                // of those who change streams and tones
	streams atomic.Pointer[[]*Stream] // never changed in place
}

// usualRate is assumed until a device was there.
const usualRate = 16000

// NewEngine returns an engine that is silent until Run.
func NewEngine(c Config) *Engine {
	e := &Engine{
		device:  c.Open,
		ringer:  c.Ringer,
		formats: c.Formats,
		making:  c.Processor,
		log:     c.Log,
		wake:    make(chan struct{}, 1),
		ask:     make(chan struct{}),
	}
	e.rate.Store(usualRate)
	e.limiter = limit.New()
	e.processor = e.newProcessor(usualRate)
	e.streams.Store(new([]*Stream))
	return e
}

// busy reports whether there is anything to tick for.
func (e *Engine) busy() bool {
	return len(*e.streams.Load()) > 0 || e.tone.Load() != nil || e.feedback.Load() != nil
}

// begin wakes an engine that rests.
func (e *Engine) begin() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// retune makes everything anew that depends on the device's rate. Nobody ticks
// meanwhile.
func (e *Engine) retune(rate int) {
	if e.rate.Load() == int64(rate) {
		return
	}
	e.mu.Lock()
	e.rate.Store(int64(rate))
	e.processor = e.newProcessor(rate)
	for _, tone := range []*atomic.Pointer[player]{&e.tone, &e.feedback} {
		if p := tone.Load(); p != nil {
			tone.Store(newPlayer(p.tone, rate))
		}
	}
	streams := *e.streams.Load()
	e.mu.Unlock()
	for _, s := range streams {
		s.retune()
	}
}

// Play plays t in place of the tone that was played before, from its beginning.
// The zero Tone is silence.
func (e *Engine) Play(t Tone) { e.play(t, false) }

// Ring is Play for a tone that is to be heard across the room: by the device that
// rings, if there is one and it works.
func (e *Engine) Ring(t Tone) { e.play(t, e.ringer != nil) }

func (e *Engine) play(t Tone, rings bool) {
	e.ringing.Store(rings)
	e.set(&e.tone, t)
}

// Feedback plays t beside everything else, once, whatever it says: the answer
// of a key to its finger.
func (e *Engine) Feedback(t Tone) {
	t.Repeat = false
	e.set(&e.feedback, t)
}

func (e *Engine) set(tone *atomic.Pointer[player], t Tone) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(t.Segments) == 0 {
		tone.Store(nil)
		return
	}
	tone.Store(newPlayer(t, int(e.rate.Load())))
	e.begin()
}

// Progress returns the number of ticks so far.
func (e *Engine) Progress() uint64 { return e.progress.Load() }

// Underruns returns how often a device had nothing to play, so far.
func (e *Engine) Underruns() uint64 { return e.gaps.Load() }

// Alive returns nil once the engine has ticked since it was called or, where
// there is nothing to tick for, has answered; and ctx's error if it does not do
// so in time.
func (e *Engine) Alive(ctx context.Context) error {
	before := e.progress.Load()
	look := time.NewTicker(2 * TickDuration)
	defer look.Stop()
	for {
		var ask chan struct{}
		if e.resting.Load() {
			ask = e.ask
		}
		select {
		case ask <- struct{}{}:
			return nil
		case <-look.C:
			if e.progress.Load() != before {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("audio: engine: %w", ctx.Err())
		}
	}
}

// Codecs returns the codecs that streams may use, as they are offered.
func (e *Engine) Codecs() []Codec {
	var codecs []Codec
	for _, f := range e.formats {
		codecs = append(codecs, f.Codec())
	}
	return codecs
}

// ErrCodec is the error of a session whose codec the engine does not have.
var ErrCodec = errors.New("no such codec")

func (e *Engine) format(c Codec) (Format, error) {
	i := slices.IndexFunc(e.formats, func(f Format) bool { return sameCodec(f.Codec(), c) })
	if i < 0 {
		return nil, fmt.Errorf("%w: %s/%d", ErrCodec, c.Name, c.ClockRate)
	}
	return e.formats[i], nil
}

// LatePeriods returns how often the clock of a device came more than a period late, so
// far.
func (e *Engine) LatePeriods() uint64 { return e.lates.Load() }

func (e *Engine) add(s *Stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	streams := append(slices.Clone(*e.streams.Load()), s)
	e.streams.Store(&streams)
	e.begin()
}

func (e *Engine) remove(s *Stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	streams := slices.DeleteFunc(slices.Clone(*e.streams.Load()), func(o *Stream) bool { return o == s })
	e.streams.Store(&streams)
}
