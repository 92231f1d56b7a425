// Package store keeps the rows: MAC to address, durable, with compare-and-set.
//
// It knows who owns a row, which announcement is newer, when a row expires,
// and who has which short number. It refuses to know CoAP, DTLS and HTTP.
//
// # Why
//
// Lookups are answered from a table in memory, which holds what the engine keeps:
// a journal in the data folder (package journal), or the streams of a NATS
// JetStream cluster. All changes pass through one goroutine, which checks them
// against the table and commits what came together as one atomic batch: the disk
// is synced once for up to 4000 of them. While one batch is on its way to the
// disk, the next is planned upon what that will leave, which nobody else hears
// of: not a row, and not a refusal either. When it does not arrive, the next is
// planned again. With several partitions, or others who write, a batch is planned
// when the one before it has arrived.
//
// Since the table has all rows, backups are written from it, and the journal is
// written anew from it when it has grown or has rotted.
//
// A row is never deleted by its expiry: owner and number stay, and the state
// follows from the expiry at the moment of asking. So nothing is written when
// a phone vanishes, and all servers of a cluster say the same.
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/journal"
)

// Options say how a Store works.
type Options struct {
	Dir  string // of the data; made if it is missing
	NATS string // URL of a cluster; empty: in this process
	// Replicas is how many nodes of the cluster keep each row, and Partitions
	// how many streams the rows are divided among, which can never be changed.
	// Zero means one, or as many as there are. Without a cluster there is one of
	// each, whatever is said.
	Replicas, Partitions int
	Numbers              Numbers // to give out
	// Changed is called with the queries whose answers have changed, after
	// those who changed them were answered. It must not block, and is called
	// from more than one goroutine.
	Changed func([]wire.Query)
	// Audit is called with changes of who owns what, before they are written:
	// if it fails, they are not. It may be nil.
	Audit func([]Event) error
	// AcceptLoss goes on with what is there when acknowledged rows are missing.
	AcceptLoss bool
	// Keep names the files of Dir that a backup has besides the rows.
	Keep []string
	// Now is the clock; nil: the system's.
	Now func() time.Time
	// Committed is called after each batch, for metrics. It may be nil.
	Committed func(rows int, took time.Duration)
	Log       *slog.Logger
}

// ErrUnavailable: it could not be written; nothing is promised about it.
var ErrUnavailable = errors.New("the rows cannot be written now")

// ErrLocked: another process uses the data folder.
var ErrLocked = errors.New("the data folder is in use by another storing-server: stop that one, or give this one another folder")

const (
	// queueLength is how many changes wait for the disk, some seconds' worth.
	queueLength = 32768
	// turnMost bounds the wait for a place in the queue: a phone that waits
	// longer asks again, and asking again makes the queue no shorter.
	turnMost = 2 * time.Second
	// journalName is the folder of the journal in the data folder, and natsName
	// that of JetStream's files, which were there before.
	journalName = "journal"
	natsName    = "nats"
	// againMost is for how long an operation is planned again before the phone
	// is told that it cannot be written now.
	againMost = 8 * time.Second
	// touchedEach is how many queries a move touches: by MAC, by number, and by
	// the old and the new address.
	touchedEach = 4
	// operationMost is how many messages one operation makes at the most.
	operationMost = 4
)

// A Store holds the rows. It is safe for concurrent use.
type Store struct {
	opts   Options
	table  *table
	engine engine
	lock   *os.File
	disk   *gauge
	ledger *ledger  // nil: the rows are in a cluster
	tails  []uint64 // by partition: its newest place, when nobody else writes there
	queue  chan *operation
	fates  chan []fate   // batches whose operations are to be answered
	wake   chan struct{} // one slot: expiries have changed
	worn   chan struct{} // one slot: the journal is to be written anew
	// regionsChanged has one slot: other clusters are to hear of it.
	regionsChanged chan struct{}
	stop           context.CancelFunc
	done           sync.WaitGroup
}

