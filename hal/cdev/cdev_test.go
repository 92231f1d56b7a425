package cdev_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/hal/cdev"
)

func pipe(t *testing.T) (*cdev.File, *os.File) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	f, err := cdev.New(fds[0], "pipe")
	if err != nil {
		t.Fatal(err)
	}
	w := os.NewFile(uintptr(fds[1]), "pipe")
	t.Cleanup(func() { f.Close(); w.Close() })
	return f, w
}

func TestReadEndsWithItsContext(t *testing.T) {
	f, w := pipe(t)
	buf := make([]byte, 8)
	for range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Microsecond)
		if _, err := f.Read(ctx, buf); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Read() = %v; want %v", err, context.DeadlineExceeded)
		}
		cancel()
		w.WriteString("x")
		if n, err := f.Read(t.Context(), buf); n != 1 || err != nil {
			t.Fatalf("Read() after a cancelled one = %d, %v; want 1", n, err)
		}
	}
}

func TestTurn(t *testing.T) {
	turn := cdev.NewTurn()
	ctx, cancel := context.WithCancel(t.Context())
	if err := turn.Take(ctx); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := turn.Take(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("Take() of a turn another has = %v; want %v", err, context.Canceled)
			}
		})
	}
	cancel()
	wg.Wait()
	turn.Give()
	for range 100 {
		if err := turn.Take(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("Take() with a context that is done = %v; want %v", err, context.Canceled)
		}
	}
	if err := turn.Take(t.Context()); err != nil {
		t.Errorf("Take() of a free turn = %v", err)
	}
}

func TestTryRead(t *testing.T) {
	f, w := pipe(t)
	buf := make([]byte, 8)
	if n, err := f.TryRead(buf); n != 0 || err != nil {
		t.Errorf("TryRead() of nothing = %d, %v; want 0, nil", n, err)
	}
	w.WriteString("abc")
	if n, err := f.TryRead(buf); n != 3 || err != nil {
		t.Errorf("TryRead() = %d, %v; want 3, nil", n, err)
	}
}

func TestClosed(t *testing.T) {
	f, _ := pipe(t)
	end := make(chan error, 1)
	go func() { _, err := f.Read(t.Context(), make([]byte, 1)); end <- err }()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-end; !errors.Is(err, os.ErrClosed) {
		t.Errorf("the waiting Read() = %v; want %v", err, os.ErrClosed)
	}
	_, err := f.Read(t.Context(), make([]byte, 1))
	_, tryErr := f.TryRead(make([]byte, 1))
	for _, err := range []error{err, tryErr, f.Close(), f.Control(func(int) error { return nil })} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("after Close: %v; want %v", err, os.ErrClosed)
		}
	}
}

func TestOpenNamesThePath(t *testing.T) {
	_, err := cdev.Open("/dev/no-such-device", os.O_RDONLY)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open() = %v; want %v", err, os.ErrNotExist)
	}
}
