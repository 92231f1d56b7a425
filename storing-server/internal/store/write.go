package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flexphone/registry-client/wire"
)

// An operation is a change that waits for the next batch.
type operation struct {
	plan  func(*view) error
	done  func(error) // called once, and must not wait
	begun time.Time
	parts []int // that its last plan depends on
}

// A fate is what became of an operation; without one, it is what has changed.
type fate struct {
	op      *operation
	err     error
	touched []wire.Query
}

// answer tells who waits for a batch what became of it, and then who observes,
// while the next one is on its way to the disk.
func (s *Store) answer() {
	for batch := range s.fates {
		for _, f := range batch {
			if f.op != nil {
				f.op.done(f.err)
			}
		}
		for _, f := range batch {
			s.tell(f.touched)
		}
	}
}

// do makes one change.
func (s *Store) do(ctx context.Context, plan func(*view) error) error {
	if err := s.room(); err != nil {
		return err
	}
	return s.turn(ctx, plan)
}

func (s *Store) room() error {
	if s.opts.NATS != "" {
		return nil
	}
	if err := s.disk.room(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// begin is do that does not wait.
func (s *Store) begin(plan func(*view) error, then func(error)) {
	if err := s.room(); err != nil {
		then(err)
		return
	}
	select {
	case s.queue <- &operation{plan: plan, done: then, begun: time.Now()}:
	default:
		then(fmt.Errorf("store: wait for a turn: %w: too many wait", ErrUnavailable))
	}
}

// turn runs plan in the goroutine that changes rows, and waits until what it
// changes is on the disk.
func (s *Store) turn(ctx context.Context, plan func(*view) error) error {
	done := make(chan error, 1)
	op := &operation{plan: plan, done: func(err error) { done <- err }, begun: time.Now()}
	timer := time.NewTimer(turnMost)
	defer timer.Stop()
	select {
	case s.queue <- op:
	case <-timer.C:
		return fmt.Errorf("store: wait for a turn: %w: too many wait", ErrUnavailable)
	case <-ctx.Done():
		return fmt.Errorf("store: wait for a turn: %w: %w", ErrUnavailable, ctx.Err())
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		// It may still be written; the caller asks again.
		return fmt.Errorf("store: wait for the disk: %w: %w", ErrUnavailable, ctx.Err())
	}
}

// now is the moment of a change, to the millisecond, as the disk keeps it.
func (s *Store) now() time.Time { return s.opts.Now().Truncate(time.Millisecond) }

// write is the one goroutine that changes rows. What comes while a batch is
// on its way to the disk makes the next one.
func (s *Store) write(ctx context.Context) {
	lowest := s.opts.Numbers.First
	var again []*operation
	for {
		v := newView(s.table, s.now(), &lowest)
		v.parts, v.spread = len(s.stream.parts), s.opts.NATS != ""
		var planned []*operation
		for _, op := range again {
			planned = v.plan(planned, op)
		}
		if len(planned) == 0 {
			select {
			case op := <-s.queue:
				v.now = s.now()
				planned = v.plan(planned, op)
			case <-ctx.Done():
				return
			}
		}
		// What changes nothing, since it was written before, waits with the others.
		for more := true; more && v.size()+operationMost <= batchMost && len(planned) < batchMost; {
			select {
			case op := <-s.queue:
				v.now = s.now()
				planned = v.plan(planned, op)
			default:
				more = false
			}
		}
		again = s.commit(ctx, v, planned)
	}
}

// plan lets op make its changes. A refusal is answered at once; otherwise op
// joins those that wait for the disk.
func (v *view) plan(waiting []*operation, op *operation) []*operation {
	v.touched = nil
	if err := op.plan(v); err != nil {
		op.done(err)
		return waiting
	}
	op.parts = v.touched
	return append(waiting, op)
}

// commit brings v to the disk, and passes on what became of it. It returns the operations that must be planned again, since another server
// has changed what they were planned upon, or the cluster has lost them.
func (s *Store) commit(ctx context.Context, v *view, waiting []*operation) (again []*operation) {
	start := time.Now()
	early, late, err := v.messages()
	if err == nil && len(v.events) > 0 {
		err = s.opts.Audit(v.events)
	}
	failed := make([]error, len(s.stream.parts))
	var touched []wire.Query
	for _, round := range [][][]message{early, late} {
		if err == nil {
			touched = append(touched, s.commitRound(ctx, round, failed)...)
			err = errors.Join(failed...)
		}
	}
	if err != nil && len(v.events) > 0 {
		s.undone(v.events)
	}
	fates := make([]fate, 0, len(waiting)+1)
	for _, op := range waiting {
		what := s.fate(op, failed, err)
		if what != nil && s.passes(what) && time.Since(op.begun) < againMost {
			again = append(again, op)
			continue
		}
		if what != nil {
			what = fmt.Errorf("%w: %w", ErrUnavailable, what)
		}
		fates = append(fates, fate{op: op, err: what})
	}
	s.fates <- append(fates, fate{touched: touched})
	if err != nil {
		if !s.passes(err) {
			s.opts.Log.Error("rows not written", "rows", v.size(), "err", err)
		}
		s.tell(append(s.reread(ctx, early), s.reread(ctx, late)...))
	} else if v.size() > 0 {
		s.opts.Committed(v.size(), time.Since(start))
	}
	return again
}

// undone says in the audit log that the events were perhaps not written.
func (s *Store) undone(events []Event) {
	var out []Event
	for _, e := range events {
		out = append(out, Event{Event: EventRefusedByDisk, MAC: e.MAC, By: e.Event})
	}
	if err := s.opts.Audit(out); err != nil {
		s.opts.Log.Error("audit log not written", "err", err)
	}
}

// tell hands changes to who observes, and to who waits for expiries.
func (s *Store) tell(touched []wire.Query) {
	if len(touched) == 0 {
		return
	}
	s.opts.Changed(touched)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
