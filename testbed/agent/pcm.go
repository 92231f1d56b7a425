package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A pcm is a sound device of the kernel's, as <sound/asound.h> describes it:
// ALSA without its library, so that the agent is one static file.
type pcm struct {
	file     *os.File
	channels int
}

// hwParams is struct snd_pcm_hw_params.
type hwParams struct {
	flags     uint32
	masks     [3][8]uint32 // sets of bits: access, format, subformat
	_         [5][8]uint32
	intervals [12]interval // from sampleBits to tickTime
	_         [9]interval
	wanted    uint32
	changed   uint32
	info      uint32
	msbits    uint32
	rateNum   uint32
	rateDen   uint32
	fifoSize  uintptr
	_         [64]byte
}

// interval is struct snd_interval.
type interval struct{ min, max, flags uint32 }

// whole is the flag of an interval that has no fractions.
const whole = 1 << 2

// Indexes of hwParams.intervals.
const (
	channelsParam   = 2
	rateParam       = 3
	periodSizeParam = 5
	periodsParam    = 7
)

// transfer is struct snd_xferi.
type transfer struct {
	result int // frames
	buf    unsafe.Pointer
	frames uint
}

// Numbers of requests, as <asm-generic/ioctl.h> makes them: direction, size of
// the argument, letter, number.
const (
	toKernel   = 1 << 30
	fromKernel = 2 << 30

	ioctlPrepare  = 'A'<<8 | 0x40
	ioctlHWParams = toKernel | fromKernel | unsafe.Sizeof(hwParams{})<<16 | 'A'<<8 | 0x11
	ioctlWrite    = toKernel | unsafe.Sizeof(transfer{})<<16 | 'A'<<8 | 0x50
	ioctlRead     = fromKernel | unsafe.Sizeof(transfer{})<<16 | 'A'<<8 | 0x51
)

// openPCM opens a device for 16-bit samples, with a buffer of some periods of
// as many frames.
func openPCM(path string, rate, channels, period, periods int) (*pcm, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	const interleaved, s16LE, standard = 3, 2, 0
	h := hwParams{wanted: ^uint32(0), info: ^uint32(0)}
	for i, bit := range []int{interleaved, s16LE, standard} {
		h.masks[i][0] = 1 << bit
	}
	for i := range h.intervals {
		h.intervals[i].max = ^uint32(0)
	}
	for param, value := range map[int]int{channelsParam: channels, rateParam: rate, periodSizeParam: period, periodsParam: periods} {
		h.intervals[param] = interval{uint32(value), uint32(value), whole}
	}
	p := &pcm{f, channels}
	err = p.ioctl(ioctlHWParams, unsafe.Pointer(&h))
	if err == nil {
		err = p.prepare()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set %s to %d Hz, %d channels: %w", path, rate, channels, err), f.Close())
	}
	return p, nil
}

func (p *pcm) ioctl(request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, p.file.Fd(), request, uintptr(arg))
		switch e {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return e
		}
	}
}

// prepare makes the device ready to start with the next write or read. EPIPE of
// these asks for it: the buffer ran dry, or over.
func (p *pcm) prepare() error { return p.ioctl(ioctlPrepare, nil) }

// write plays frames, once there is room for them.
func (p *pcm) write(samples []int16) error {
	x := transfer{buf: unsafe.Pointer(&samples[0]), frames: uint(len(samples) / p.channels)}
	err := p.ioctl(ioctlWrite, unsafe.Pointer(&x))
	runtime.KeepAlive(samples)
	return err
}

// read captures frames, once they are there, and returns how many.
func (p *pcm) read(samples []int16) (int, error) {
	x := transfer{buf: unsafe.Pointer(&samples[0]), frames: uint(len(samples) / p.channels)}
	err := p.ioctl(ioctlRead, unsafe.Pointer(&x))
	runtime.KeepAlive(samples)
	return x.result, err
}

// Close stops the device.
func (p *pcm) Close() error { return p.file.Close() }
