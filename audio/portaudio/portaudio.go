// Package portaudio is a sound card as an audio.Device, by PortAudio: ALSA, JACK
// and whatever else it was built for.
//
// It knows one full-duplex stream of 16-bit mono in periods of 5 ms, whose
// callback passes sound to and from the engine through two lock-free rings; the
// card's clock is the engine's. It knows nothing of what the sound is.
//
// # A card that dies
//
// PortAudio does not say that a card is gone: callbacks just stop. A tenth of a
// second without one, twenty periods, is taken for its death: under load a
// callback into Go was seen 43 ms late, so that three periods would be too few.
// A machine that may stand still for longer, as an emulated one does, has a longer
// buffer, and so much more patience. Closing a dead card takes as long as its
// driver, or its server, likes; it is not opened again before that.
//
// PortAudio's state is the process's: there is one Device at a time.
package portaudio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	pa "github.com/gordonklaus/portaudio"

	"flexphone/audio"
)

const (
	deadAfter = 100 * time.Millisecond
)

// A Config says which card is opened.
type Config struct {
	// Capture and Playback name devices, wholly or in part, as "API: name";
	// empty: the system's default.
	Capture, Playback string
	// Rate is 8000, 16000 or 48000; 0: the first of 16000, 48000 and 8000 that
	// the card takes.
	Rate int
	// Buffer is how much sound waits for the card, in whole ticks: what the
	// machine may stand still without a gap in what is heard, and what everything
	// is heard later. 0: one tick.
	Buffer time.Duration
}

// ahead returns Buffer in ticks.
func (c Config) ahead() int { return max(usualAhead, int(c.Buffer/audio.TickDuration)) }

// period returns how many frames the card takes at a time: half a tick, or a
// third of a longer buffer, since whoever needs that is slow, too, and each
// period costs it a dozen switches between threads.
func (c Config) period(rate int) int {
	if c.Buffer <= 3*audio.TickDuration {
		return rate / ticksPerSecond / 2
	}
	return rate * int(c.Buffer/audio.TickDuration) / 3 / ticksPerSecond
}

// deadAfter is how long a card that lives may keep silent.
func (c Config) deadAfter() time.Duration { return deadAfter + 4*c.Buffer }

// ErrNoDevice is the error of a name that no device has; it tells those that there
// are.
var ErrNoDevice = errors.New("no such device")

// Errors of cards.
var (
	ErrBusy = errors.New("the card of before is not closed yet")
	ErrDead = errors.New("card does not answer")
)

// A Device is an open sound card.
type Device struct {
	cfg    Config
	rate   int
	line   *line
	timer  *time.Timer
	stream *pa.Stream
	runs   bool // the stream does
}

var _ audio.Device = (*Device)(nil)

// inUse is held from Open to the end of Close.
var inUse = make(chan struct{}, 1)

// Open opens a sound card. The caller closes the device.
func Open(cfg Config, log *slog.Logger) (*Device, error) {
	select {
	case inUse <- struct{}{}:
	default:
		return nil, fmt.Errorf("portaudio: open: %w", ErrBusy)
	}
	d, err := openAny(cfg)
	if err != nil {
		<-inUse
		return nil, err
	}
	log.Debug("sound card open", "rate", d.rate, "latency.in", d.stream.Info().InputLatency,
		"latency.out", d.stream.Info().OutputLatency)
	return d, nil
}

// openAny opens a card at the first rate that it takes.
func openAny(cfg Config) (*Device, error) {
	// The list of devices is as old as PortAudio's initialization.
	if err := pa.Initialize(); err != nil {
		return nil, fmt.Errorf("portaudio: initialize: %w", err)
	}
	d, err := openCard(cfg)
	if err != nil {
		return nil, errors.Join(err, pa.Terminate())
	}
	return d, nil
}

// fullName names a device as "API: name".
func fullName(d *pa.DeviceInfo) string { return d.HostApi.Name + ": " + d.Name }

