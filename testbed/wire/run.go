package wire

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// mtu is the longest packet that a Wire carries.
const mtu = 1 << 16

// blunt is how late Go's timers may be on a machine that has nothing else to do: what
// waits for the network waits for whole milliseconds (epoll_wait(2)). Eight ways of
// half a round trip each, as a call takes, would be as many milliseconds too long.
const blunt = 2 * time.Millisecond

// A Wire carries what it reads from a device back to it, by way of a Line. The
// device is one that reads and writes a packet at a time.
type Wire struct {
	device io.ReadWriteCloser
	mu     sync.Mutex
	line   *Line
	seen   func(at time.Time, packet []byte)
	rest   func(time.Duration) // waits for less than blunt; nil: timers do
	wake   chan struct{}       // the next packet is another one than before
	ended  chan struct{}       // by Close, or by a device that fails
	both   sync.WaitGroup
	err    error // of the device, before Close
	once   sync.Once
}

// Start carries packets until Close, which is the caller's to call. A device that can
// Rest is waited with at the end of each wait.
func Start(device io.ReadWriteCloser, c Config) *Wire {
	w := &Wire{device: device, line: NewLine(c, 1), wake: make(chan struct{}, 1), ended: make(chan struct{})}
	if d, ok := device.(interface{ Rest(time.Duration) }); ok {
		w.rest = d.Rest
	}
	w.both.Go(w.read)
	w.both.Go(w.write)
	return w
}

// Set makes it another kind of way, for packets that enter from now on.
func (w *Wire) Set(c Config) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.line.Set(c)
}

// Watch has seen called with each packet that comes out, at once before it does,
// until Watch is called again; nil: nobody looks. It must be quick, and must not keep
// the packet.
func (w *Wire) Watch(seen func(at time.Time, packet []byte)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = seen
}

// Close takes the wire away, with all that is on its way. It returns the device's
// error if that had ended the wire before.
func (w *Wire) Close() error {
	w.end(nil)
	w.both.Wait()
	return w.err
}

// end ends both halves, the first time that it is called.
func (w *Wire) end(err error) {
	w.once.Do(func() {
		w.err = err
		close(w.ended)
		if problem := w.device.Close(); err == nil && problem != nil {
			w.err = fmt.Errorf("wire: close device: %w", problem)
		}
	})
}

func (w *Wire) read() {
	buf := make([]byte, mtu)
	for {
		n, err := w.device.Read(buf)
		if err != nil {
			w.end(fmt.Errorf("wire: read packet: %w", err))
			return
		}
		data := append([]byte(nil), buf[:n]...)
		w.mu.Lock()
		w.line.Enter(time.Now(), data)
		w.mu.Unlock()
		select {
		case w.wake <- struct{}{}:
		default: // it is told already
		}
	}
}

func (w *Wire) write() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-w.wake:
		case <-w.ended:
			return
		}
		for due, waits := w.deliver(); waits; due, waits = w.deliver() {
			left := time.Until(due)
			if w.rest == nil || left > blunt {
				if w.rest != nil {
					left -= blunt
				}
				timer.Reset(left)
				break
			}
			w.rest(left)
		}
	}
}

// deliver writes what is due, and returns when it must be called again; false: not
// before another packet has entered.
func (w *Wire) deliver() (due time.Time, waits bool) {
	for {
		w.mu.Lock()
		now := time.Now()
		data, ok := w.line.Leave(now)
		due, waits = w.line.Due()
		seen := w.seen
		w.mu.Unlock()
		if !ok {
			return due, waits
		}
		if seen != nil {
			seen(now, data)
		}
		if _, err := w.device.Write(data); err != nil && !errors.Is(err, errRefused) {
			w.end(fmt.Errorf("wire: write packet: %w", err))
			return due, false
		}
	}
}
