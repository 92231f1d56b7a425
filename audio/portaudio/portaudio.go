// Package portaudio is a sound card as an audio.Device, by PortAudio: ALSA, JACK
// and whatever else it was built for.
//
// It knows one full-duplex stream of 16-bit mono in periods of 5 ms. The card's
// thread passes sound to and from the engine through two lock-free rings, in C;
// the card's clock is the engine's. It knows nothing of what the sound is.
// gordonklaus/portaudio lists the devices; the stream is opened here, since its
// callback is in Go.
//
// # Why the callback stays in C
//
// A callback in Go waits for Go's scheduler, 200 times a second, and then has to
// wake the engine. Measured with a call of G.711 at 48 kHz on a virtual card, in
// one run on a busy machine, in seconds of processor a minute (and switches
// between threads a second): a Go callback that wakes the engine 2.8 (3,100), the
// tick inside the Go callback 2.0 (2,000), PortAudio's blocking read and write
// 1.7 (1,800), this 1.1 (700), the same whether Go has as many processors as the
// machine or three times as many.
//
// # Why the engine does not call C
//
// Half of what was left were wakes of the thread with which Go's runtime watches
// over calls that it may wait for: one for each tick, and one for each packet, since
// everything sleeps in between. So the engine's end of the rings is in Go, the
// event that wakes it is never read, and audio/udp hides its calls from the
// runtime. A whole phone beside baresip in the same call, both on the virtual card:
// 1.2 s a minute and 850 switches a second before, 0.84 and 440 to 495 so, of which
// JACK's periods are 200; baresip 0.72 and 455. The canceller of echoes is called without
// telling the runtime as well (internal/ccall).
//
// # How much waits for the card
//
// The engine has half a tick, the card's period, to bring the next one: nothing more
// waits, which would be heard later. Where that was too little once, so much more does
// from then on, until it has not been needed for a while (ahead.go). A card that stands
// still and then takes at once what it has missed may have as much waiting as that, for as
// long as it does so (line.go).
//
// # A card that dies
//
// PortAudio does not say that a card is gone: it just keeps silent, and the engine
// gives it up. A machine that may stand still, as an emulated one does, has a
// longer buffer, and so much more patience. Closing a dead card takes as long as
// its driver, or its server, likes; it is not opened again before that.
//
// # A card that rests
//
// Its stream is stopped. JACK calls its clients each period all the same, so that an
// idle phone took 0.2 s of processor a minute: it is told not to, and PortAudio's
// ports are joined to those of the card anew with each beginning.
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
	// deadAfter is how long a card that lives may keep silent: twenty periods.
	deadAfter = 100 * time.Millisecond
	// stuckAt is when a call that should be over is taken for one that hangs.
	stuckAt = 200 * time.Millisecond
)

// A Config says which card is opened.
type Config struct {
	// Capture and Playback name devices, wholly or in part, as "API: name";
	// empty: the system's default.
	Capture, Playback string
	// Speaker: nothing is captured, and Capture is not looked at.
	Speaker bool
	// Rate is 8000, 16000 or 48000; 0: the first of 16000, 48000 and 8000 that
	// the card takes, or 48000 of one that has 44100 alone.
	Rate int
	// Buffer is how much sound waits for the card, in whole ticks: what the
	// machine may stand still without a gap in what is heard, and what everything
	// is heard later. 0: what turns out to be enough.
	Buffer time.Duration
	// Priority is that of the card's thread (SCHED_RR), where that has none of its own and
	// may have it; 0: it is as all others.
	Priority int
}

// ahead returns Buffer in ticks.
func (c Config) ahead() int { return int(c.Buffer / audio.TickDuration) }

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

// ErrBusy is the error of Open while the device of before is not closed yet.
var ErrBusy = errors.New("the card of before is not closed yet")

