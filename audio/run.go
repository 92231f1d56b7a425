package audio

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// linger is how long a device goes on when there is nothing more to hear: for
	// what it has not played yet, and for the next key.
	linger = 2 * time.Second
	// look is how often a device that should tick is looked at, and deadAfter how
	// often in a row it was found standing still when it is given up. It is not
	// judged by the time alone: where the whole machine stood still, both who
	// looks and the device are late.
	look      = 100 * time.Millisecond
	deadAfter = 3
	// firstPause and longestPause are between two attempts to open a device.
	firstPause   = 500 * time.Millisecond
	longestPause = 30 * time.Second
	// sound for so long is taken for a device that works.
	works = 2 * time.Second
	// opening is how long a device that is opened may keep silent about it.
	opening = 10 * time.Second
	// closing is how long the end of a device that failed is waited for.
	closing = 2 * time.Second
	// abandonedMost is how many devices may hang at a time. There is nothing that
	// ends a call into a driver.
	abandonedMost = 3
)

var (
	errIdle       = errors.New("nothing to hear")
	errOther      = errors.New("another device is wanted")
	errStandstill = errors.New("device stands still")
	errSlow       = errors.New("opening takes long")
	errAbandoned  = errors.New("too many devices hang")
)

// Run ticks until ctx is done, and returns its error: with a device where there
// is one, by the system's clock where there is none, and not at all while there
// is nothing to hear. It does not allocate while it ticks. report is told why
// there is no device, as often as that changes, and nil when there is one again;
// it must not block.
func (e *Engine) Run(ctx context.Context, report func(error)) error {
	r := &runner{engine: e, report: report, pause: firstPause}
	for ctx.Err() == nil {
		rings := r.rings()
		d, err := r.openDevice(ctx, rings)
		if err == nil {
			err = r.play(ctx, d, rings)
		}
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, errOther) {
			continue
		}
		r.failed(err)
		if rings { // the other one rings in its place, at once
			r.mute = true
			continue
		}
		r.meanwhile(ctx, nil, r.pause)
		r.pause = min(2*r.pause, longestPause)
	}
	// Whoever is left behind now ends with the process.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing)
	defer cancel()
	r.meanwhile(end, r.left(), 0)
	return ctx.Err()
}

// A runner is the part of Run that outlives a device.
type runner struct {
	engine    *Engine
	report    func(error)
	pause     time.Duration // before the next attempt
	trouble   string        // as reported
	mute      bool          // the device that rings has failed, in this ring
	abandoned atomic.Int64  // devices and openings that hang
	others    sync.WaitGroup
}

// rings reports whether the device that rings is the one that is wanted.
func (r *runner) rings() bool {
	ringing := r.engine.ringing.Load()
	r.mute = r.mute && ringing
	return ringing && !r.mute
}

// left returns a channel that is closed when nothing of any device runs any more.
func (r *runner) left() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		r.others.Wait()
		close(done)
	}()
	return done
}

func (r *runner) failed(err error) {
	if r.trouble == err.Error() {
		return
	}
	r.trouble = err.Error()
	r.report(fmt.Errorf("audio: sound device: %w", err))
}

func (r *runner) worked() {
	if r.trouble != "" {
		r.trouble = ""
		r.report(nil)
	}
}

// openDevice opens the device. An opening that hangs is waited for: there are no
// two at a time.
func (r *runner) openDevice(ctx context.Context, rings bool) (Device, error) {
	if r.abandoned.Load() >= abandonedMost {
		return nil, errAbandoned
	}
	var d Device
	err := errors.New("opening ended")
	done := make(chan struct{})
	r.others.Go(func() {
		defer close(done)
		defer recoverTo(&err)
		open := r.engine.device
		if rings {
			open = r.engine.ringer
		}
		d, err = open()
		if err == nil && ctx.Err() != nil {
			d.Close() // nobody waits for it any more
		}
	})
	bounded, cancel := context.WithTimeout(ctx, opening)
	r.meanwhile(bounded, done, 0)
	cancel()
	select {
	case <-done:
	default:
		if ctx.Err() == nil {
			r.failed(errSlow)
			r.meanwhile(ctx, done, 0)
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return d, err
}

// recoverTo makes an error of a panic.
func recoverTo(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
	}
}

// meanwhile ticks by the system's clock until done is closed, d is over (0: never)
// or ctx is done. While there is nothing to hear it does not tick, and a d ends
// when something begins.
func (r *runner) meanwhile(ctx context.Context, done <-chan struct{}, d time.Duration) {
	e := r.engine
	var over <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		over = t.C
	}
	n := int(e.rate.Load()) / ticksPerSecond
	play, captured := make([]int16, n), make([]int16, n)
	clock := time.NewTimer(TickDuration)
	defer clock.Stop()
	due := time.Now().Add(TickDuration)
	for ctx.Err() == nil {
		if !e.busy() {
			if began := r.rest(ctx, done, over); !began || d > 0 {
				return
			}
			due = time.Now().Add(TickDuration)
			clock.Reset(TickDuration)
		}
		// A device that is there at once loses no tick to this clock.
		select {
		case <-clock.C:
		case <-done:
			return
		case <-over:
			return
		case <-ctx.Done():
			return
		}
		clear(captured)
		e.tick(play, captured, time.Now())
		due = due.Add(TickDuration)
		if late := time.Since(due); late > look {
			due = time.Now() // the machine stood still
		}
		clock.Reset(time.Until(due))
	}
}

