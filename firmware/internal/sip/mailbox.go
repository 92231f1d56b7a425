package sip

import (
	"context"
	"sync"
)

// A mailbox brings work to a call's goroutine. Posting never blocks.
type mailbox struct {
	filled chan struct{}
	mu     sync.Mutex
	work   []func(context.Context)
	closed bool
}

// maxWork bounds what may wait: a peer that floods its own call loses requests.
const maxWork = 256

func newMailbox() *mailbox { return &mailbox{filled: make(chan struct{}, 1)} }

// post reports whether f will be run, unless the call ends before.
func (m *mailbox) post(f func(context.Context)) bool {
	m.mu.Lock()
	if m.closed || len(m.work) >= maxWork {
		m.mu.Unlock()
		return false
	}
	m.work = append(m.work, f)
	m.mu.Unlock()
	select {
	case m.filled <- struct{}{}:
	default:
	}
	return true
}

func (m *mailbox) take() []func(context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.work
	m.work = nil
	return w
}

// closeEmpty closes the mailbox unless work waits in it, so that no request
// goes without an answer.
func (m *mailbox) closeEmpty() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = m.closed || len(m.work) == 0
	return m.closed
}

func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.work = true, nil
}

// A queue holds the events that nobody has taken yet. It stays short: of
// several Progress or Changed events in a row only the last one counts.
type queue struct {
	filled chan struct{}
	mu     sync.Mutex
	events []Event
	ended  bool // Ended has been taken
}

func newQueue() *queue { return &queue{filled: make(chan struct{}, 1)} }

func (q *queue) push(e Event) {
	q.mu.Lock()
	if n := len(q.events); n > 0 && q.events[n-1].Kind == e.Kind {
		q.events[n-1] = e
	} else {
		q.events = append(q.events, e)
	}
	q.mu.Unlock()
	q.wake()
}

func (q *queue) wake() {
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

func (q *queue) next(ctx context.Context) (Event, error) {
	for {
		q.mu.Lock()
		if len(q.events) > 0 {
			e := q.events[0]
			q.events = q.events[1:]
			q.ended = e.Kind == Ended
			q.mu.Unlock()
			q.wake() // there may be more, or others who wait for the end
			return e, nil
		}
		over := q.ended
		q.mu.Unlock()
		if over {
			q.wake()
			return Event{}, ErrEnded
		}
		select {
		case <-q.filled:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}
