package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/netlink"
)

// A fixedSource tells one event, after a while.
type fixedSource struct {
	after time.Duration
	told  bool
}

// Run implements netlink.Source.
func (*fixedSource) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Next implements netlink.Source.
func (s *fixedSource) Next(ctx context.Context) (netlink.Event, error) {
	if s.told {
		<-ctx.Done()
		return netlink.Event{}, ctx.Err()
	}
	s.told = true
	time.Sleep(s.after)
	return netlink.Event{Kind: netlink.Bound}, nil
}

// The agent runs before what follows it is made: what it tells meanwhile begins the rest
// of the phone, and waits; a phone that is ended before waits for nothing.
func TestAgentBeforeTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const soon = 3 * time.Millisecond
		a := &agent{granted: newHeadStart(), first: newHeadStart()}
		ctx, end := context.WithCancel(t.Context())
		works, ended := 0, make(chan struct{})
		begun := time.Now()
		go func() {
			defer close(ended)
			a.follow(ctx, ctx, &fixedSource{after: soon}, func() { works++ })
		}()
		for name, head := range map[string]*headStart{"granted": a.granted, "first": a.first} {
			if <-head.over; time.Since(begun) != soon {
				t.Errorf("%s is over after %v; want %v", name, time.Since(begun), soon)
			}
		}
		synctest.Wait()
		if works != 1 {
			t.Errorf("works was told %d times", works)
		}
		select {
		case <-ended:
			t.Error("the event was dropped")
		default:
		}
		end()
		<-ended
	})
}
