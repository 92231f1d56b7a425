package store

import (
	"context"
	"time"
)

const (
	// clockEvery is how often the clock is looked at: a row that expires because
	// the clock was set is told to who observes it no later than that.
	clockEvery = 10 * time.Second
	// clockJump is by how much the clock may be corrected without a word.
	clockJump = 5 * time.Second
)

// expire tells who observes when rows go offline by themselves, and warns when
// the clock was set since it said said, at measured of a clock that nobody sets.
//
// Expiries are times of day, since they outlive the process and are compared
// by all servers of a cluster. A clock that is set wrong makes rows expire too
// early or too late; it loses none, and decides nothing else: which
// announcement is the newer one is said by their sequence numbers alone.
func (s *Store) expire(ctx context.Context, said, measured time.Time) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.wake:
		case <-ctx.Done():
			return
		}
		now := s.opts.Now()
		passed := time.Since(measured)
		if by := now.Round(0).Sub(said.Round(0)) - passed; by > clockJump || by < -clockJump {
			s.opts.Log.Warn("the clock was set: rows expire by the new time; if it is wrong, set it right, and phones renew their rows by themselves",
				"by", by.Round(time.Millisecond))
		}
		said, measured = now, time.Now()
		touched, next := s.table.expired(now)
		if len(touched) > 0 {
			s.opts.Changed(touched)
		}
		wait := clockEvery
		if !next.IsZero() {
			wait = min(wait, next.Sub(now))
		}
		timer.Reset(wait)
	}
}