// A Device is an open sound card.
type Device struct {
	cfg  Config
	rate int
	use  chan struct{} // full while somebody calls PortAudio, or waits for the card
	line *line
	odd  *between // nil: the card has the engine's rate
	runs bool     // the card's clock does
	dead bool     // the card did not answer
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
	in, out := d.line.latency()
	log.Debug("sound card open", "rate", d.rate, "latency.in", in, "latency.out", out)
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
	var in *pa.DeviceInfo
	var err error
	name := "nothing"
	if !cfg.Speaker {
		if in, err = find(cfg.Capture, pa.DefaultInputDevice, func(d *pa.DeviceInfo) bool { return d.MaxInputChannels > 0 }); err != nil {
			return nil, fmt.Errorf("portaudio: find capture device %q: %w", cfg.Capture, err)
		}
		name = in.Name
	}
	out, err := find(cfg.Playback, pa.DefaultOutputDevice, func(d *pa.DeviceInfo) bool { return d.MaxOutputChannels > 0 })
	if err != nil {
		return nil, fmt.Errorf("portaudio: find playback device %q: %w", cfg.Playback, err)
	}
	rates := []int{16000, 48000, 8000, odd}
	if cfg.Rate != 0 {
		rates = []int{cfg.Rate}
	}
	for _, rate := range rates {
		var d *Device
		if d, err = openAt(in, out, rate, cfg); err == nil {
			return d, nil
		}
	}
	return nil, fmt.Errorf("portaudio: open %q and %q: %w", name, out.Name, err)
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

// openAt opens a card; without in, to play alone.
func openAt(in, out *pa.DeviceInfo, rate int, cfg Config) (*Device, error) {
	l, err := newLine(rate, cfg.ahead())
	if err != nil {
		return nil, err
	}
	if err := l.open(in, out, rate, cfg); err != nil {
		return nil, errors.Join(err, l.free())
	}
	d := &Device{cfg: cfg, rate: rate, line: l, use: make(chan struct{}, 1)}
	if rate == odd {
		d.rate = instead
		d.odd = newBetween()
	}
	return d, nil
}

// Rate returns the card's rate, or what its sound is changed to.
func (d *Device) Rate() int { return d.rate }

// Patience returns how long a card that lives may keep silent.
func (d *Device) Patience() time.Duration { return d.cfg.deadAfter() }

// Underruns returns how often the card had nothing to play.
func (d *Device) Underruns() uint64 { return d.line.underruns() }

// Late returns how many periods of the card came more than a period late.
func (d *Device) Late() uint64 { return d.line.late() }

// Exchange hands play to the card and waits for a captured tick.
func (d *Device) Exchange(ctx context.Context, play, captured []int16) error {
	d.use <- struct{}{}
	defer func() { <-d.use }()
	whole := captured
	if d.odd != nil {
		play, captured = d.odd.play(play), d.odd.captured
	}
	d.line.put(play)
	if !d.runs { // with something to play
		if err := d.line.start(); err != nil {
			d.dead = true
			return fmt.Errorf("portaudio: start: %w", err)
		}
		d.runs = true
	}
	began := time.Now()
	for !d.line.take(captured) {
		if err := d.line.wait(ctx); err != nil {
			d.dead = time.Since(began) > deadAfter
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("portaudio: exchange: %w", err)
		}
	}
	if d.odd != nil {
		d.odd.up.Process(whole, captured)
	}
	return nil
}

// Rest stops the card until the next Exchange.
func (d *Device) Rest() error {
	d.use <- struct{}{}
	defer func() { <-d.use }()
	d.runs = false
	if err := d.line.stop(); err != nil {
		d.dead = true
		return fmt.Errorf("portaudio: rest: %w", err)
	}
	d.line.reset()
	return nil
}

// Close gives the card back. It takes as long as the card's driver likes.
func (d *Device) Close() error {
	d.line.end()
	lock := func() error {
		d.use <- struct{}{}
		return nil
	}
	select {
	case d.use <- struct{}{}:
	case <-time.After(stuckAt): // in a call of PortAudio
		impatient(lock)
		d.dead = true
	}
	end := d.line.close
	if !d.dead && !d.runs {
		d.dead = d.line.awake() != nil
	}
	if d.dead {
		end = func() error { return impatient(d.line.close) }
	}
	err := errors.Join(end(), pa.Terminate(), d.line.free())
	forget()
	<-inUse
	if err != nil {
		return fmt.Errorf("portaudio: close: %w", err)
	}
	return nil
}
