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
	still bool // plan when nothing is on its way to the disk or to the table
	// Of its last plan: what it depends on, and its error, if it was refused.
	parts   []int
	refused error
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
	by := actorOf(ctx)
	return s.turn(ctx, &operation{plan: func(v *view) error {
		v.by = by
		return plan(v)
	}})
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

// turn runs op's plan in the goroutine that changes rows, and waits until what
// it changes is on the disk.
func (s *Store) turn(ctx context.Context, op *operation) error {
	done := make(chan error, 1)
	op.done, op.begun = func(err error) { done <- err }, time.Now()
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

// A flight is a view on its way to the disk, with the operations that wait for
// it there.
type flight struct {
	view        *view
	waiting     []*operation
	begun       time.Time
	early, late [][]message
	landed      chan struct{} // closed when what follows is known
	placed      []placement
	failed      []error // by partition
	err         error
}

// A placement is messages that are on the disk, the first of them at first.
type placement struct {
	part  int
	ms    []message
	first uint64
}

// write is the one goroutine that changes rows. What comes while a batch is
// on its way to the disk makes the next one: it is planned meanwhile, upon what
// that batch will leave, and sent as soon as that has landed.
func (s *Store) write(ctx context.Context) {
	lowest := s.opts.Numbers.First
	var again []*operation
	var air *flight
	for ctx.Err() == nil || air != nil {
		v, planned, still := s.gather(ctx, air, again, &lowest)
		again = nil
		var next *flight
		if air != nil && air.err != nil {
			again = planned // it was planned upon what is not there
		} else if len(planned) > 0 {
			next = s.send(ctx, v, planned)
		}
		if air != nil {
			again = append(s.land(ctx, air), again...)
		}
		if air = next; air != nil && (still != nil || !s.engine.alone()) {
			<-air.landed
			again, air = append(s.land(ctx, air), again...), nil
		}
		if still != nil {
			still.done(still.plan(newView(s.table, s.now(), &lowest)))
		}
	}
	for _, op := range again {
		op.done(fmt.Errorf("store: wait for the disk: %w: the server stops", ErrUnavailable))
	}
}

// gather plans operations, those of again first, until air has landed; without
// one it waits for the first that comes, and takes what else is there. It ends
// with the first that is to be planned when all is still, and returns that one.
func (s *Store) gather(ctx context.Context, air *flight, again []*operation, lowest *int) (v *view, planned []*operation, still *operation) {
	v = newView(s.table, s.now(), lowest)
	v.parts, v.spread = s.engine.partitions(), s.opts.NATS != ""
	landed := make(chan struct{})
	if air != nil {
		v.under, v.given, landed = air.view, air.view.given, air.landed
	}
	take := func(op *operation) {
		if op.still {
			still = op
			return
		}
		v.now = s.now()
		planned = v.plan(planned, op)
	}
	for _, op := range again {
		take(op)
	}
	if air == nil && len(planned) == 0 {
		select {
		case op := <-s.queue:
			take(op)
		case <-ctx.Done():
			return v, nil, nil
		}
	}
	// What changes nothing, since it was written before, waits with the others.
	for most := s.engine.batchMost(); still == nil && v.size()+operationMost <= most && len(planned) < most && ctx.Err() == nil; {
		select {
		case op := <-s.queue:
			take(op)
			continue
		default:
		}
		if air == nil {
			return v, planned, nil
		}
		select {
		case op := <-s.queue:
			take(op)
		case <-landed:
			return v, planned, nil
		}
	}
	if air != nil {
		<-landed
	}
	return v, planned, still
}

// plan lets op make its changes, and lets it wait for the disk with the others.
// So does a refusal: what it was given for may not be there yet, nor come there.
func (v *view) plan(waiting []*operation, op *operation) []*operation {
	v.touched = nil
	op.refused = op.plan(v)
	op.parts = v.touched
	return append(waiting, op)
}

// send puts v on its way to the disk.
func (s *Store) send(ctx context.Context, v *view, waiting []*operation) *flight {
	f := &flight{view: v, waiting: waiting, begun: time.Now(), failed: make([]error, s.engine.partitions()), landed: make(chan struct{})}
	v.under = nil // that has landed
	f.early, f.late = v.messages()
	if len(v.events) > 0 {
		f.err = s.opts.Audit(v.events)
	}
	s.done.Go(func() {
		defer close(f.landed)
		for _, round := range [][][]message{f.early, f.late} {
			if f.err == nil {
				s.commitRound(ctx, round, f)
				f.err = errors.Join(f.failed...)
			}
		}
	})
	return f
}

// land brings what has landed into the table, and passes on what became of it.
// It returns the operations that must be planned again, since another server
// has changed what they were planned upon, or the cluster has lost them.
func (s *Store) land(ctx context.Context, f *flight) (again []*operation) {
	touched := make([]wire.Query, 0, touchedEach*f.view.size())
	for _, p := range f.placed {
		touched = s.table.place(touched, p.ms, p.first)
		s.acknowledged(p.part, p.first+uint64(len(p.ms))-1)
	}
	if f.err != nil && len(f.view.events) > 0 {
		s.undone(f.view.events)
	}
	fates := make([]fate, 0, len(f.waiting)+1)
	for _, op := range f.waiting {
		what := s.fate(op, f.failed, f.err)
		if what != nil && s.passes(what) && time.Since(op.begun) < againMost {
			again = append(again, op)
			continue
		}
		if what != nil {
			what = fmt.Errorf("%w: %w", ErrUnavailable, what)
		} else {
			what = op.refused
		}
		fates = append(fates, fate{op: op, err: what})
	}
	s.fates <- append(fates, fate{touched: touched})
	if f.err != nil {
		if !s.passes(f.err) {
			s.opts.Log.Error("rows not written", "rows", f.view.size(), "err", f.err)
		}
		s.tell(s.learn(ctx, f))
	} else if f.view.size() > 0 {
		s.opts.Committed(f.view.size(), time.Since(f.begun))
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
