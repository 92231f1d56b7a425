package main

import (
	"context"
	"sync/atomic"
	"time"
)

// tidyAfter is for how long a phone has stood by when it is tidied: what a registration
// or the end of a call still brings is over by then.
const tidyAfter = 300 * time.Millisecond

// A tidier has garbage collected while the phone stands by. A start leaves three megabytes,
// of which less than one is in use, and Go collects at four: in the middle of the first call,
// where that takes two to three milliseconds of two processors, between the dial and the
// ringing. Calls leave some, too.
type tidier struct {
	collect func()
	left    chan struct{} // holds one when something is left
	idle    atomic.Bool
}

func newTidier(collect func()) *tidier {
	return &tidier{collect: collect, left: make(chan struct{}, 1)}
}

// in is told of each state of the phone.
func (t *tidier) in(standby bool) {
	t.idle.Store(standby)
	if !standby {
		return
	}
	select {
	case t.left <- struct{}{}:
	default:
	}
}

// run tidies until ctx is done.
func (t *tidier) run(ctx context.Context) {
	wait := time.NewTimer(tidyAfter)
	defer wait.Stop()
	for {
		select {
		case <-t.left:
		case <-ctx.Done():
			return
		}
		wait.Reset(tidyAfter)
		select {
		case <-wait.C:
		case <-ctx.Done():
			return
		}
		select {
		case <-t.left: // it is the same
		default:
		}
		if t.idle.Load() { // else it is after what goes on now
			t.collect()
		}
	}
}
