package portaudio

// #cgo pkg-config: portaudio-2.0
// #cgo !image LDFLAGS: -Wl,--as-needed -Wl,-E -ldl
// #include "jack.h"
// #include "line.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	pa "github.com/gordonklaus/portaudio"
	"golang.org/x/sys/unix"

	"flexphone/audio"
)

const (
	ticksPerSecond = int(time.Second / audio.TickDuration)
	// onTop is how much more may wait, in ticks, for a card that comes in time. After the
	// engine was late the card has played silence in its place, and what was late comes on top.
	onTop = 2
	// burstMost is how much more may ever wait, in ticks, for a card that stands still and
	// then takes all at once what it has missed: a card with long periods of its own, or of an
	// emulated machine. The rings have room for a tick or two more.
	burstMost = 12
	// burstFor is after how many ticks a burst is forgotten, once or twice that.
	burstFor = ticksPerSecond
)

// A line is one opening of a card: two rings, and an event with each tick that
// was captured. The card's thread stays in C and does not wait for Go's
// scheduler; the engine sleeps on the event in Go's poller, like a socket's
// reader, and is woken once a tick.
type line struct {
	c              *C.line
	jack           bool
	tick           int // samples
	ahead          ahead
	burst          burst
	play, captured ring
	event          *os.File
	raw            syscall.RawConn // of event
	look           func(uintptr) bool
	ctx            context.Context // that is watched
	let            func() bool     // stops that
	ended          atomic.Bool
}

var errEnded = errors.New("card is being closed")

func newLine(rate, ticks int) (*line, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("portaudio: make event: %w", err)
	}
	l := &line{
		tick:  rate / ticksPerSecond,
		ahead: newAhead(ticks*rate/ticksPerSecond, rate/ticksPerSecond),
		event: os.NewFile(uintptr(fd), "event"),
		let:   func() bool { return true },
	}
	if l.raw, err = l.event.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("portaudio: make event: %w", err), l.event.Close())
	}
	l.look = func(uintptr) bool { return l.ended.Load() || l.captured.have() >= l.tick }
	l.c = C.line_new(C.uint32_t(l.tick), C.uint32_t(l.ahead.least), C.int(fd))
	if l.c == nil {
		return nil, errors.Join(errors.New("portaudio: make line: no memory"), l.event.Close())
	}
	l.play, l.captured = ringOf(&l.c.play), ringOf(&l.c.captured)
	return l, nil
}

// put hands a tick to the card, unless too much is waiting already.
func (l *line) put(play []int16) {
	waits, usual, stood := l.play.have(), l.ahead.least+(onTop-1)*l.tick, l.burst.tick(count(&l.c.stood))
	if waits > usual+min(stood, burstMost*l.tick) {
		return
	}
	if waits <= usual {
		play = play[l.ahead.spare(waits, play):]
	}
	l.play.write(play)
}

// A burst is how long the card has stood still lately, in samples, before it took all at
// once that it had missed.
type burst struct {
	ticks, before int
}

// tick is told how long that was since it last was found nothing, and returns the longest of
// the last one to two burstFor.
func (b *burst) tick(stood *atomic.Uint32) int {
	if b.ticks++; b.ticks == burstFor {
		b.ticks, b.before = 0, int(stood.Swap(0))
	}
	return max(b.before, int(stood.Load()))
}

// take fetches a captured tick, if there is a whole one.
func (l *line) take(captured []int16) bool {
	if l.captured.have() < l.tick {
		return false
	}
	l.captured.read(captured)
	return true
}

// wait returns when the card has captured a tick, or with an error: ctx's when it
// is done, another one after end.
func (l *line) wait(ctx context.Context) error {
	if l.ctx != ctx {
		l.let()
		if err := l.event.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
		l.ctx = ctx
		l.let = context.AfterFunc(ctx, l.interrupt)
	}
	// The event is never read: each one wakes anew (epoll(7), EPOLLET), and the rings
	// say whether it was meant.
	err := l.raw.Read(l.look)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case l.ended.Load():
		return errEnded
	}
	return err
}

