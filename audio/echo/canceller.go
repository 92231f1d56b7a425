package echo

/*
#cgo pkg-config: speexdsp
#cgo CFLAGS: -O3
#cgo LDFLAGS: -lm
#include <speex/speex_preprocess.h>
#include <stdlib.h>
#include "kalman.h"

enum { most = 160 }; // samples of a tick

typedef struct {
	kalman *filter;
	SpeexPreprocessState *clean; // NULL: the filter alone
	spx_int16_t captured[most], reference[most], heard[most];
} work;

static void set(SpeexPreprocessState *st, int request, int value) { speex_preprocess_ctl(st, request, &value); }

// tick makes heard of what was captured.
static void tick(void *p) {
	work *w = p;
	kalman_cancel(w->filter, w->captured, w->reference, w->heard);
	if (w->clean)
		speex_preprocess_run(w->clean, w->heard);
}

static void *tick_at(void) { return tick; }

static void end(work *w) {
	kalman_free(w->filter);
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

// A canceller takes what was played out of what was captured, a tick at a time: a Kalman
// filter (kalman.c), and behind it, if that is wanted, what suppresses the rest of the
// echo (rest.c), and steady noise, and evens the level (speexdsp). It belongs to one
// goroutine and does not allocate.
//
// Sound of 48 kHz is worked on at 16: telephone speech ends at 7 kHz.
type canceller struct {
	work  *C.work
	stack *ccall.Stack
	// reference is what was played one tick ago: its echo is the first that can be in
	// what was captured. All three are of work.
	captured, reference, heard []int16
	ducker                     *ducker // nil: what is left of the echo is sent
	// Of another rate of the device's; nil: there is none.
	said, play *resample.Down
	back       *resample.Up
}

// stack is what C may need, in bytes: it has its memory elsewhere.
const stack = 64 << 10

// mostRate is what is worked on at the most, in Hz.
const mostRate = 16000

const (
	ticksPerSecond = 100
	// noiseSuppression is how far noise is attenuated at the most, in dB: more makes voices
	// sound as if under water.
	noiseSuppression = -18
	// level is where the level of speech is brought to, in the words of speexdsp, which
	// weighs frequencies as ears do: with it speech is sent 26 dB below full scale. mostGain
	// is by how much at the most, in dB, since silence is made as much louder.
	level    = 12000
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
		c.said, c.play, c.back = resample.NewSoonDown(rate/mostRate), resample.NewSoonDown(rate/mostRate), resample.NewSoonUp(rate/mostRate)
		rate = mostRate
	}
	n := rate / ticksPerSecond
	part := func(p *C.spx_int16_t) []int16 { return unsafe.Slice((*int16)(p), n) }
	c.captured, c.reference, c.heard = part(&c.work.captured[0]), part(&c.work.reference[0]), part(&c.work.heard[0])
	samples := int(int64(rate) * int64(tail) / int64(time.Second))
	suppresses := C.int(0)
	if clean {
		suppresses = 1
	}
	if c.work.filter = C.kalman_new(C.int(n), C.int(samples), suppresses); c.work.filter == nil {
		return nil, fmt.Errorf("echo: no canceller for %d Hz and %v", rate, tail)
	}
	if !clean {
		return c, nil
	}
	c.ducker = newDucker()
	if c.work.clean = C.speex_preprocess_state_init(C.int(n), C.int(rate)); c.work.clean == nil {
		return nil, fmt.Errorf("echo: no noise suppression for %d Hz", rate)
	}
	for _, s := range []struct{ request, value C.int }{
		{C.SPEEX_PREPROCESS_SET_DENOISE, 1}, {C.SPEEX_PREPROCESS_SET_NOISE_SUPPRESS, noiseSuppression},
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
	if c.ducker != nil {
		c.ducker.duck(c.heard, c.reference)
	}
	runtime.KeepAlive(c)
}

var tick = C.tick_at()
