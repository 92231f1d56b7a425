// Package ccall calls C without telling Go's runtime, as syscall.RawSyscall calls the
// kernel: for a call each few milliseconds that never waits.
//
// It knows a stack and how to change to it. It refuses to know what is called.
//
// # Why
//
// A call by cgo may wait, so that the runtime has a thread watch over it, which is woken
// if it sleeps. Where a tick of sound is all that happens it always does: that took as much
// as half of what an echo canceller does.
//
// # What it costs
//
// Until C returns nothing stops the goroutine: a collection of garbage waits for it. C must
// not call Go, nor wait, and has to be content with its stack, beyond which the
// process ends.
//
// Where there is no assembly for a processor, it is called by cgo.
package ccall

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Stack is where C runs. It belongs to one goroutine.
type Stack struct {
	top uintptr
}

// NewStack returns a stack of a size in bytes, which is given back with it. Memory that was
// never used is not taken.
func NewStack(size int) (*Stack, error) {
	page := os.Getpagesize()
	size = (size+page-1)/page*page + page
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_STACK)
	if err != nil {
		return nil, fmt.Errorf("ccall: make stack: %w", err)
	}
	if err := unix.Mprotect(mem[:page], unix.PROT_NONE); err != nil {
		unix.Munmap(mem)
		return nil, fmt.Errorf("ccall: guard stack: %w", err)
	}
	s := &Stack{top: uintptr(unsafe.Pointer(unsafe.SliceData(mem))) + uintptr(size)}
	runtime.AddCleanup(s, func(mem []byte) { unix.Munmap(mem) }, mem)
	return s, nil
}

// Call calls a C function of one pointer, which returns nothing. What arg points to is
// C's memory.
func (s *Stack) Call(fn, arg unsafe.Pointer) {
	call(fn, arg, s.top)
	runtime.KeepAlive(s)
}
