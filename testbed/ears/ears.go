// Package ears hears when the sound of a call reaches its ends, and for how long none
// does while they move.
//
// It knows packets of sound, and the address that each end has. It refuses to know what
// is said, and how telephones follow each other; whoever looks at the way to the ends
// tells it of what goes by.
package ears

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"flexphone/testbed/wire"
)

// Ears hear what sound reaches the two ends of a call.
type Ears struct {
	mu   sync.Mutex
	ends [2]netip.Addr // where each is now
	came [2][]Arrival
	more chan struct{} // closed and replaced whenever something comes
}

// An Arrival is a packet of sound that reached an end at the address that it had.
type Arrival struct {
	at     time.Time
	direct bool // from the address that the other end had then
}

// New returns ears for ends that are there.
func New(ends [2]netip.Addr) *Ears {
	return &Ears{ends: ends, more: make(chan struct{})}
}

// Hear is told of each packet that comes to the ends.
func (e *Ears) Hear(at time.Time, packet []byte) {
	from, to, ok := wire.Voice(packet)
	if !ok {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.ends {
		if to.Addr() == e.ends[i] {
			e.came[i] = append(e.came[i], Arrival{at, from.Addr() == e.ends[1-i]})
			close(e.more)
			e.more = make(chan struct{})
		}
	}
}

// Moved says that an end is somewhere else from now on, and when that was.
func (e *Ears) Moved(end int, to netip.Addr) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ends[end] = to
}

// Where returns where an end is.
func (e *Ears) Where(end int) netip.Addr {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ends[end]
}

// Forget drops what came before.
func (e *Ears) Forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.came = [2][]Arrival{}
}

// Await waits until ok holds of what came to an end, in order.
func (e *Ears) Await(ctx context.Context, end int, ok func([]Arrival) bool) error {
	for {
		e.mu.Lock()
		came, more := e.came[end], e.more
		e.mu.Unlock()
		if ok(came) {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("ears: listen at end %d: %w", end, context.Cause(ctx))
		}
	}
}

// First waits for the first sound that comes to an end after a moment, and returns
// how long after.
func (e *Ears) First(ctx context.Context, end int, after time.Time) (d time.Duration, err error) {
	err = e.Await(ctx, end, func(came []Arrival) bool {
		i := slices.IndexFunc(came, func(a Arrival) bool { return a.at.After(after) })
		if i >= 0 {
			d = came[i].at.Sub(after)
		}
		return i >= 0
	})
	return d, err
}

// Steady is how many packets, half a second of them, have to come after a gap until
// it is over: what stutters meanwhile is a part of it.
const Steady = 25

// Gap waits until sound comes to an end after a move as it did before it, and
// returns the longest silence.
func (e *Ears) Gap(ctx context.Context, end int, move time.Time) (d time.Duration, err error) {
	err = e.Await(ctx, end, func(came []Arrival) bool {
		var over bool
		d, over = gapOf(came, move)
		return over
	})
	return d, err
}

// gapOf returns the longest silence from the last sound before the move until it
// comes straight from where the other end is now, and Steady packets more; false:
// not all of that has come.
func gapOf(came []Arrival, move time.Time) (longest time.Duration, over bool) {
	next := slices.IndexFunc(came, func(a Arrival) bool { return a.at.After(move) })
	if next < 1 {
		return 0, false
	}
	again := slices.IndexFunc(came[next:], func(a Arrival) bool { return a.direct })
	if again < 0 || len(came) <= next+again+Steady {
		return 0, false
	}
	for i := next; i <= next+again+Steady; i++ {
		longest = max(longest, came[i].at.Sub(came[i-1].at))
	}
	return longest, true
}
