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
// From then on the device ticks by the system's clock, silently, so that calls
// go on, and looks for the card once in two seconds until it is back. A machine
// that may stand still for longer, as an emulated one does, has a longer buffer,
// and so much more patience.
//
// PortAudio's state is the process's: open one Device at a time.
package portaudio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pa "github.com/gordonklaus/portaudio"

	"flexphone/audio"
)

const (
	deadAfter = 100 * time.Millisecond
	retry     = 2 * time.Second
	stuckAt   = 5 * time.Second // of closing a dead card
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

// ErrStuck is the error of a dead card that cannot be closed.
var ErrStuck = errors.New("dead card cannot be closed")

// A Device is an open sound card, or one that is waited for.
type Device struct {
	cfg  Config
	rate int
	log  *slog.Logger

	line   *line // nil while the card is away
	timer  *time.Timer
	due    time.Time   // of the next tick without a card
	lost   time.Time   // when the card died
	freed  atomic.Bool // it is closed
	back   chan opened
	stop   chan struct{}
	opener sync.WaitGroup
	stream *pa.Stream
}

type opened struct {
	stream *pa.Stream
	line   *line
}

var _ audio.Device = (*Device)(nil)

// Open opens a sound card. It fails if the card is not there now; one that goes
// away later is waited for. The caller closes the device.
func Open(cfg Config, log *slog.Logger) (*Device, error) {
	if err := pa.Initialize(); err != nil {
		return nil, fmt.Errorf("portaudio: initialize: %w", err)
	}
	o, rate, err := open(cfg)
	if err != nil {
		return nil, errors.Join(err, pa.Terminate())
	}
	cfg.Rate = rate // what was found is what a reopened card must have
	d := &Device{
		cfg:    cfg,
		rate:   rate,
		log:    log,
		line:   o.line,
		stream: o.stream,
		timer:  time.NewTimer(cfg.deadAfter()),
		back:   make(chan opened, 1),
		stop:   make(chan struct{}),
	}
	log.Debug("sound card open", "rate", rate, "latency.in", o.stream.Info().InputLatency,
		"latency.out", o.stream.Info().OutputLatency)
	return d, nil
}

// fullName names a device as "API: name".
func fullName(d *pa.DeviceInfo) string { return d.HostApi.Name + ": " + d.Name }

// open finds the card, opens it and starts it. PortAudio is initialized.
func open(cfg Config) (o opened, rate int, err error) {
	in, err := find(cfg.Capture, pa.DefaultInputDevice, func(d *pa.DeviceInfo) bool { return d.MaxInputChannels > 0 })
	if err != nil {
		return o, 0, fmt.Errorf("portaudio: find capture device %q: %w", cfg.Capture, err)
	}
	out, err := find(cfg.Playback, pa.DefaultOutputDevice, func(d *pa.DeviceInfo) bool { return d.MaxOutputChannels > 0 })
	if err != nil {
		return o, 0, fmt.Errorf("portaudio: find playback device %q: %w", cfg.Playback, err)
	}
	rates := []int{16000, 48000, 8000}
	if cfg.Rate != 0 {
		rates = []int{cfg.Rate}
	}
	for _, rate := range rates {
		if o, err = openAt(in, out, rate, cfg); err == nil {
			return o, rate, nil
		}
	}
	return o, 0, fmt.Errorf("portaudio: open %q and %q: %w", in.Name, out.Name, err)
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

func openAt(in, out *pa.DeviceInfo, rate int, cfg Config) (opened, error) {
	l := newLine(rate, cfg.ahead())
	s, err := pa.OpenStream(pa.StreamParameters{
		Input:           pa.StreamDeviceParameters{Device: in, Channels: 1, Latency: max(in.DefaultLowInputLatency, cfg.Buffer)},
		Output:          pa.StreamDeviceParameters{Device: out, Channels: 1, Latency: max(out.DefaultLowOutputLatency, cfg.Buffer)},
		SampleRate:      float64(rate),
		FramesPerBuffer: cfg.period(rate),
	}, l.callback)
	if err != nil {
		return opened{}, err
	}
	if err := s.Start(); err != nil {
		return opened{}, errors.Join(err, s.Close())
	}
	return opened{s, l}, nil
}

// Rate returns the card's rate, which stays when it is reopened.
func (d *Device) Rate() int { return d.rate }

// Alive reports whether the card is there; it belongs to the goroutine that
// calls Exchange.
func (d *Device) Alive() bool { return d.line != nil }

// Underruns returns how often the card had nothing to play since it was opened
// last; it belongs to the goroutine that calls Exchange.
func (d *Device) Underruns() uint64 {
	if d.line == nil {
		return 0
	}
	return d.line.underruns.Load()
}

// Exchange hands play to the card and waits for a captured tick.
func (d *Device) Exchange(ctx context.Context, play, captured []int16) error {
	if d.line == nil {
		return d.exchangeAlone(ctx, captured)
	}
	d.line.put(play)
	patience := d.cfg.deadAfter()
	d.timer.Reset(patience)
	for !d.line.take(captured) {
		select {
		case <-d.line.wake:
			d.timer.Reset(patience)
		case <-d.timer.C:
			d.lose()
			clear(captured)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// exchangeAlone ticks without a card.
func (d *Device) exchangeAlone(ctx context.Context, captured []int16) error {
	clear(captured)
	if d.stuck() {
		return fmt.Errorf("portaudio: reopen: %w", ErrStuck)
	}
	d.due = d.due.Add(audio.TickDuration)
	d.timer.Reset(max(time.Until(d.due), 0))
	select {
	case <-d.timer.C:
		return nil
	case o := <-d.back:
		d.line, d.stream = o.line, o.stream
		d.log.Info("sound card is back")
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lose gives the card up and begins to look for it.
func (d *Device) lose() {
	d.log.Warn("sound card is gone", "silent for", d.cfg.deadAfter())
	old := d.stream
	d.line, d.stream, d.due, d.lost = nil, nil, time.Now(), time.Now()
	d.freed.Store(false)
	// Closing a dead card may take long; the engine does not wait for it.
	d.opener.Go(func() { d.reopen(old) })
}

// stuck reports whether closing the dead card has not come to an end.
func (d *Device) stuck() bool {
	return d.line == nil && !d.freed.Load() && time.Since(d.lost) > stuckAt
}

// reopen looks for the card until it is found or the device is closed. The list
// of devices is as old as PortAudio's initialization, which is thus repeated.
func (d *Device) reopen(old *pa.Stream) {
	if err := errors.Join(old.Close(), pa.Terminate()); err != nil {
		d.log.Debug("lost sound card not closed", "err", err)
	}
	d.freed.Store(true)
	t := time.NewTicker(retry)
	defer t.Stop()
	for {
		o, err := d.tryOpen()
		if err == nil {
			d.back <- o
			return
		}
		d.log.Debug("sound card not found", "err", err)
		select {
		case <-t.C:
		case <-d.stop:
			return
		}
	}
}

func (d *Device) tryOpen() (opened, error) {
	if err := pa.Initialize(); err != nil {
		return opened{}, fmt.Errorf("portaudio: initialize: %w", err)
	}
	o, _, err := open(d.cfg)
	if err != nil {
		return opened{}, errors.Join(err, pa.Terminate())
	}
	return o, nil
}

// Close stops the card. Exchange must not be running.
func (d *Device) Close() error {
	close(d.stop)
	closed := make(chan struct{})
	go func() {
		d.opener.Wait()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(stuckAt):
		return fmt.Errorf("portaudio: close: %w", ErrStuck)
	}
	select {
	case o := <-d.back:
		d.stream = o.stream
	default:
	}
	d.timer.Stop()
	if d.stream == nil {
		return nil
	}
	if err := errors.Join(d.stream.Abort(), d.stream.Close(), pa.Terminate()); err != nil {
		return fmt.Errorf("portaudio: close: %w", err)
	}
	return nil
}
