// Package parts keeps a phone's parts working.
//
// It knows that a part may fail, panic or be missing, for a while or for good:
// each is run until it is told to end, tells of what went wrong once, and is run
// again after a pause that grows. It refuses to know what a part does, and how
// failures are shown.
//
// # Why
//
// A telephone without a sound card rings by its lamp, one without a storing server
// calls by address, and one whose data folder is full works until the power is
// gone. None of them is of use if the program ends with its weakest part. What is
// left for a restart of the whole program is what cannot be contained: a goroutine
// that is not started here and panics, a fatal error of the Go runtime, a deadlock.
// The first two leave their report by way of debug.SetCrashOutput, the third is the
// watchdog's.
package parts

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// The pause before a part is run again: a second at first, so that a part which
// cannot work costs nothing, and half a minute at most, since a person who has
// plugged something in again waits for it.
const (
	pauseFirst = time.Second
	pauseMost  = 30 * time.Second
)

// A Teller is told what becomes of parts, in order. Its methods may block: no part
// waits for them, since the Teller may be made of parts itself.
type Teller interface {
	// PartFailed is called when a part fails, and when it fails for another reason
	// than the last time; not each time that it is tried in vain.
	PartFailed(ctx context.Context, part string, err error)
	// PartWorks is called when a part that has failed works again.
	PartWorks(ctx context.Context, part string)
}

// A Keeper runs parts. The zero value is not usable.
type Keeper struct {
	teller Teller
	report func(Panic)

	wake   chan struct{} // one slot
	mu     sync.Mutex
	broken []fault
	untold []telling
}

// A telling is what the Teller is to be told: of a failure, or, without err, that
// the part works again.
type telling struct {
	part string
	err  error
}

// A fault is a part that does not work, and why. One that was found before the
// parts were run lasts.
type fault struct {
	part, why string
	lasts     bool
}

// New returns a Keeper of no parts. report is called with each panic, from the
// goroutine that panicked.
func New(teller Teller, report func(Panic)) *Keeper {
	return &Keeper{teller: teller, report: report, wake: make(chan struct{}, 1)}
}

// A Panic is one that was contained. It is an error.
type Panic struct {
	What  string // the part or the call that it has ended
	Value any    // as it was given to panic
	Stack []byte // of the goroutine
}

// Error implements error.
func (p Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// Text is what a report says: the same first line as a crash of the program has.
func (p Panic) Text() string {
	return fmt.Sprintf("panic: %v\n\ncontained: it has ended the %s, and nothing else\n\n%s", p.Value, p.What, p.Stack)
}

// Keep runs a part until ctx is done, and returns then. run returns when ctx is
// done or when the part fails; it calls works once the part does its work. A run
// that worked and returns nil is followed by another at once: something that the
// part is made of has changed.
func (k *Keeper) Keep(ctx context.Context, part string, run func(ctx context.Context, works func()) error) {
	pause := pauseFirst
	for {
		worked := time.Time{}
		err := k.Contain(part, func() error {
			return run(ctx, func() {
				worked = time.Now()
				k.Works(part)
			})
		})
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && !worked.IsZero():
			continue
		case err == nil:
			err = errors.New("it ended before it worked")
		}
		k.Failed(ctx, part, err)
		if !worked.IsZero() && time.Since(worked) >= pauseMost {
			pause = pauseFirst
		}
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, pauseMost)
	}
}

// Contain calls f. A panic in it is reported, and returned as the error.
func (k *Keeper) Contain(part string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			p := Panic{part, v, debug.Stack()}
			k.report(p)
			err = p
		}
	}()
	return f()
}

// Panicked reports a panic that was contained by somebody else.
func (k *Keeper) Panicked(what string, cause any, stack []byte) {
	k.report(Panic{what, cause, stack})
}

// Failed tells of a part that does not work. It is for parts that are kept by
// another than Keep.
func (k *Keeper) Failed(ctx context.Context, part string, err error) {
	if ctx.Err() != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := fault{part: part, why: err.Error()}
	if slices.Contains(k.broken, now) {
		return
	}
	k.broken = append(k.without(part), now)
	k.tell(telling{part, err})
}

// Found tells of what was found broken before the parts were run, such as a full
// disk that something smaller stands in for. It lasts, though a part of that name
// may work.
func (k *Keeper) Found(part string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.broken = append(k.broken, fault{part: part, why: err.Error(), lasts: true})
	k.tell(telling{part, err})
}

// Works tells of a part that works, which matters if it had failed.
func (k *Keeper) Works(part string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	left := k.without(part)
	if len(left) == len(k.broken) {
		return
	}
	k.broken = left
	if !slices.ContainsFunc(left, func(f fault) bool { return f.part == part }) {
		k.tell(telling{part: part})
	}
}

// tell has the Teller told; k.mu is held.
func (k *Keeper) tell(t telling) {
	k.untold = append(k.untold, t)
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Tell tells the Teller until ctx is done.
func (k *Keeper) Tell(ctx context.Context) {
	for ctx.Err() == nil {
		k.mu.Lock()
		untold := k.untold
		k.untold = nil
		k.mu.Unlock()
		for _, t := range untold {
			if t.err != nil {
				k.teller.PartFailed(ctx, t.part, t.err)
			} else {
				k.teller.PartWorks(ctx, t.part)
			}
		}
		select {
		case <-k.wake:
		case <-ctx.Done():
		}
	}
}

// without returns the faults of other parts, and those that last; k.mu is held.
func (k *Keeper) without(part string) []fault {
	return slices.DeleteFunc(slices.Clone(k.broken), func(f fault) bool { return f.part == part && !f.lasts })
}

// Broken returns the parts that do not work now, and why; and which of them
// failed last, empty when all work.
func (k *Keeper) Broken() (why map[string]string, last string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	why = map[string]string{}
	for _, f := range k.broken {
		why[f.part], last = f.why, f.part
	}
	return why, last
}

// sleep reports whether d passed before ctx was done.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
