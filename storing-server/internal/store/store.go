// Package store keeps the rows: MAC to address, durable, with compare-and-set.
//
// It knows who owns a row, which announcement is newer, when a row expires,
// and who has which short number. It refuses to know CoAP, DTLS and HTTP.
//
// # Why
//
// NATS JetStream runs in this process and syncs each batch to the disk before
// it acknowledges it; the same code works against a cluster. Lookups are
// answered from a table in memory, which holds what the stream holds. All
// changes pass through one goroutine, which checks them against the table and
// commits what came together as one atomic batch: the disk is synced once for
// up to 900 of them.
//
// A row is never deleted by its expiry: owner and number stay, and the state
// follows from the expiry at the moment of asking. So nothing is written when
// a phone vanishes, and all servers of a cluster say the same.
package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"flexphone/registry-client/wire"
)

// Options say how a Store works.
type Options struct {
	Dir     string  // of the data; made if it is missing
	NATS    string  // URL of a cluster; empty: in this process
	Numbers Numbers // to give out
	// Changed is called with the queries whose answers have changed, after
	// those who changed them were answered. It must not block, and is called
	// from more than one goroutine.
	Changed func([]wire.Query)
	// Committed is called after each batch, for metrics. It may be nil.
	Committed func(rows int, took time.Duration)
	Log       *slog.Logger
}

// ErrUnavailable: it could not be written; nothing is promised about it.
var ErrUnavailable = errors.New("the rows cannot be written now")

// ErrLocked: another process uses the data folder.
var ErrLocked = errors.New("the data folder is in use by another storing-server")

const (
	queueLength = 4096
	// operationMost is how many messages one operation makes at the most.
	operationMost = 3
)

// A Store holds the rows. It is safe for concurrent use.
type Store struct {
	opts   Options
	table  *table
	stream *stream
	lock   *os.File
	queue  chan *operation
	wake   chan struct{} // one slot: expiries have changed
	stop   context.CancelFunc
	done   sync.WaitGroup
}

// An operation is a change that waits for the next batch.
type operation struct {
	plan func(*view) error
	done chan error // one slot
}

// Open reads the rows of dir and begins to serve them. ctx bounds the opening
// alone.
func Open(ctx context.Context, opts Options) (*Store, error) {
	if opts.Changed == nil {
		opts.Changed = func([]wire.Query) {}
	}
	if opts.Committed == nil {
		opts.Committed = func(int, time.Duration) {}
	}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: make data folder: %w", err)
	}
	lock, err := lockDir(opts.Dir)
	if err != nil {
		return nil, err
	}
	st, err := openStream(ctx, filepath.Join(opts.Dir, "nats"), opts.NATS, opts.Log)
	if err != nil {
		lock.Close()
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Store{
		opts: opts, table: newTable(), stream: st, lock: lock,
		queue: make(chan *operation, queueLength), wake: make(chan struct{}, 1), stop: stop,
	}
	if err := s.load(ctx, running); err != nil {
		s.Close()
		return nil, err
	}
	s.done.Go(func() { s.write(running) })
	s.done.Go(func() { s.expire(running) })
	return s, nil
}

// lockDir keeps a second process off the same files.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: lock data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("store: lock %s: %w", dir, ErrLocked)
	}
	return f, nil
}

// load fills the table. Against a cluster it goes on to follow what other
// servers write, until running is done.
func (s *Store) load(ctx, running context.Context) error {
	follow := s.opts.NATS != ""
	ready := make(chan struct{})
	ended := make(chan error, 1)
	loading := true
	s.done.Go(func() {
		ended <- s.stream.replay(running, follow, func(subject string, data []byte, seq uint64) error {
			touched, err := s.table.apply(subject, data, seq)
			if err == nil && !loading {
				s.tell(touched)
			}
			return err
		}, func() { loading = false; close(ready) })
	})
	select {
	case <-ready:
		return nil
	case err := <-ended:
		if err == nil {
			return nil
		}
		return err
	case <-ctx.Done():
		return fmt.Errorf("store: read rows: %w", ctx.Err())
	}
}

// Close stops serving. What was acknowledged is on the disk already.
func (s *Store) Close() {
	s.stop()
	s.done.Wait()
	s.stream.close()
	s.lock.Close()
}

// Register stores an announcement made with key. When it returns nil, the row
// is on the disk. created is true for a MAC that was not known before.
func (s *Store) Register(ctx context.Context, key wire.Fingerprint, r wire.Registration) (row wire.Row, created bool, err error) {
	if err := r.Validate(); err != nil {
		return wire.Row{}, false, err
	}
	err = s.do(ctx, func(v *view) error {
		var err error
		if created, err = v.register(key, r, s.opts.Numbers); err != nil {
			return err
		}
		rec, _ := v.row(r.MAC)
		row = rec.row(v.now)
		return nil
	})
	if err != nil {
		return wire.Row{}, false, err
	}
	return row, created, nil
}

// Release takes a phone off the net, for the owner of its row.
func (s *Store) Release(ctx context.Context, key wire.Fingerprint, w wire.Withdrawal) error {
	if err := w.Validate(); err != nil {
		return err
	}
	return s.do(ctx, func(v *view) error { return v.release(key, w) })
}

