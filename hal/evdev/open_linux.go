package evdev

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"flexphone/hal/cdev"
)

// Requests of linux/input.h.
const (
	eviocgrab    = 0x40044590
	eviocsclock  = 0x400445a0
	nrName       = 0x06
	nrKey        = 0x18
	keyBytes     = codes / 8
	maxNameBytes = 256
)

// eviocg is _IOC(_IOC_READ, 'E', nr, size).
func eviocg(nr, size uint) uint { return 2<<30 | size<<16 | 'E'<<8 | nr }

// native is how this program's kernel lays out events.
func native() layout {
	return layout{word: int(unsafe.Sizeof(uintptr(0))), order: binary.NativeEndian}
}

// Open opens and grabs the device whose name the kernel says is name (as
// "phone-keys"), or whose path name is (as "/dev/input/event0"), and reads it
// until ctx is done or Close.
func Open(ctx context.Context, name string) (*Device, error) {
	src, err := find(name)
	if err != nil {
		return nil, err
	}
	if err := src.setUp(); err != nil {
		src.Close()
		return nil, err
	}
	return newDevice(ctx, src, native())
}

func find(name string) (kernelSource, error) {
	if strings.HasPrefix(name, "/") {
		f, err := cdev.Open(name, os.O_RDONLY)
		if err != nil {
			return kernelSource{}, fmt.Errorf("evdev: %w", err)
		}
		return kernelSource{f}, nil
	}
	paths, err := filepath.Glob("/dev/input/event*")
	if err != nil {
		return kernelSource{}, fmt.Errorf("evdev: list devices: %w", err)
	}
	var names []string
	for _, path := range paths {
		f, err := cdev.Open(path, os.O_RDONLY)
		if err != nil {
			names = append(names, err.Error())
			continue
		}
		var buf [maxNameBytes]byte
		err = f.Ioctl(eviocg(nrName, uint(len(buf)-1)), unsafe.Pointer(&buf))
		got := unix.ByteSliceToString(buf[:])
		if err == nil && got == name {
			return kernelSource{f}, nil
		}
		f.Close()
		names = append(names, fmt.Sprintf("%s is %q", path, got))
	}
	return kernelSource{}, fmt.Errorf("evdev: find device %q: none of %d (%s)", name, len(paths), strings.Join(names, ", "))
}

// A kernelSource is an input device of the kernel's.
type kernelSource struct{ *cdev.File }

func (k kernelSource) setUp() error {
	clock := int32(unix.CLOCK_MONOTONIC)
	if err := k.Ioctl(eviocsclock, unsafe.Pointer(&clock)); err != nil {
		return fmt.Errorf("evdev: set clock of %s: %w", k.Name(), err)
	}
	if err := k.Control(func(fd int) error { return unix.IoctlSetInt(fd, eviocgrab, 1) }); err != nil {
		return fmt.Errorf("evdev: grab %s, which another program may have: %w", k.Name(), err)
	}
	return nil
}

func (k kernelSource) keys() ([]byte, error) {
	bits := make([]byte, keyBytes)
	return bits, k.Ioctl(eviocg(nrKey, uint(len(bits))), unsafe.Pointer(&bits[0]))
}

func (kernelSource) now() (time.Duration, error) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return time.Duration(t.Nano()), err
}
