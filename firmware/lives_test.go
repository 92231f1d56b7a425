package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// The rest of the phone begins with the first news of the address; without any it
// begins soon, and never when the phone is ended before.
func TestHeadStart(t *testing.T) {
	for _, tt := range []struct {
		name  string
		do    func(first *headStart, end context.CancelFunc)
		begun time.Duration // -1: never
	}{
		{"an address", func(first *headStart, _ context.CancelFunc) { first.end(); first.end() }, 3 * time.Millisecond},
		{"no network", func(*headStart, context.CancelFunc) {}, addressFirst},
		{"switched off", func(_ *headStart, end context.CancelFunc) { end() }, -1},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, end := context.WithCancel(t.Context())
			defer end()
			start, begun := time.Now(), time.Duration(-1)
			first := newHeadStart()
			ended := make(chan error)
			go func() {
				ended <- first.then(func(context.Context, func()) error {
					begun = time.Since(start)
					return nil
				})(ctx, func() {})
			}()
			time.Sleep(3 * time.Millisecond)
			tt.do(first, end)
			if err := <-ended; begun != tt.begun || errors.Is(err, context.Canceled) != (tt.begun < 0) {
				t.Errorf("%s: begun after %v, %v; want %v", tt.name, begun, err, tt.begun)
			}
		})
	}
}
