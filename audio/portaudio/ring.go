package portaudio

// #include "line.h"
import "C"

import (
	"sync/atomic"
	"unsafe"
)

// A ring is one of C's, written or read in Go. A call into C would be taken for one
// that may block: Go's runtime wakes a thread to watch over it, which costs as much
// as the tick.
type ring struct {
	samples       []int16
	written, from *atomic.Uint32 // counts
}

func ringOf(r *C.ring) ring {
	return ring{
		samples: unsafe.Slice((*int16)(r.samples), int(r.mask)+1),
		written: count(&r.written),
		from:    count(&r.read),
	}
}

// count is one of C's atomic counts.
func count(c *C.uint32_t) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(c)) }

// have returns how many samples wait.
func (r ring) have() int { return int(r.written.Load() - r.from.Load()) }

// write adds samples, for which there is room.
func (r ring) write(pcm []int16) {
	w := r.written.Load()
	n := copy(r.samples[int(w)&(len(r.samples)-1):], pcm)
	copy(r.samples, pcm[n:])
	r.written.Store(w + uint32(len(pcm)))
}

// read fetches samples, which are there.
func (r ring) read(pcm []int16) {
	at := r.from.Load()
	n := copy(pcm, r.samples[int(at)&(len(r.samples)-1):])
	copy(pcm[n:], r.samples)
	r.from.Store(at + uint32(len(pcm)))
}