func (o Options) withDefaults() Options {
	if o.Changed == nil {
		o.Changed = func([]wire.Query) {}
	}
	if o.Audit == nil {
		o.Audit = func([]Event) error { return nil }
	}
	if o.Committed == nil {
		o.Committed = func(int, time.Duration) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Open reads the rows of dir and begins to serve them. ctx bounds the opening
// alone.
func Open(ctx context.Context, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: make data folder: %w", err)
	}
	lock, err := lockDir(opts.Dir)
	if err != nil {
		return nil, err
	}
	if err := moveIn(ctx, opts); err != nil {
		lock.Close()
		return nil, err
	}
	s, err := openIn(ctx, opts, lock)
	if err != nil {
		lock.Close()
	}
	return s, err
}

// openIn opens the rows of a locked folder.
func openIn(ctx context.Context, opts Options, lock *os.File) (*Store, error) {
	if opts.Partitions < 0 || opts.Partitions > maxPartitions {
		return nil, fmt.Errorf("store: %d partitions, want 1 to %d", opts.Partitions, maxPartitions)
	}
	if opts.NATS != "" {
		st, err := openStream(ctx, place{url: opts.NATS, replicas: opts.Replicas, partitions: opts.Partitions}, opts.Log)
		if err != nil {
			return nil, err
		}
		return openEngine(ctx, opts, st, nil, lock)
	}
	dir := filepath.Join(opts.Dir, journalName)
	book, err := checkFolder(opts, journal.There(dir))
	if err != nil {
		return nil, err
	}
	return openEngine(ctx, opts, newLocal(dir, book, opts.Log), book, lock)
}

// openEngine reads the rows that an engine keeps, and begins to serve them. It
// closes engine and ledger, and not lock, when it fails.
func openEngine(ctx context.Context, opts Options, e engine, book *ledger, lock *os.File) (*Store, error) {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Store{
		opts: opts, table: newTable(), engine: e, lock: lock, disk: &gauge{dir: opts.Dir, log: opts.Log}, ledger: book,
		queue: make(chan *operation, queueLength), fates: make(chan []fate, 1),
		wake: make(chan struct{}, 1), worn: make(chan struct{}, 1), regionsChanged: make(chan struct{}, 1), stop: stop,
	}
	err := s.load(ctx, running)
	if err == nil {
		err = s.checkLedger(ctx)
	}
	if err != nil {
		s.halt()
		return nil, err
	}
	s.done.Go(func() {
		defer close(s.fates)
		s.write(running)
	})
	s.done.Go(s.answer)
	said, measured := s.opts.Now(), time.Now()
	s.done.Go(func() { s.expire(running, said, measured) })
	s.done.Go(func() { s.tidy(running) })
	if st, ok := e.(*stream); ok && st.embedded == nil {
		s.done.Go(func() { s.shareRegions(running, st) })
	}
	return s, nil
}

// lockDir keeps a second process off the same files.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
			err = fmt.Errorf("%w: let this user write there, or name another folder", err)
		}
		return nil, fmt.Errorf("store: lock data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("store: lock %s: %w", dir, ErrLocked)
	}
	return f, nil
}

// loadGarbage is the GOGC of loading: a third of the work until a million rows
// are there was the collector's, which marked again and again what stays.
const loadGarbage = 200

// manyGarbage is the GOGC of a server with manyRows or more: its rows have no
// pointers, so that the collector's work is small beside what twice their room
// would cost.
const (
	manyGarbage = 30
	manyRows    = 100_000
)

// load fills the table. Against a cluster it goes on to follow what other
// servers write, until running is done.
func (s *Store) load(ctx, running context.Context) error {
	s.table.load(s.engine.messages() / 2) // most phones have a row and a number
	defer s.table.loaded()
	usual := debug.SetGCPercent(loadGarbage)
	defer func() {
		if s.table.size() >= manyRows {
			usual = min(usual, manyGarbage)
		}
		debug.SetGCPercent(usual)
		s.done.Go(debug.FreeOSMemory) // what was read is twice there; nobody waits for it
	}()
	ended := make(chan error, s.engine.partitions())
	for part := range s.engine.partitions() {
		s.done.Go(func() { s.follow(running, part, func(err error) { ended <- err }) })
	}
	for range s.engine.partitions() {
		select {
		case err := <-ended:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("store: read rows: %w", ctx.Err())
		}
	}
	return nil
}

// Close stops serving. What was acknowledged is on the disk already.
func (s *Store) Close() {
	s.halt()
	s.lock.Close()
}

func (s *Store) halt() {
	s.stop()
	s.done.Wait()
	s.engine.close()
	if s.ledger != nil {
		s.ledger.close()
	}
}

// Register stores an announcement made with key. When it returns nil, the row
// is on the disk. created is true for a MAC that was not known before.
// Any key may own a row that nobody owns.
func (s *Store) Register(ctx context.Context, key wire.Fingerprint, r wire.Registration) (row wire.Row, created bool, err error) {
	return s.Announce(ctx, Claim{Key: key, Entitled: true, By: "open"}, r)
}

