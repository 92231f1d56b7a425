package netlink

import (
	"context"
	"sync"
)

// maxPending is how many events wait for a slow reader before older ones are
// folded into newer ones. A reader that keeps up sees every event.
const maxPending = 64

// A queue hands events from the one that owns an interface to the one that
// acts on them. It never blocks the owner.
type queue struct {
	mu     sync.Mutex
	events []Event
	wake   chan struct{}
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

// push adds e, and folds what waits when there is too much of it.
func (q *queue) push(e Event) {
	q.mu.Lock()
	q.events = append(q.events, e)
	if len(q.events) > maxPending {
		q.events = fold(q.events)
	}
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	wake(q.wake)
}

// wake fills a channel of one slot.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// next blocks until there is an event or ctx is done.
func (q *queue) next(ctx context.Context) (Event, error) {
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

func (q *queue) pop() (Event, bool) {
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