// interrupt makes wait return.
func (l *line) interrupt() { l.event.SetReadDeadline(time.Unix(1, 0)) }

// end makes wait return for good. It may be called by anybody.
func (l *line) end() {
	l.ended.Store(true)
	l.interrupt()
}

// open opens the card, which sleeps then; without in, nothing is captured but silence.
func (l *line) open(in, out *pa.DeviceInfo, rate int, cfg Config) error {
	l.c.priority = C.int(cfg.Priority)
	l.jack = out.HostApi.Type == pa.JACK || in != nil && in.HostApi.Type == pa.JACK
	from, latency := C.PaDeviceIndex(C.paNoDevice), time.Duration(0)
	if in != nil {
		from, latency = C.PaDeviceIndex(in.Index), max(in.DefaultLowInputLatency, cfg.Buffer)
	}
	err := failure(C.line_open(l.c, from, C.double(latency.Seconds()),
		C.PaDeviceIndex(out.Index), C.double(max(out.DefaultLowOutputLatency, cfg.Buffer).Seconds()),
		C.double(rate), C.ulong(cfg.period(rate))))
	if err == nil {
		C.jack_sleep()
	}
	return err
}

// awake makes a card answer that sleeps.
func (l *line) awake() error {
	if l.jack && C.jack_awake() != 0 {
		return errors.New("JACK's server does not take us any more")
	}
	return nil
}

func (l *line) start() error {
	if err := l.awake(); err != nil {
		return err
	}
	return failure(C.Pa_StartStream(l.c.stream))
}

// stop does not wait until all is played. The card sleeps then.
func (l *line) stop() error {
	err := failure(C.Pa_AbortStream(l.c.stream))
	if err == nil {
		C.jack_sleep()
	}
	return err
}

func (l *line) close() error { return failure(C.Pa_CloseStream(l.c.stream)) }

// latency is what the card says of itself.
func (l *line) latency() (in, out time.Duration) {
	info := C.Pa_GetStreamInfo(l.c.stream)
	if info == nil {
		return 0, 0
	}
	seconds := func(t C.PaTime) time.Duration { return time.Duration(float64(t) * float64(time.Second)) }
	return seconds(info.inputLatency), seconds(info.outputLatency)
}

// impatient calls PortAudio for a card that does not answer, and tells it that the
// card is gone as long as it waits for it.
func impatient(call func() error) error {
	C.jack_give_up()
	var teller sync.WaitGroup
	done := make(chan struct{})
	teller.Go(func() {
		for wait := 100 * time.Millisecond; wait < time.Minute; wait *= 4 {
			select {
			case <-done:
				return
			case <-time.After(wait):
				C.jack_is_down()
			}
		}
	})
	C.jack_is_down()
	err := call()
	close(done)
	teller.Wait()
	return err
}

// forget is called when PortAudio has ended.
func forget() { C.jack_forget() }

// failure makes an error of PortAudio's.
func failure(code C.PaError) error {
	switch code {
	case C.paNoError:
		return nil
	case C.paUnanticipatedHostError:
		if host := C.Pa_GetLastHostErrorInfo(); host != nil {
			return fmt.Errorf("%s (%d)", C.GoString(host.errorText), int(host.errorCode))
		}
	}
	return errors.New(C.GoString(C.Pa_GetErrorText(code)))
}

// reset empties both rings. Nobody calls back meanwhile.
func (l *line) reset() { C.line_reset(l.c, C.uint32_t(l.ahead.begin())) }

// call does what the card's thread does with a period.
func (l *line) call(in, out []int16) {
	C.line_call(l.c, (*C.int16_t)(&in[0]), (*C.int16_t)(&out[0]), C.uint32_t(len(in)))
}

func (l *line) underruns() uint64 { return uint64(count(&l.c.underruns).Load()) }
func (l *line) late() uint64      { return uint64(count(&l.c.late).Load()) }
func (l *line) overruns() uint64  { return uint64(count(&l.c.overruns).Load()) }

// free gives the memory back. Nobody uses the line any more.
func (l *line) free() error {
	l.let()
	err := l.event.Close()
	C.line_free(l.c)
	return err
}
