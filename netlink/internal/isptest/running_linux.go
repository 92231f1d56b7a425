package isptest

import (
	"context"
	"testing"
	"time"
)

// A Source gives out events, such as those of netlink.
type Source[E any] interface {
	Run(ctx context.Context) error
	Next(ctx context.Context) (E, error)
}

// A Running is a source under test.
type Running[E any] struct {
	source Source[E]
	T      testing.TB
	cancel context.CancelFunc
	ended  chan error
}

// Start runs s until the test ends or Stop is called.
func Start[E any](t testing.TB, s Source[E]) *Running[E] {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Running[E]{source: s, T: t, cancel: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- s.Run(ctx) }()
	t.Cleanup(r.Stop)
	return r
}

// Stop ends it, without an error.
func (r *Running[E]) Stop() {
	r.T.Helper()
	if r.cancel == nil {
		return
	}
	r.cancel()
	r.cancel = nil
	select {
	case err := <-r.ended:
		if err != nil {
			r.T.Errorf("Run: %v", err)
		}
	case <-time.After(Patience):
		r.T.Error("Run does not end")
	}
}

// Any waits for the next event.
func (r *Running[E]) Any() E {
	r.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	e, err := r.source.Next(ctx)
	if err != nil {
		r.T.Fatalf("no event: %v", err)
	}
	return e
}