// SetNumber gives mac the short number digits, and frees the one it had.
func (s *Store) SetNumber(ctx context.Context, mac wire.MAC, digits string) error {
	if !wire.ValidNumber(digits) {
		return fmt.Errorf("store: give %q to %v: want %d to %d digits: %w", digits, mac, wire.MinNumber, wire.MaxNumber, wire.ErrInvalid)
	}
	return s.do(ctx, func(v *view) error { return v.assign(mac, digits) })
}

// Forget deletes mac's row: the next key that announces it owns it.
func (s *Store) Forget(ctx context.Context, mac wire.MAC) error {
	return s.do(ctx, func(v *view) error { return v.forget(mac) })
}

// Resolve returns the row that q asks for. By a short number that is not given
// out, a MAC that was never registered or an address that nobody has, ok is
// false.
func (s *Store) Resolve(q wire.Query) (row wire.Row, ok bool) {
	return s.table.find(q, time.Now())
}

// Rows yields all rows, ordered by MAC.
func (s *Store) Rows() iter.Seq[wire.Row] { return s.table.all(time.Now()) }

// Size returns how many rows there are.
func (s *Store) Size() int { return s.table.size() }

func (s *Store) do(ctx context.Context, plan func(*view) error) error {
	op := &operation{plan: plan, done: make(chan error, 1)}
	select {
	case s.queue <- op:
	case <-ctx.Done():
		return fmt.Errorf("store: wait for a turn: %w: %w", ErrUnavailable, ctx.Err())
	}
	select {
	case err := <-op.done:
		return err
	case <-ctx.Done():
		// It may still be written; the caller asks again.
		return fmt.Errorf("store: wait for the disk: %w: %w", ErrUnavailable, ctx.Err())
	}
}

// write is the one goroutine that changes rows. What comes while a batch is
// on its way to the disk makes the next one.
func (s *Store) write(ctx context.Context) {
	lowest := s.opts.Numbers.First
	for {
		v := newView(s.table, time.Now(), &lowest)
		var planned []*operation
		select {
		case op := <-s.queue:
			v.now = time.Now()
			planned = v.plan(planned, op)
		case <-ctx.Done():
			return
		}
		for more := true; more && v.size()+operationMost <= batchMost; {
			select {
			case op := <-s.queue:
				planned = v.plan(planned, op)
			default:
				more = false
			}
		}
		s.commit(ctx, v, planned)
	}
}

// plan lets op make its changes. A refusal is answered at once; otherwise op
// joins those that wait for the disk.
func (v *view) plan(waiting []*operation, op *operation) []*operation {
	if err := op.plan(v); err != nil {
		op.done <- err
		return waiting
	}
	return append(waiting, op)
}

// commit brings v to the disk, answers who waits, and then tells who observes.
func (s *Store) commit(ctx context.Context, v *view, waiting []*operation) {
	ms, err := v.messages()
	start := time.Now()
	var first uint64
	if err == nil && len(ms) > 0 {
		first, err = s.stream.commit(ctx, ms)
	}
	var touched []wire.Query
	if err == nil {
		for i, m := range ms {
			// Our own messages are well-formed.
			qs, _ := s.table.apply(m.subject, m.data, first+uint64(i))
			touched = append(touched, qs...)
		}
	}
	if err != nil {
		s.opts.Log.Error("rows not written", "rows", len(ms), "err", err)
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	for _, op := range waiting {
		op.done <- err
	}
	if err != nil {
		s.tell(s.reread(ctx, ms))
		return
	}
	if len(ms) > 0 {
		s.opts.Committed(len(ms), time.Since(start))
		s.tell(touched)
	}
}

// messages returns v's changes as the stream takes them.
func (v *view) messages() ([]message, error) {
	out := make([]message, 0, v.size())
	for mac, c := range v.rows {
		m := message{subject: rowSubject(mac), base: c.base}
		if c.to != nil {
			var err error
			if m.data, err = c.to.encode(); err != nil {
				return nil, err
			}
		}
		out = append(out, m)
	}
	for digits, c := range v.numbers {
		m := message{subject: numberSubject(digits), base: c.base}
		if c.to != (wire.MAC{}) {
			m.data = append([]byte(nil), c.to[:]...)
		}
		out = append(out, m)
	}
	return out, nil
}

// reread brings the table back to what the stream holds, after a batch whose
// fate is not known. Nothing else is written before that has succeeded.
func (s *Store) reread(ctx context.Context, ms []message) (touched []wire.Query) {
	for _, m := range ms {
		for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
			data, seq, found, err := s.stream.read(ctx, m.subject)
			if err == nil && found {
				var qs []wire.Query
				if qs, err = s.table.apply(m.subject, data, seq); err == nil {
					touched = append(touched, qs...)
				}
			}
			if err == nil {
				break
			}
			s.opts.Log.Error("row not read again", "subject", m.subject, "retry", wait, "err", err)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return touched
			}
		}
	}
	return touched
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

// expire tells who observes when rows go offline by themselves.
func (s *Store) expire(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.wake:
		case <-ctx.Done():
			return
		}
		touched, next := s.table.expired(time.Now())
		if len(touched) > 0 {
			s.opts.Changed(touched)
		}
		if next.IsZero() {
			timer.Stop()
			continue
		}
		timer.Reset(time.Until(next))
	}
}
