package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"flexphone/storing-server/internal/journal"
)

// An engine keeps the newest message of each subject, and brings a batch of them
// to the disk before it says so. stream is that of a cluster, local that of one
// machine.
type engine interface {
	// partitions returns among how many the messages are divided.
	partitions() int
	// batchMost returns how many messages a batch may have.
	batchMost() int
	// messages returns about how many there are, before they are read.
	messages() int
	// alone reports whether nobody else can write between two of our batches, so
	// that one can be planned before the other has landed.
	alone() bool
	// commit writes all of ms or none, as stream.commit does.
	commit(ctx context.Context, part int, ms []message, tail uint64) (first uint64, err error)
	// replay gives what stands after a place, as stream.replay does.
	replay(ctx context.Context, part int, after uint64, follow bool, apply func(subject string, data []byte, seq uint64) error, caughtUp func()) error
	// read returns the newest message of a subject that others may have written.
	read(ctx context.Context, part int, subject string) (data []byte, seq uint64, found bool, err error)
	// reach returns the newest place that can be read, and the newest there was.
	reach(ctx context.Context, part int) (readable, last uint64, err error)
	connected() bool
	close()
}

const (
	// renewTimes is how many times what is needed the files of the journal have
	// when they are written anew, beside renewLeast bytes: each message is then
	// written twice on the average.
	renewTimes = 2
	renewLeast = 16 << 20
	// messageSize is about what a message takes there, in bytes.
	messageSize = 150
)

// local is the engine of one machine: a journal in its data folder.
type local struct {
	dir     string
	book    *ledger
	log     *slog.Logger
	journal *journal.Journal // nil: not read yet
	state   journal.State
	subject recordEncoder
	ms      []journal.Message
	bodies  []byte

	files sync.Mutex // held while files are replaced, or all are looked at

	mu    sync.Mutex
	renew int64 // the size at which it is written anew
}

func newLocal(dir string, book *ledger, log *slog.Logger) *local {
	return &local{dir: dir, book: book, log: log}
}

func (l *local) partitions() int { return 1 }
func (l *local) batchMost() int  { return batchOwn }
func (l *local) alone() bool     { return true }
func (l *local) connected() bool { return true }

func (l *local) messages() int {
	size, err := journal.Size(l.dir)
	if err != nil {
		return 0
	}
	return int(size / messageSize)
}

func (l *local) close() {
	if l.journal != nil {
		if err := l.journal.Close(); err != nil {
			l.log.Warn("journal not closed", "err", err)
		}
	}
}

// replay gives all messages once, at the start. What was written since then is in
// the table: a batch that failed is not on the disk.
func (l *local) replay(_ context.Context, _ int, _ uint64, _ bool, apply func(subject string, data []byte, seq uint64) error, caughtUp func()) error {
	if l.journal == nil {
		acknowledged := uint64(0)
		for _, p := range l.book.places {
			acknowledged = max(acknowledged, p)
		}
		var err error
		if l.journal, l.state, err = journal.Open(l.dir, acknowledged, apply); err != nil {
			return fmt.Errorf("store: read rows: %w", err)
		}
		l.thrive(l.state.Size)
	}
	caughtUp()
	return nil
}

// damaged returns what is damaged, as ErrDamaged.
func (l *local) damaged() error {
	if len(l.state.Damages) == 0 {
		return nil
	}
	return fmt.Errorf("store: read rows: %d messages can be read, and not %s: %w", l.state.Records, text(l.state.Damages), ErrDamaged)
}

func text(damages []journal.Damage) string {
	const most = 10
	var where []string
	for i, d := range damages {
		if i == most {
			where = append(where, fmt.Sprintf("%d more", len(damages)-most))
			break
		}
		where = append(where, d.String())
	}
	return strings.Join(where, ", ")
}

// rotten returns what of the journal cannot be read any more.
func (l *local) rotten() string {
	l.files.Lock()
	defer l.files.Unlock()
	st, err := journal.Read(l.dir, l.journal.Newest(), nil)
	if err != nil {
		return err.Error()
	}
	return text(st.Damages)
}

func (l *local) reach(context.Context, int) (readable, last uint64, err error) {
	return l.journal.Newest(), l.journal.Newest(), nil
}

