package gpio

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// fakeLines are lines of a chip that is not there. Like the kernel's, they keep
// a bounded number of edges, and drop the oldest.
type fakeLines struct {
	room int // how many edges are kept

	mu      sync.Mutex
	level   uint64 // what is active
	queue   []edge
	dropped bool
	closed  bool
	changed chan struct{}
	sets    []uint64 // every set
	fail    error    // of the next set
}

func newFakeLines() *fakeLines { return &fakeLines{room: 16, changed: make(chan struct{})} }

// drive makes the lines what the world outside makes them.
func (f *fakeLines) drive(level uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.driveLocked(level)
}

func (f *fakeLines) driveLocked(level uint64) {
	now := time.Now()
	for i := range 64 {
		if bit := uint64(1) << i; (level^f.level)&bit != 0 {
			f.queue = append(f.queue, edge{line: i, active: level&bit != 0, at: now})
		}
	}
	if over := len(f.queue) - f.room; over > 0 {
		f.queue, f.dropped = f.queue[over:], true
	}
	f.level = level
	f.wake()
}

func (f *fakeLines) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeLines) edges(ctx context.Context, buf []edge) (int, bool, error) {
	for {
		f.mu.Lock()
		changed, closed := f.changed, f.closed
		if !closed && ctx.Err() == nil && len(f.queue) > 0 {
			n := copy(buf, f.queue)
			f.queue = f.queue[n:]
			lost := f.dropped
			f.dropped = false
			f.mu.Unlock()
			return n, lost, nil
		}
		f.mu.Unlock()
		if closed {
			return 0, false, os.ErrClosed
		}
		select {
		case <-ctx.Done():
			return 0, false, ctx.Err()
		case <-changed:
		}
	}
}

func (f *fakeLines) drain() (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, os.ErrClosed
	}
	n := len(f.queue)
	f.queue, f.dropped = nil, false
	return n, nil
}

func (f *fakeLines) values() (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, os.ErrClosed
	}
	return f.level, nil
}

func (f *fakeLines) set(values uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return os.ErrClosed
	}
	f.level = values
	f.sets = append(f.sets, values)
	f.wake()
	err := f.fail
	f.fail = nil
	return err
}

func (f *fakeLines) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return os.ErrClosed
	}
	f.closed = true
	f.wake()
	return nil
}

// A fakeMatrix is a keypad's copper on fake lines.
type fakeMatrix struct {
	cols *fakeLines

	mu     sync.Mutex
	copper keyMatrix
	driven uint64
	looks  int // how often a row was driven
	down   uint64
	step   chan struct{} // closed at each set of the rows

	driver atomic.Pointer[Matrix]
}

func newFakeMatrix() *fakeMatrix {
	return &fakeMatrix{cols: newFakeLines(), copper: keyMatrix{rows: 4, cols: 3}, step: make(chan struct{})}
}

// The rows.
func (f *fakeMatrix) set(values uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.driven = values
	f.looks++
	if m := f.driver.Load(); m != nil {
		f.down = m.scanner.down // set is called by the goroutine that owns it
	}
	f.cols.drive(f.copper.columns(f.driven))
	close(f.step)
	f.step = make(chan struct{})
	return nil
}

func (f *fakeMatrix) edges(context.Context, []edge) (int, bool, error) { panic("rows are outputs") }
func (f *fakeMatrix) drain() (int, error)                              { panic("rows are outputs") }
func (f *fakeMatrix) values() (uint64, error)                          { panic("rows are outputs") }
func (f *fakeMatrix) Close() error                                     { return nil }

// seen returns how often rows were driven, and which are now.
func (f *fakeMatrix) seen() (looks int, driven uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.looks, f.driven
}

// hold makes exactly these contacts.
func (f *fakeMatrix) hold(contacts uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.copper.contacts = contacts
	f.cols.drive(f.copper.columns(f.driven))
}

// await blocks until the driver has told, or will tell, that exactly these keys
// are down.
func (f *fakeMatrix) await(down uint64) {
	for {
		f.mu.Lock()
		there, step := f.down == down, f.step
		f.mu.Unlock()
		if there {
			return
		}
		<-step
	}
}