func openCard(cfg Config) (*Device, error) {
	in, err := find(cfg.Capture, pa.DefaultInputDevice, func(d *pa.DeviceInfo) bool { return d.MaxInputChannels > 0 })
	if err != nil {
		return nil, fmt.Errorf("portaudio: find capture device %q: %w", cfg.Capture, err)
	}
	out, err := find(cfg.Playback, pa.DefaultOutputDevice, func(d *pa.DeviceInfo) bool { return d.MaxOutputChannels > 0 })
	if err != nil {
		return nil, fmt.Errorf("portaudio: find playback device %q: %w", cfg.Playback, err)
	}
	rates := []int{16000, 48000, 8000}
	if cfg.Rate != 0 {
		rates = []int{cfg.Rate}
	}
	for _, rate := range rates {
		var d *Device
		if d, err = openAt(in, out, rate, cfg); err == nil {
			return d, nil
		}
	}
	return nil, fmt.Errorf("portaudio: open %q and %q: %w", in.Name, out.Name, err)
}

// find returns the device of a name: exactly this, else the first with it in it.
func find(name string, standard func() (*pa.DeviceInfo, error), can func(*pa.DeviceInfo) bool) (*pa.DeviceInfo, error) {
	if name == "" {
		return standard()
	}
	devices, err := pa.Devices()
	if err != nil {
		return nil, err
	}
	var part *pa.DeviceInfo
	var names []string
	for _, d := range devices {
		if !can(d) {
			continue
		}
		names = append(names, fullName(d))
		if d.Name == name || fullName(d) == name {
			return d, nil
		}
		if part == nil && strings.Contains(fullName(d), name) {
			part = d
		}
	}
	if part == nil {
		return nil, fmt.Errorf("%w; there are %q", ErrNoDevice, names)
	}
	return part, nil
}

func openAt(in, out *pa.DeviceInfo, rate int, cfg Config) (*Device, error) {
	l := newLine(rate, cfg.ahead())
	s, err := pa.OpenStream(pa.StreamParameters{
		Input:           pa.StreamDeviceParameters{Device: in, Channels: 1, Latency: max(in.DefaultLowInputLatency, cfg.Buffer)},
		Output:          pa.StreamDeviceParameters{Device: out, Channels: 1, Latency: max(out.DefaultLowOutputLatency, cfg.Buffer)},
		SampleRate:      float64(rate),
		FramesPerBuffer: cfg.period(rate),
	}, l.callback)
	if err != nil {
		return nil, err
	}
	return &Device{cfg: cfg, rate: rate, line: l, timer: time.NewTimer(cfg.deadAfter()), stream: s}, nil
}

// Rate returns the card's rate.
func (d *Device) Rate() int { return d.rate }

// Patience returns how long a card that lives may keep silent.
func (d *Device) Patience() time.Duration { return d.cfg.deadAfter() }

// Underruns returns how often the card had nothing to play.
func (d *Device) Underruns() uint64 { return d.line.underruns.Load() }

// Exchange hands play to the card and waits for a captured tick.
func (d *Device) Exchange(ctx context.Context, play, captured []int16) error {
	if !d.runs {
		if err := d.stream.Start(); err != nil {
			return fmt.Errorf("portaudio: start: %w", err)
		}
		d.runs = true
	}
	d.line.put(play)
	patience := d.cfg.deadAfter()
	d.timer.Reset(patience)
	for !d.line.take(captured) {
		select {
		case <-d.line.wake:
			d.timer.Reset(patience)
		case <-d.timer.C:
			return fmt.Errorf("portaudio: exchange: %w", ErrDead)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Rest stops the card until the next Exchange.
func (d *Device) Rest() error {
	d.runs = false
	if err := d.stream.Abort(); err != nil {
		return fmt.Errorf("portaudio: rest: %w", err)
	}
	d.line.restart()
	return nil
}

// Close gives the card back. It takes as long as the card's driver likes.
func (d *Device) Close() error {
	err := errors.Join(d.stream.Close(), pa.Terminate())
	<-inUse
	if err != nil {
		return fmt.Errorf("portaudio: close: %w", err)
	}
	return nil
}