// Announce is Register for whom c says. created is true when it made c's key
// the owner of a row that nobody owned.
func (s *Store) Announce(ctx context.Context, c Claim, r wire.Registration) (row wire.Row, created bool, err error) {
	if err := r.Validate(); err != nil {
		return wire.Row{}, false, err
	}
	// Its own variable: when ctx ends, the plan may still run.
	a := &announcement{claim: c, r: r}
	if err := s.do(ctx, func(v *view) error { return a.plan(s, v) }); err != nil {
		return wire.Row{}, false, err
	}
	return a.row, a.made, nil
}

// An announcement is one on its way to the disk, and what came of it.
type announcement struct {
	claim Claim
	r     wire.Registration
	row   wire.Row
	made  bool
}

func (a *announcement) plan(s *Store, v *view) (err error) {
	if a.made, err = v.register(a.claim, a.r, s.opts.Numbers); err != nil {
		return err
	}
	rec, _ := v.row(a.r.MAC)
	a.row = rec.row(v.now)
	return nil
}

// BeginAnnounce is Announce that does not wait: then is called once, from
// another goroutine or before it returns, and must not wait either. When too
// many wait for the disk already, it is refused at once.
func (s *Store) BeginAnnounce(c Claim, r wire.Registration, then func(row wire.Row, created bool, err error)) {
	if err := r.Validate(); err != nil {
		then(wire.Row{}, false, err)
		return
	}
	a := &announcement{claim: c, r: r}
	s.begin(func(v *view) error { return a.plan(s, v) }, func(err error) {
		if err != nil {
			then(wire.Row{}, false, err)
			return
		}
		then(a.row, a.made, nil)
	})
}

// Release takes a phone off the net, for the owner of its row.
func (s *Store) Release(ctx context.Context, key wire.Fingerprint, w wire.Withdrawal) error {
	if err := w.Validate(); err != nil {
		return err
	}
	return s.do(ctx, func(v *view) error { return v.release(key, w) })
}

// BeginRelease is Release that does not wait, as BeginAnnounce.
func (s *Store) BeginRelease(key wire.Fingerprint, w wire.Withdrawal, then func(error)) {
	if err := w.Validate(); err != nil {
		then(err)
		return
	}
	s.begin(func(v *view) error { return v.release(key, w) }, then)
}

// SetNumber gives mac the short number digits, and frees the one it had.
func (s *Store) SetNumber(ctx context.Context, mac wire.MAC, digits string) error {
	if !wire.ValidNumber(digits) {
		return fmt.Errorf("store: give %q to %v: want %d to %d digits: %w", digits, mac, wire.MinNumber, wire.MaxNumber, wire.ErrInvalid)
	}
	return s.do(ctx, func(v *view) error { return v.assign(mac, digits, s.opts.Numbers.Rest) })
}

// Forget deletes mac's row: the next key that announces it owns it.
func (s *Store) Forget(ctx context.Context, mac wire.MAC) error {
	return s.do(ctx, func(v *view) error { return v.forget(mac, s.opts.Numbers.Rest) })
}

// ForgetKey leaves mac's row without an owner: the next key that may enrol owns
// it, with its number.
func (s *Store) ForgetKey(ctx context.Context, mac wire.MAC) error {
	return s.do(ctx, func(v *view) error { return v.forgetKey(mac) })
}

// FreeNumber ends the rest of a number that a phone had.
func (s *Store) FreeNumber(ctx context.Context, digits string) error {
	if !wire.ValidNumber(digits) {
		return fmt.Errorf("store: free %q: want %d to %d digits: %w", digits, wire.MinNumber, wire.MaxNumber, wire.ErrInvalid)
	}
	return s.do(ctx, func(v *view) error { return v.freeNumber(digits) })
}

// Resolve returns the row that q asks for. By a short number that is not given
// out, a MAC that was never registered or an address that nobody has, ok is
// false.
func (s *Store) Resolve(q wire.Query) (row wire.Row, ok bool) {
	return s.table.find(q, s.opts.Now())
}

// Rows yields all rows, ordered by MAC.
func (s *Store) Rows() iter.Seq[wire.Row] { return s.table.all(s.opts.Now()) }

// Size returns how many rows there are.
func (s *Store) Size() int { return s.table.size() }
