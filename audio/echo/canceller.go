package echo

/*
#cgo pkg-config: speexdsp
#include <speex/speex_echo.h>
#include <speex/speex_preprocess.h>

static void set(SpeexPreprocessState *st, int request, int value) { speex_preprocess_ctl(st, request, &value); }
*/
import "C"

import (
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"flexphone/audio/resample"
)

// A canceller takes what was played out of what was captured, a tick at a time: the
// MDF filter of speexdsp (Soo and Pang, 1990; Valin, 2007), and behind it, if that is
// wanted, what suppresses the rest of the echo and steady noise, and evens the level.
// It belongs to one goroutine and does not allocate.
//
// Sound of 48 kHz is worked on at 16: at 48 the filter across a table takes 4.7 s of
// processor a minute where it takes 1.2, and telephone speech ends at 7 kHz.
type canceller struct {
	echo  *C.SpeexEchoState
	clean *C.SpeexPreprocessState // nil: the filter alone
	// reference is what was played one tick ago: its echo is the first that can be in
	// what was captured.
	reference []int16
	heard     []int16
	// Of another rate of the device's; nil: there is none.
	said, play *resample.Down
	back       *resample.Up
	low        []int16
}

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
	c := &canceller{}
	if rate > mostRate {
		c.said, c.play, c.back = resample.NewDown(rate/mostRate), resample.NewDown(rate/mostRate), resample.NewUp(rate/mostRate)
		c.low = make([]int16, mostRate/ticksPerSecond)
		rate = mostRate
	}
	n := rate / ticksPerSecond
	c.reference, c.heard = make([]int16, n), make([]int16, n)
	samples := int(int64(rate) * int64(tail) / int64(time.Second))
	if c.echo = C.speex_echo_state_init(C.int(n), C.int(samples)); c.echo == nil {
		return nil, fmt.Errorf("echo: no canceller for %d Hz and %v", rate, tail)
	}
	runtime.AddCleanup(c, func(st *C.SpeexEchoState) { C.speex_echo_state_destroy(st) }, c.echo)
	r := C.int(rate)
	C.speex_echo_ctl(c.echo, C.SPEEX_ECHO_SET_SAMPLING_RATE, unsafe.Pointer(&r))
	if !clean {
		return c, nil
	}
	if c.clean = C.speex_preprocess_state_init(C.int(n), C.int(rate)); c.clean == nil {
		return nil, fmt.Errorf("echo: no noise suppression for %d Hz", rate)
	}
	runtime.AddCleanup(c, func(st *C.SpeexPreprocessState) { C.speex_preprocess_state_destroy(st) }, c.clean)
	C.speex_preprocess_ctl(c.clean, C.SPEEX_PREPROCESS_SET_ECHO_STATE, unsafe.Pointer(c.echo))
	for _, s := range []struct{ request, value C.int }{
		{C.SPEEX_PREPROCESS_SET_DENOISE, 1}, {C.SPEEX_PREPROCESS_SET_NOISE_SUPPRESS, noiseSuppression},
		{C.SPEEX_PREPROCESS_SET_ECHO_SUPPRESS, echoSuppression}, {C.SPEEX_PREPROCESS_SET_ECHO_SUPPRESS_ACTIVE, whileTalking},
		// Of a library that was built for whole numbers there is no level control, which is no reason to have no sound.
		{C.SPEEX_PREPROCESS_SET_AGC, 1}, {C.SPEEX_PREPROCESS_SET_AGC_TARGET, level}, {C.SPEEX_PREPROCESS_SET_AGC_MAX_GAIN, mostGain},
	} {
		C.set(c.clean, s.request, s.value)
	}
	return c, nil
}

// cancel takes the echo out of captured; played is what the device is given next.
func (c *canceller) cancel(captured, played []int16) {
	if c.back == nil {
		c.work(captured)
		copy(captured, c.heard)
		copy(c.reference, played)
		return
	}
	c.said.Process(c.low, captured)
	c.work(c.low)
	c.back.Process(captured, c.heard)
	c.play.Process(c.reference, played)
}

// work makes heard of what was captured.
func (c *canceller) work(captured []int16) {
	C.speex_echo_cancellation(c.echo, (*C.spx_int16_t)(&captured[0]), (*C.spx_int16_t)(&c.reference[0]), (*C.spx_int16_t)(&c.heard[0]))
	if c.clean != nil {
		C.speex_preprocess_run(c.clean, (*C.spx_int16_t)(&c.heard[0]))
	}
	runtime.KeepAlive(c)
}
