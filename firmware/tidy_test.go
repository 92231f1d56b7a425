package main

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What a start and each call leave is collected once, while the phone stands by, and not
// while it is used.
func TestTidiedWhileNothingGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		collected := 0
		tidy := newTidier(func() { collected++ })
		ctx, end := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { tidy.run(ctx) })
		for _, step := range []struct {
			standby bool
			lasts   time.Duration
			want    int
		}{
			{true, tidyAfter - 1, 0}, {true, 2, 1}, {true, time.Hour, 2}, // as after a start; the second is not lost
			{false, time.Hour, 2}, {true, time.Hour, 3}, // a call
			{false, time.Hour, 3}, {true, tidyAfter / 2, 3}, {false, time.Hour, 3}, {true, time.Hour, 4}, // two, one soon after the other
		} {
			tidy.in(step.standby)
			time.Sleep(step.lasts)
			synctest.Wait()
			if collected != step.want {
				t.Errorf("after standby %v for %v it was collected %d times; want %d", step.standby, step.lasts, collected, step.want)
			}
		}
		end()
		running.Wait()
	})
}
