package netlink

import (
	"context"
	"sync"
)

// maxPending is how many events wait for a slow reader before older ones are
// folded into newer ones. A reader that keeps up sees every event.
const maxPending = 64

// A Queue hands events from a Source's Run to its Next, for whoever makes a Source. It
// never blocks the one that owns the interface.
type Queue struct {
	mu     sync.Mutex
	events []Event
	wake   chan struct{}
}

// NewQueue returns an empty one.
func NewQueue() *Queue { return &Queue{wake: make(chan struct{}, 1)} }

// Push adds e, and folds what waits when there is too much of it.
func (q *Queue) Push(e Event) {
	q.mu.Lock()
	q.events = append(q.events, e)
	if len(q.events) > maxPending {
		q.events = fold(q.events)
	}
	q.mu.Unlock()
	q.signal()
}

func (q *Queue) signal() {
	wake(q.wake)
}

// wake fills a channel of one slot.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Next blocks until there is an event or ctx is done.
func (q *Queue) Next(ctx context.Context) (Event, error) {
	for {
		if e, ok := q.pop(); ok {
			return e, nil
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

func (q *Queue) pop() (Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.events) == 0 {
		return Event{}, false
	}
	e := q.events[0]
	q.events = append(q.events[:0], q.events[1:]...)
	if len(q.events) > 0 {
		q.signal()
	}
	return e, true
}

// fold keeps what a late reader must still know: that the address it may know
// was lost, if it was, and the newest state.
func fold(events []Event) []Event {
	last := events[len(events)-1]
	if last.Kind == Lost {
		return append(events[:0], last)
	}
	var lost *Event
	for i := range events {
		switch events[i].Kind {
		case Lost:
			if lost == nil {
				first := events[i]
				lost = &first
			}
			last.Kind = Bound
		case Bound:
			last.Kind = Bound
		}
	}
	events = events[:0]
	if lost != nil {
		events = append(events, *lost)
	}
	return append(events, last)
}
