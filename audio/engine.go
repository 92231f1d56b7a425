package audio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
)

// A PortRange is where streams take their ports from, both ends included.
type PortRange struct{ First, Last uint16 }

// An Engine joins one device, the tones that are played on it, and the streams
// of its calls. All its methods may be called from any goroutine.
type Engine struct {
	// Ports may be changed before the first Open. It begins as 16384-32767.
	Ports PortRange

	dev     Device
	formats []Format
	log     *slog.Logger

	tone     atomic.Pointer[player]
	feedback atomic.Pointer[player]
	progress atomic.Uint64

	mu      sync.Mutex                // of those who change streams
	streams atomic.Pointer[[]*Stream] // never changed in place
}

// NewEngine returns an engine on dev with the codecs that streams may use. The
// device remains the caller's to close, after Run has returned.
func NewEngine(dev Device, formats []Format, log *slog.Logger) *Engine {
	e := &Engine{
		Ports:   PortRange{16384, 32767},
		dev:     dev,
		formats: formats,
		log:     log,
	}
	e.streams.Store(new([]*Stream))
	return e
}

// Run ticks with the device until ctx is done or the device fails, and returns
// why. It does not allocate while it ticks.
func (e *Engine) Run(ctx context.Context) error {
	n := e.dev.Rate() / ticksPerSecond
	play, captured := make([]int16, n), make([]int16, n)
	for {
		if err := e.dev.Exchange(ctx, play, captured); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("audio: exchange sound: %w", err)
		}
		e.tick(play, captured)
	}
}

// tick sends what was captured and makes what is played next.
func (e *Engine) tick(play, captured []int16) {
	clear(play)
	for _, s := range *e.streams.Load() {
		s.send(captured)
		s.receive(play)
	}
	mix(&e.tone, play)
	mix(&e.feedback, play)
	e.progress.Add(1)
}

// mix adds a tone to pcm and takes it away when it is over.
func mix(tone *atomic.Pointer[player], pcm []int16) {
	if p := tone.Load(); p != nil && !p.mix(pcm) {
		tone.CompareAndSwap(p, nil)
	}
}

// Play plays t in place of the tone that was played before, from its beginning.
// The zero Tone is silence.
func (e *Engine) Play(t Tone) { set(&e.tone, t, e.dev.Rate()) }

// Feedback plays t beside everything else, once, whatever it says: the answer
// of a key to its finger.
func (e *Engine) Feedback(t Tone) {
	t.Repeat = false
	set(&e.feedback, t, e.dev.Rate())
}

func set(tone *atomic.Pointer[player], t Tone, rate int) {
	if len(t.Segments) == 0 {
		tone.Store(nil)
		return
	}
	tone.Store(newPlayer(t, rate))
}

// Progress returns the number of ticks so far. A watchdog looks at it twice:
// the engine lives if it has grown.
func (e *Engine) Progress() uint64 { return e.progress.Load() }

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

func (e *Engine) add(s *Stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	streams := append(slices.Clone(*e.streams.Load()), s)
	e.streams.Store(&streams)
}

func (e *Engine) remove(s *Stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	streams := slices.DeleteFunc(slices.Clone(*e.streams.Load()), func(o *Stream) bool { return o == s })
	e.streams.Store(&streams)
}
