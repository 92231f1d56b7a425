package store

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// replay gives all newest messages of partition part that stand after the
// place of after to apply, in the stream's order, then calls caughtUp once, and
// goes on with each new message until ctx is done. Without follow it returns
// when it has caught up.
func (s *stream) replay(ctx context.Context, part int, after uint64, follow bool, apply func(subject string, data []byte, seq uint64) error, caughtUp func()) error {
	last, err := s.lastAfter(ctx, part, after, follow)
	if err != nil {
		return err
	}
	caught := last <= after
	if caught {
		caughtUp()
		if !follow {
			return nil
		}
	}
	consumer, err := s.parts[part].OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
	})
	if err != nil {
		return fmt.Errorf("store: read stream: %w", err)
	}
	take := func(m jetstream.Msg) (over bool, err error) {
		meta, err := m.Metadata()
		if err != nil {
			return true, fmt.Errorf("store: read stream: %w", err)
		}
		if err := apply(s.bare(part, m.Subject()), m.Data(), meta.Sequence.Stream); err != nil {
			return true, err
		}
		if !caught && meta.Sequence.Stream >= last {
			caught = true
			caughtUp()
		}
		return caught && !follow, nil
	}
	r := reading{ended: make(chan error, 1)}
	// By callback: a million messages take a second less than by asking for each.
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		r.do(func() (bool, error) { return take(m) })
	}, jetstream.PullMaxMessages(4096), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		r.do(func() (bool, error) { return true, fmt.Errorf("store: read stream: %w", err) })
	}))
	if err != nil {
		return fmt.Errorf("store: read stream: %w", err)
	}
	defer consuming.Stop()
	return r.wait(ctx)
}

// A reading does one thing at a time, and nothing after its end.
type reading struct {
	mu    sync.Mutex
	over  bool
	ended chan error // has room for one
}

// do calls f, which says whether that is the end and why, unless there was one.
func (r *reading) do(f func() (over bool, err error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	var err error
	if r.over, err = f(); r.over {
		r.ended <- err
	}
}

// wait returns the error of the end, or makes one when ctx is done.
func (r *reading) wait(ctx context.Context) error {
	select {
	case err := <-r.ended:
		return err
	case <-ctx.Done():
		r.mu.Lock()
		defer r.mu.Unlock()
		r.over = true
		return ctx.Err()
	}
}

// lastAfter returns the place of the message of partition part with which a replay
// of those after a place has caught up. It is that place or one before it where
// there is none.
func (s *stream) lastAfter(ctx context.Context, part int, after uint64, follow bool) (uint64, error) {
	info, err := s.parts[part].Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("store: read stream: %w", err)
	}
	switch {
	case info.State.Msgs == 0:
		return after, nil
	case follow || info.State.LastSeq <= after:
		return info.State.LastSeq, nil
	}
	return s.newest(ctx, part)
}

// newest returns the place of the newest message of partition part that can be
// read. In a folder that was damaged it is not the one that the stream's state
// says: whoever waited for that would wait for ever.
func (s *stream) newest(ctx context.Context, part int) (uint64, error) {
	info, err := s.parts[part].Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("store: read stream: %w", err)
	}
	last := info.State.LastSeq
	there := func(place uint64, opts ...jetstream.GetMsgOpt) bool {
		_, e := s.parts[part].GetMsg(ctx, place, opts...)
		if e != nil && !errors.Is(e, jetstream.ErrMsgNotFound) {
			err = fmt.Errorf("store: read stream: %w", e)
		}
		return e == nil
	}
	if info.State.Msgs > 0 && !there(last) {
		orLater := jetstream.WithGetMsgSubject(">")
		last = uint64(sort.Search(int(last), func(i int) bool { return !there(uint64(i)+1, orLater) }))
	}
	return last, err
}
