package echo

/*
#cgo pkg-config: speexdsp
#include <speex/speex_echo.h>
#include <speex/speex_preprocess.h>
#include <stdlib.h>

enum { most = 160 }; // samples of a tick

typedef struct {
	SpeexEchoState *echo;
	SpeexPreprocessState *clean; // NULL: the filter alone
	spx_int16_t captured[most], reference[most], heard[most];
} work;

static void set(SpeexPreprocessState *st, int request, int value) { speex_preprocess_ctl(st, request, &value); }

// tick makes heard of what was captured.
static void tick(void *p) {
	work *w = p;
	speex_echo_cancellation(w->echo, w->captured, w->reference, w->heard);
	if (w->clean)
		speex_preprocess_run(w->clean, w->heard);
}

static void *tick_at(void) { return tick; }

static void end(work *w) {
	if (w->echo)
		speex_echo_state_destroy(w->echo);
	if (w->clean)
		speex_preprocess_state_destroy(w->clean);
	free(w);
}
*/
import "C"

import (
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"flexphone/audio/resample"
	"flexphone/internal/ccall"
)

// A canceller takes what was played out of what was captured, a tick at a time: the
// MDF filter of speexdsp (Soo and Pang, 1990; Valin, 2007), and behind it, if that is
// wanted, what suppresses the rest of the echo and steady noise, and evens the level.
// It belongs to one goroutine and does not allocate.
//
// Sound of 48 kHz is worked on at 16: at 48 the filter across a table takes 4.7 s of
// processor a minute where it takes 1.2, and telephone speech ends at 7 kHz.
type canceller struct {
	work  *C.work
	stack *ccall.Stack
	// reference is what was played one tick ago: its echo is the first that can be in
	// what was captured. All three are of work.
	captured, reference, heard []int16
	// Of another rate of the device's; nil: there is none.
	said, play *resample.Down
	back       *resample.Up
}

// stack is what speexdsp may need, in bytes: it has its memory elsewhere.
const stack = 64 << 10

// mostRate is what is worked on at the most, in Hz.
const mostRate = 16000

const (
	ticksPerSecond = 100
	// noiseSuppression and echoSuppression are how far noise and the rest of the echo
	// are attenuated at the most, in dB: more makes voices sound as if under water.
	noiseSuppression = -18
	echoSuppression  = -45
	// whileTalking is the same of echo while both ends talk.
	whileTalking = -20
	// level is where the level of speech is brought to: -24 dB below full scale, RMS;
	// mostGain by how much at the most, in dB, since silence is made as much louder.
	level    = 2000
	mostGain = 6
)

// newCanceller makes one for sound of a rate whose echo is tail long at the most, with
// the way through the device.
func newCanceller(rate int, tail time.Duration, clean bool) (*canceller, error) {
	c := &canceller{work: (*C.work)(C.calloc(1, C.sizeof_work))} // Go's own ends where there is no memory
	runtime.AddCleanup(c, func(w *C.work) { C.end(w) }, c.work)
	var err error
	if c.stack, err = ccall.NewStack(stack); err != nil {
		return nil, fmt.Errorf("echo: %w", err)
	}
	if rate > mostRate {
		c.said, c.play, c.back = resample.NewDown(rate/mostRate), resample.NewDown(rate/mostRate), resample.NewUp(rate/mostRate)
		rate = mostRate
	}
	n := rate / ticksPerSecond
	part := func(p *C.spx_int16_t) []int16 { return unsafe.Slice((*int16)(p), n) }
	c.captured, c.reference, c.heard = part(&c.work.captured[0]), part(&c.work.reference[0]), part(&c.work.heard[0])
	samples := int(int64(rate) * int64(tail) / int64(time.Second))
	if c.work.echo = C.speex_echo_state_init(C.int(n), C.int(samples)); c.work.echo == nil {
		return nil, fmt.Errorf("echo: no canceller for %d Hz and %v", rate, tail)
	}
	r := C.int(rate)
	C.speex_echo_ctl(c.work.echo, C.SPEEX_ECHO_SET_SAMPLING_RATE, unsafe.Pointer(&r))
	if !clean {
		return c, nil
	}
	if c.work.clean = C.speex_preprocess_state_init(C.int(n), C.int(rate)); c.work.clean == nil {
		return nil, fmt.Errorf("echo: no noise suppression for %d Hz", rate)
	}
	C.speex_preprocess_ctl(c.work.clean, C.SPEEX_PREPROCESS_SET_ECHO_STATE, unsafe.Pointer(c.work.echo))
	for _, s := range []struct{ request, value C.int }{
		{C.SPEEX_PREPROCESS_SET_DENOISE, 1}, {C.SPEEX_PREPROCESS_SET_NOISE_SUPPRESS, noiseSuppression},
		{C.SPEEX_PREPROCESS_SET_ECHO_SUPPRESS, echoSuppression}, {C.SPEEX_PREPROCESS_SET_ECHO_SUPPRESS_ACTIVE, whileTalking},
		// Of a library that was built for whole numbers there is no level control, which is no reason to have no sound.
		{C.SPEEX_PREPROCESS_SET_AGC, 1}, {C.SPEEX_PREPROCESS_SET_AGC_TARGET, level}, {C.SPEEX_PREPROCESS_SET_AGC_MAX_GAIN, mostGain},
	} {
		C.set(c.work.clean, s.request, s.value)
	}
	return c, nil
}

// cancel takes the echo out of captured; played is what the device is given next.
func (c *canceller) cancel(captured, played []int16) {
	if c.back == nil {
		copy(c.captured, captured)
		c.tick()
		copy(captured, c.heard)
		copy(c.reference, played)
		return
	}
	c.said.Process(c.captured, captured)
	c.tick()
	c.back.Process(captured, c.heard)
	c.play.Process(c.reference, played)
}

// tick makes heard of what was captured.
func (c *canceller) tick() {
	c.stack.Call(tick, unsafe.Pointer(c.work))
	runtime.KeepAlive(c)
}

var tick = C.tick_at()
