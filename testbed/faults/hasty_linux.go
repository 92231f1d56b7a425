package faults

import (
	"errors"
	"fmt"
	"time"
)

// ErrStarved says that an attempt failed while the machine itself stood still, in
// a case where a lease lasts for seconds: whose fault it was cannot be told.
var ErrStarved = errors.New("the machine stood still")

// stillness is how long a goroutine may wait for its turn in such a case. A
// renewal takes several turns, of the client, the kernel and the server, in the
// half of a second that a lease of one second leaves for it.
const stillness = 50 * time.Millisecond

// hasty is a case whose leases last for seconds.
func hasty(f func(*play) error) func(*play) error {
	return func(p *play) error {
		end := feelPulse()
		err := f(p)
		if longest := end(); err != nil && longest > stillness {
			return Broken{fmt.Errorf("%w for %v: %w", ErrStarved, longest, err)}
		}
		return err
	}
}

// feelPulse measures the longest time for which nothing ran here that should
// have, until end is called.
func feelPulse() (end func() (longest time.Duration)) {
	const beat = 5 * time.Millisecond
	quit, result := make(chan struct{}), make(chan time.Duration)
	go func() {
		tick := time.NewTicker(beat)
		defer tick.Stop()
		last, longest := time.Now(), time.Duration(0)
		for {
			select {
			case <-tick.C:
				now := time.Now()
				longest = max(longest, now.Sub(last)-beat)
				last = now
			case <-quit:
				result <- longest
				return
			}
		}
	}()
	return func() time.Duration {
		close(quit)
		return <-result
	}
}