// rest waits until something begins, and reports whether it did.
func (r *runner) rest(ctx context.Context, done <-chan struct{}, over <-chan time.Time) bool {
	e := r.engine
	e.resting.Store(true)
	defer e.resting.Store(false)
	for {
		select {
		case <-e.wake:
			if e.busy() {
				return true
			}
		case <-e.ask:
		case <-done:
			return false
		case <-over:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// play ticks with a device until it fails or ctx is done, and closes it.
func (r *runner) play(ctx context.Context, d Device, rings bool) error {
	e := r.engine
	e.retune(d.Rate())
	patience := deadAfter
	if p, ok := d.(Patient); ok {
		patience = max(patience, int(p.Patience()/look)+1)
	}
	for {
		err := r.work(ctx, d, patience, rings)
		if errors.Is(err, errIdle) {
			switch {
			case rings: // it has rung
				err = errOther
			case r.rest(ctx, nil, nil):
				if r.rings() == rings {
					continue
				}
				err = errOther
			default:
				err = ctx.Err()
			}
		}
		closed := make(chan struct{})
		r.others.Go(func() {
			defer close(closed)
			defer recoverTo(new(error))
			if err := d.Close(); err != nil {
				e.log.Warn("sound device not closed", "err", err)
			}
		})
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing)
		r.meanwhile(bounded, closed, 0)
		cancel()
		select {
		case <-closed:
		default:
			e.log.Warn("sound device hangs, and is left behind")
			r.abandoned.Add(1)
			r.others.Go(func() {
				<-closed
				r.abandoned.Add(-1)
			})
		}
		return err
	}
}

// Whose turn it is: that of the device, or that of the engine that ticks.
const (
	theirs = iota
	ours
	nobodys // the device was given up in its turn
)

// work lets a goroutine tick with the device until there is nothing to hear any
// more, or it fails, or it stands still.
func (r *runner) work(ctx context.Context, d Device, patience int, rings bool) error {
	e := r.engine
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var turn atomic.Uint32
	mute := r.mute // then this one rings, and plays all else
	ended := make(chan error, 1)
	r.others.Go(func() {
		err := errAbandoned
		defer func() { ended <- err }()
		defer recoverTo(&err)
		err = e.tickWith(ctx, d, &turn, func() bool { return e.ringing.Load() == rings || mute })
	})
	t := time.NewTicker(look)
	defer t.Stop()
	begin := e.progress.Load()
	for before, still := begin, 0; ; {
		select {
		case err := <-ended:
			return err
		case <-t.C:
		}
		now := e.progress.Load()
		if still++; now != before {
			before, still = now, 0
			r.worked()
			if now-begin > uint64(works/TickDuration) {
				r.pause = firstPause
			}
		}
		if still >= patience && turn.CompareAndSwap(theirs, nobodys) {
			return errStandstill
		}
	}
}

// tickWith is the one loop that runs while people talk.
// It ends when wanted says that this device is no more the one.
func (e *Engine) tickWith(ctx context.Context, d Device, turn *atomic.Uint32, wanted func() bool) error {
	n := d.Rate() / ticksPerSecond
	play, captured := make([]int16, n), make([]int16, n)
	counting, _ := d.(Counting)
	var gaps, lates uint64 // as counted already
	for idle := time.Duration(0); idle < linger; {
		err := d.Exchange(ctx, play, captured)
		if !turn.CompareAndSwap(theirs, ours) {
			return errStandstill
		}
		if err != nil {
			return err
		}
		if !wanted() {
			return errOther
		}
		e.tick(play, captured, time.Now())
		if counting != nil {
			g, l := counting.Underruns(), counting.Late()
			e.gaps.Add(g - min(gaps, g))
			e.lates.Add(l - min(lates, l))
			gaps, lates = g, l
		}
		turn.Store(theirs)
		if idle += TickDuration; e.busy() {
			idle = 0
		}
	}
	if err := d.Rest(); err != nil {
		return err
	}
	if !turn.CompareAndSwap(theirs, ours) {
		return errStandstill
	}
	return errIdle
}
