// Package sim is hardware made of memory: a keypad, a hook switch, a message
// lamp and a display for a phone on a desk that has no phone on it.
//
// It knows what a person could do to such a phone, and offers each of these as
// a method; the control socket and the tests call them. It refuses to know who
// calls, and it never stands in for a real part that is missing: a board asks
// for simulated parts, or does not get them.
//
// All of it is safe for concurrent use. A closed part answers with os.ErrClosed.
package sim

import (
	"context"
	"os"
	"sync"
)

// maxPending is how many changes nobody has read yet a part keeps. A person is
// slower than that; a script that is not is told.
const maxPending = 256

// A queue passes values from those who move a part to those who read it.
type queue[T any] struct {
	mu      sync.Mutex
	pending []T
	closed  bool
	changed chan struct{} // closed at each change
}

func newQueue[T any]() *queue[T] { return &queue[T]{changed: make(chan struct{})} }

// update runs f under the lock and wakes the readers.
func (q *queue[T]) update(f func() error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return os.ErrClosed
	}
	if err := f(); err != nil {
		return err
	}
	close(q.changed)
	q.changed = make(chan struct{})
	return nil
}

// read blocks until take, which runs under the lock, has something to tell.
func (q *queue[T]) read(ctx context.Context, take func() (T, bool)) (T, error) {
	for {
		q.mu.Lock()
		closed, changed := q.closed, q.changed
		var v T
		var ok bool
		err := ctx.Err()
		if !closed && err == nil {
			v, ok = take()
		}
		q.mu.Unlock()
		switch {
		case err != nil:
			return v, err
		case closed:
			return v, os.ErrClosed
		case ok:
			return v, nil
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

func (q *queue[T]) close() error {
	return q.update(func() error { q.closed = true; return nil })
}
