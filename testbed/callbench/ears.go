package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"flexphone/testbed/wire"
)

// ears hear at the end of the wire what sound reaches the two ends of a call. They
// know where the ends are, and not what is said.
type ears struct {
	mu   sync.Mutex
	ends [2]netip.Addr // where each is now
	came [2][]arrival
	more chan struct{} // closed and replaced whenever something comes
}

// An arrival is a packet of sound that reached an end at the address that it had.
type arrival struct {
	at     time.Time
	direct bool // from the address that the other end had then
}

func newEars(ends [2]netip.Addr) *ears {
	return &ears{ends: ends, more: make(chan struct{})}
}

// hear is told of each packet that leaves the wire.
func (e *ears) hear(at time.Time, packet []byte) {
	from, to, ok := wire.Voice(packet)
	if !ok {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.ends {
		if to.Addr() == e.ends[i] {
			e.came[i] = append(e.came[i], arrival{at, from.Addr() == e.ends[1-i]})
			close(e.more)
			e.more = make(chan struct{})
		}
	}
}

// moved says that an end is somewhere else from now on, and when that was.
func (e *ears) moved(end int, to netip.Addr) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ends[end] = to
}

// where returns where an end is.
func (e *ears) where(end int) netip.Addr {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ends[end]
}

// forget drops what came before.
func (e *ears) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.came = [2][]arrival{}
}

// await waits until ok holds of what came to an end, in order.
func (e *ears) await(ctx context.Context, end int, ok func([]arrival) bool) error {
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
			return fmt.Errorf("callbench: listen at end %d: %w", end, context.Cause(ctx))
		}
	}
}

// first waits for the first sound that comes to an end after a moment, and returns
// how long after.
func (e *ears) first(ctx context.Context, end int, after time.Time) (d time.Duration, err error) {
	err = e.await(ctx, end, func(came []arrival) bool {
		i := slices.IndexFunc(came, func(a arrival) bool { return a.at.After(after) })
		if i >= 0 {
			d = came[i].at.Sub(after)
		}
		return i >= 0
	})
	return d, err
}

// steady is how many packets, half a second of them, have to come after a gap until
// it is over: what stutters meanwhile is a part of it.
const steady = 25

// gap waits until sound comes to an end after a move as it did before it, and
// returns the longest silence.
func (e *ears) gap(ctx context.Context, end int, move time.Time) (d time.Duration, err error) {
	err = e.await(ctx, end, func(came []arrival) bool {
		var over bool
		d, over = gapOf(came, move)
		return over
	})
	return d, err
}

// gapOf returns the longest silence from the last sound before the move until it
// comes straight from where the other end is now, and steady packets more; false:
// not all of that has come.
func gapOf(came []arrival, move time.Time) (longest time.Duration, over bool) {
	next := slices.IndexFunc(came, func(a arrival) bool { return a.at.After(move) })
	if next < 1 {
		return 0, false
	}
	again := slices.IndexFunc(came[next:], func(a arrival) bool { return a.direct })
	if again < 0 || len(came) <= next+again+steady {
		return 0, false
	}
	for i := next; i <= next+again+steady; i++ {
		longest = max(longest, came[i].at.Sub(came[i-1].at))
	}
	return longest, true
}
