package store

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"

	"flexphone/registry-client/wire"
)

// Who does not wait is turned away at once when too many wait for the disk
// already, and everybody is answered once.
func TestTooManyWait(t *testing.T) {
	disk := make(chan struct{})
	s, err := Open(t.Context(), Options{
		Dir: t.TempDir(), Numbers: Numbers{First: 101, Last: 999}, Log: slog.New(slog.DiscardHandler),
		Audit: func([]Event) error { <-disk; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const more = 2 * batchOwn
	var taken, refused atomic.Int64
	all := make(chan struct{}, queueLength+more)
	for range queueLength + more {
		s.BeginAnnounce(Claim{Key: key(1), Entitled: true}, registration(1, 1, "192.0.2.1"), func(row wire.Row, _ bool, err error) {
			switch {
			case err == nil && row.MAC == mac(1):
				taken.Add(1)
			case errors.Is(err, ErrUnavailable):
				refused.Add(1)
			default:
				t.Errorf("announced: %+v, %v", row, err)
			}
			all <- struct{}{}
		})
	}
	if n := refused.Load(); n == 0 || n > more {
		t.Errorf("%d were turned away at once; want some of %d", n, more)
	}
	close(disk)
	for range queueLength + more {
		<-all
	}
	if taken.Load() < queueLength || taken.Load()+refused.Load() != queueLength+more {
		t.Errorf("%d taken, %d refused; want %d, at least %d taken", taken.Load(), refused.Load(), queueLength+more, queueLength)
	}
	s.BeginRelease(key(1), wire.Withdrawal{MAC: mac(1), Sequence: 2}, func(err error) {
		if err != nil {
			t.Errorf("released: %v", err)
		}
		all <- struct{}{}
	})
	<-all
	if row, ok := s.Resolve(wire.Query{MAC: mac(1)}); !ok || row.State != wire.Offline {
		t.Errorf("released, and then %+v, %v", row, ok)
	}
}