func (l *local) commit(_ context.Context, _ int, ms []message, tail uint64) (uint64, error) {
	if tail != perSubject && tail != l.journal.Newest() {
		return 0, errConflict
	}
	l.ms, l.bodies = l.ms[:0], l.bodies[:0]
	for _, m := range ms {
		data := m.data
		if m.row != nil {
			body, err := l.subject.encode(m.row)
			if err != nil {
				return 0, err
			}
			at := len(l.bodies)
			l.bodies = append(l.bodies, body...)
			data = l.bodies[at:]
		}
		l.ms = append(l.ms, journal.Message{Subject: m.subject, Data: data})
	}
	first, err := l.journal.Append(l.ms)
	if err != nil {
		return 0, fmt.Errorf("store: commit batch: %w", err)
	}
	return first, nil
}

func (l *local) read(context.Context, int, string) (data []byte, seq uint64, found bool, err error) {
	return nil, 0, false, errors.New("store: read: nobody else writes here")
}

// thrive says how large the journal is when all in it is needed.
func (l *local) thrive(size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renew = renewTimes*size + renewLeast
}

// grown reports whether the journal should be written anew.
func (l *local) grown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.journal.Size() > l.renew
}

// wornOut has the journal written anew, soon.
func (s *Store) wornOut() {
	select {
	case s.worn <- struct{}{}:
	default:
	}
}

// tidy writes the journal anew whenever it is worn, until ctx is done.
func (s *Store) tidy(ctx context.Context) {
	l, ok := s.engine.(*local)
	if !ok {
		return
	}
	for {
		select {
		case <-s.worn:
		case <-ctx.Done():
			return
		}
		before := l.journal.Size()
		err := s.renew(ctx, l)
		after := l.journal.Size()
		l.thrive(after) // also after a failure: it is tried again when it has doubled
		switch {
		case err == nil:
			s.opts.Log.Debug("journal written anew", "bytes", after, "before", before)
		case ctx.Err() == nil:
			s.opts.Log.Warn("journal not written anew; it is tried again when it has grown", "bytes", after, "err", err)
		}
	}
}

func (s *Store) renew(ctx context.Context, l *local) error {
	var upTo uint64
	if err := s.turn(ctx, &operation{plan: func(*view) (err error) {
		upTo, err = l.journal.Mark()
		return err
	}, still: true}); err != nil {
		return err
	}
	return s.rewrite(ctx, l, upTo)
}

// rewrite writes the journal anew, which is marked at upTo.
func (s *Store) rewrite(ctx context.Context, l *local, upTo uint64) error {
	l.files.Lock()
	defer l.files.Unlock()
	return l.journal.Renew(upTo, func(put func(string, []byte, uint64) error) error {
		return s.table.dump(0, func(subject string, data []byte, seq uint64) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return put(subject, data, seq)
		})
	})
}

// dumpStride is how many messages are written before others may change them.
const dumpStride = 256

// dump gives all messages of which the table has come after the place after, in
// no order. What changes meanwhile may be given or not. put may block; it is not
// called with the table locked.
func (t *table) dump(after uint64, put func(subject string, data []byte, seq uint64) error) error {
	type one struct {
		subject string
		data    []byte
		seq     uint64
	}
	var rows recordEncoder
	var some []one
	t.mu.RLock()
	defer t.mu.RUnlock()
	flush := func(least int) error {
		if len(some) < least {
			return nil
		}
		t.mu.RUnlock()
		defer t.mu.RLock()
		for _, o := range some {
			if err := put(o.subject, o.data, o.seq); err != nil {
				return err
			}
		}
		some = some[:0]
		return nil
	}
	// A map may be changed between two steps of a loop over it.
	for mac, id := range t.rows {
		if t.slabs.at(id).seq <= after {
			continue
		}
		e := t.slabs.get(id)
		var data []byte
		if !e.gone {
			body, err := rows.encode(&e.record)
			if err != nil {
				return err
			}
			data = append(data, body...)
		}
		some = append(some, one{rowSubject(mac), data, e.seq})
		if err := flush(dumpStride); err != nil {
			return err
		}
	}
	for k, n := range t.numbers {
		if h := n.holder(); h.seq > after {
			some = append(some, one{numberSubject(k.digits()), encodeHolder(h.mac, h.rests), h.seq})
			if err := flush(dumpStride); err != nil {
				return err
			}
		}
	}
	for k, n := range t.notes {
		if n.seq > after {
			some = append(some, one{k.subject(), n.data, n.seq})
			if err := flush(dumpStride); err != nil {
				return err
			}
		}
	}
	return flush(0)
}
