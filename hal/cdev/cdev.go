// Package cdev is a Linux character device whose reads end with their context.
//
// It knows how to wait for such a device in the Go poller, so that a read costs
// no thread, and how to give up waiting. It refuses to know what is read.
package cdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A File is an open character device. It is safe for concurrent use, but for
// reads: a driver holds its Turn over them and over what it makes of them.
type File struct{ f *os.File }

// A Turn is a lock that a context can give up waiting for.
type Turn chan struct{}

// NewTurn returns a turn that nobody has.
func NewTurn() Turn { return make(Turn, 1) }

// Take blocks until the turn is free, or ctx is done. Once ctx is done, it does
// not take a turn that is free.
func (t Turn) Take(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case t <- struct{}{}:
	}
	if err := ctx.Err(); err != nil { // where both were ready
		t.Give()
		return err
	}
	return nil
}

// Give gives the turn back.
func (t Turn) Give() { <-t }

// Open opens the device at path. flag is as for os.OpenFile.
func Open(path string, flag int) (*File, error) {
	fd, err := unix.Open(path, flag|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cdev: open device: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	return New(fd, path)
}

// New takes over fd, which is a device, a pipe or whatever else can be polled.
// name is what its errors call it.
func New(fd int, name string) (*File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cdev: set %s nonblocking: %w", name, err)
	}
	return &File{f: os.NewFile(uintptr(fd), name)}, nil
}

// Name returns the path the device was opened by.
func (f *File) Name() string { return f.f.Name() }

// Read blocks until the device gives something, or ctx is done, or f is closed.
// What arrives after ctx is done waits for the next Read.
func (f *File) Read(ctx context.Context, p []byte) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		f.f.SetReadDeadline(time.Unix(1, 0)) // fails only when f is closed: the read ends, too
	})
	n, err := f.f.Read(p)
	if !stop() {
		<-woken
		f.f.SetReadDeadline(time.Time{})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, ctx.Err()
		}
	}
	return n, err
}

// TryRead reads what the device has now: nothing, and no error, if that is so.
func (f *File) TryRead(p []byte) (int, error) {
	var n int
	err := f.Control(func(fd int) error {
		var err error
		n, err = unix.Read(fd, p)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			n, err = 0, nil
		}
		return err
	})
	return max(n, 0), err
}

// Ioctl calls ioctl with a pointer to a structure as the kernel defines it.
func (f *File) Ioctl(request uint, arg unsafe.Pointer) error {
	return f.Control(func(fd int) error { return Ioctl(fd, request, arg) })
}

// Control calls do with the descriptor, which is not closed meanwhile.
func (f *File) Control(do func(fd int) error) error {
	c, err := f.f.SyscallConn()
	if err != nil {
		return os.ErrClosed
	}
	var did error
	if err := c.Control(func(fd uintptr) { did = do(int(fd)) }); err != nil {
		return os.ErrClosed
	}
	return did
}

// Close ends a read that waits and returns os.ErrClosed the second time.
func (f *File) Close() error {
	err := f.f.Close()
	if errors.Is(err, os.ErrClosed) {
		return os.ErrClosed
	}
	return err
}

// Ioctl is ioctl(2) on a descriptor that is no File.
func Ioctl(fd int, request uint, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}
