package store

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/journal"
)

// A held wire joins a store to its own NATS server. Who locks to or from lets
// nothing pass in that direction.
type heldWire struct {
	server   *server.Server
	to, from sync.RWMutex
}

// InProcessConn implements nats.InProcessConnProvider.
func (w *heldWire) InProcessConn() (net.Conn, error) {
	c, err := w.server.InProcessConn()
	return &heldConn{c, w}, err
}

type heldConn struct {
	net.Conn
	wire *heldWire
}

// Write implements net.Conn.
func (c *heldConn) Write(b []byte) (int, error) {
	c.wire.to.RLock()
	defer c.wire.to.RUnlock()
	return c.Conn.Write(b)
}

// Read implements net.Conn.
func (c *heldConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.wire.from.RLock()
	defer c.wire.from.RUnlock()
	return n, err
}

// A heldJournal writes nothing while gate is locked.
type heldJournal struct {
	*local
	gate sync.RWMutex
}

func (h *heldJournal) commit(ctx context.Context, part int, ms []message, tail uint64) (uint64, error) {
	h.gate.RLock()
	defer h.gate.RUnlock()
	return h.local.commit(ctx, part, ms, tail)
}

// openStreams opens rows that are kept by an embedded JetStream, as a server of
// before did, and as those of a cluster are.
func openStreams(t *testing.T, opts Options) (*Store, error) {
	t.Helper()
	return openOn(t, opts, func(opts Options, _ *ledger) (engine, error) {
		return openStream(t.Context(), place{dir: filepath.Join(opts.Dir, natsName), partitions: opts.Partitions}, opts.Log)
	})
}

func openOn(t *testing.T, opts Options, on func(Options, *ledger) (engine, error)) (*Store, error) {
	t.Helper()
	opts = opts.withDefaults()
	lock, err := lockDir(opts.Dir)
	if err != nil {
		return nil, err
	}
	book, err := checkFolder(opts, true)
	if err != nil {
		lock.Close()
		return nil, err
	}
	e, err := on(opts, book)
	if err != nil {
		book.close()
		lock.Close()
		return nil, err
	}
	s, err := openEngine(t.Context(), opts, e, book, lock)
	if err != nil {
		lock.Close()
	}
	return s, err
}

// An aheadTest is a store whose batches can be held on their way.
type aheadTest struct {
	*testing.T
	store  *Store
	dir    string
	gate   *sync.RWMutex // who locks it holds batches
	stored func(wire.MAC) record
	sent   chan struct{} // a batch with somebody's enrolment is made, and goes
	audit  func() error  // its answer to that
	close  func()
	// Of streams.
	wire   *heldWire
	stream *stream
	other  *stream // the same rows, by a connection that is not held
}

// openAhead opens one on an embedded JetStream.
func openAhead(t *testing.T) *aheadTest {
	t.Helper()
	a := newAhead(t)
	var err error
	if a.store, err = openStreams(t, a.options()); err != nil {
		t.Fatal(err)
	}
	st := a.store.engine.(*stream)
	other := *st
	a.stream, a.other = st, &other
	a.wire = &heldWire{server: st.embedded}
	a.gate = &a.wire.to
	if st.conn, err = nats.Connect("", nats.InProcessServer(a.wire)); err != nil {
		t.Fatal(err)
	}
	a.close = sync.OnceFunc(func() {
		a.store.Close()
		other.conn.Close()
	})
	a.stored = func(mac wire.MAC) record {
		data, _, found, err := a.other.read(a.Context(), 0, rowSubject(mac))
		if err != nil || !found {
			return record{}
		}
		r, err := decodeRecord(data)
		if err != nil {
			a.Error(err)
		}
		return r
	}
	t.Cleanup(a.close)
	return a
}

// openAheadOnJournal opens one on a journal.
func openAheadOnJournal(t *testing.T) *aheadTest {
	t.Helper()
	a := newAhead(t)
	held := &heldJournal{}
	a.gate = &held.gate
	var err error
	a.store, err = openOn(t, a.options(), func(opts Options, book *ledger) (engine, error) {
		held.local = newLocal(filepath.Join(opts.Dir, journalName), book, opts.Log)
		return held, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	a.close = sync.OnceFunc(a.store.Close)
	a.stored = func(mac wire.MAC) (newest record) {
		at := uint64(0)
		_, err := journal.Read(held.dir, 0, func(subject string, data []byte, seq uint64) (err error) {
			if subject == rowSubject(mac) && seq > at {
				at = seq
				newest, err = decodeRecord(data)
			}
			return err
		})
		if err != nil {
			a.Error(err)
		}
		return newest
	}
	t.Cleanup(a.close)
	return a
}

// onBoth runs a test on either engine.
func onBoth(t *testing.T, test func(*aheadTest)) {
	t.Run("journal", func(t *testing.T) { test(openAheadOnJournal(t)) })
	t.Run("streams", func(t *testing.T) { test(openAhead(t)) })
}

func newAhead(t *testing.T) *aheadTest {
	return &aheadTest{T: t, dir: t.TempDir(), sent: make(chan struct{}, 100), audit: func() error { return nil }}
}

func (a *aheadTest) options() Options {
	return Options{
		Dir: a.dir, Numbers: Numbers{First: 101, Last: 999}, Log: slog.New(slog.DiscardHandler),
		Audit: func(events []Event) error {
			if events[0].Event != EventEnrolled {
				return nil
			}
			a.sent <- struct{}{}
			return a.audit()
		},
	}
}

// announce announces, and returns when that was planned for the first time.
// When it is answered with nil, it is on the disk, which is checked.
func (a *aheadTest) announce(k wire.Fingerprint, r wire.Registration) <-chan error {
	a.Helper()
	planned, done := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	n := &announcement{claim: Claim{Key: k, Entitled: true}, r: r}
	a.store.begin(func(v *view) error {
		defer once.Do(func() { close(planned) })
		return n.plan(a.store, v)
	}, func(err error) {
		if err == nil {
			if got := a.stored(r.MAC); got.Owner != k || got.Sequence < r.Sequence {
				a.Errorf("sequence %d of %v is acknowledged; on the disk is %+v", r.Sequence, r.MAC, got)
			}
		}
		done <- err
	})
	<-planned
	return done
}

// nothing checks that nobody was answered and nobody sees a row.
func (a *aheadTest) nothing(answers ...<-chan error) {
	a.Helper()
	for i, c := range answers {
		select {
		case err := <-c:
			a.Errorf("answer %d before it is on the disk: %v", i, err)
		default:
		}
	}
	if n := a.store.Size(); n != 0 {
		a.Errorf("%d rows are seen that are not on the disk", n)
	}
	if row, ok := a.store.Resolve(wire.Query{Number: "101"}); ok {
		a.Errorf("101 is %+v before it is on the disk", row)
	}
}

// holds checks that phone n has that sequence, number and owner, in memory and
// on the disk.
func (a *aheadTest) holds(n int, sequence uint64, number string, k wire.Fingerprint) {
	a.Helper()
	row, ok := a.store.Resolve(wire.Query{MAC: mac(n)})
	if !ok || row.Sequence != sequence || row.Number != number || row.Fingerprint != k {
		a.Errorf("row %d = %+v, %v; want sequence %d, number %s of key %x", n, row, ok, sequence, number, k[0])
	}
	if got := a.stored(mac(n)); got.Sequence != sequence || got.Number != number || got.Owner != k {
		a.Errorf("on the disk row %d is %+v; want sequence %d, number %s", n, got, sequence, number)
	}
}

// What is planned upon a batch that is on its way follows it, in order, and
// nobody hears or sees anything before it is on the disk: no row, no number,
// and no refusal either.
func TestPlanAhead(t *testing.T) { onBoth(t, testPlanAhead) }

func testPlanAhead(a *aheadTest) {
	t := a.T
	a.gate.Lock()
	first := a.announce(key(1), registration(1, 1, "192.0.2.1"))
	<-a.sent
	second := a.announce(key(1), registration(1, 2, "192.0.2.2"))
	stale := a.announce(key(1), registration(1, 1, "192.0.2.9"))
	foreign := a.announce(key(2), registration(1, 9, "192.0.2.9"))
	fresh := a.announce(key(2), registration(2, 1, "192.0.2.3"))
	a.nothing(first, second, stale, foreign, fresh)
	a.gate.Unlock()
	for i, c := range []<-chan error{first, second, fresh} {
		if err := <-c; err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	if err := <-stale; reason(err) != wire.ReasonStale {
		t.Errorf("older than what was planned = %v; want stale", err)
	}
	if err := <-foreign; reason(err) != wire.ReasonForeign {
		t.Errorf("another key = %v; want foreign", err)
	}
	a.holds(1, 2, "101", key(1))
	a.holds(2, 1, "102", key(2))
}

// A batch that somebody else's write turns down takes with it what was planned
// upon it: all of it is planned again.
func TestPlanAheadOfConflict(t *testing.T) {
	a := openAhead(t)
	a.wire.to.Lock()
	first := a.announce(key(1), registration(1, 1, "192.0.2.1"))
	<-a.sent
	second := a.announce(key(1), registration(1, 2, "192.0.2.2"))
	fresh := a.announce(key(2), registration(2, 1, "192.0.2.3"))
	theirs := record{MAC: mac(1), Owner: key(7), Sequence: 50, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.50")}, Expiry: momentOf(time.Now().Add(time.Hour))}
	if _, err := a.other.commit(t.Context(), 0, []message{{subject: rowSubject(mac(1)), row: &theirs}}, perSubject); err != nil {
		t.Fatal(err)
	}
	a.nothing(first, second, fresh)
	a.wire.to.Unlock()
	for i, c := range []<-chan error{first, second} {
		if err := <-c; reason(err) != wire.ReasonForeign {
			t.Errorf("%d = %v; want foreign", i, err)
		}
	}
	if err := <-fresh; err != nil {
		t.Error(err)
	}
	a.holds(1, 50, "", key(7))
	a.holds(2, 1, "101", key(2)) // which the other would have had
}

// What was planned upon a batch that cannot be written is judged without it.
func TestPlanAheadOfFailure(t *testing.T) { onBoth(t, testPlanAheadOfFailure) }

func testPlanAheadOfFailure(a *aheadTest) {
	t := a.T
	full := errors.New("no room for the audit log")
	queued := make(chan struct{})
	a.audit = func() error {
		<-queued
		a.audit = func() error { return nil }
		return full
	}
	first := a.announce(key(1), registration(1, 1, "192.0.2.1"))
	<-a.sent
	// They are planned when the first has failed already, but upon it.
	var answers [2]chan error
	for i := range answers {
		answers[i] = make(chan error, 1)
		a.store.BeginAnnounce(Claim{Key: key(2), Entitled: true}, registration(i+1, 1, "192.0.2.9"), func(_ wire.Row, _ bool, err error) { answers[i] <- err })
	}
	a.nothing(first, answers[0], answers[1])
	close(queued)
	if err := <-first; !errors.Is(err, ErrUnavailable) || !errors.Is(err, full) {
		t.Errorf("first = %v; want ErrUnavailable, and why", err)
	}
	for i, c := range answers {
		if err := <-c; err != nil {
			t.Errorf("phone %d of another key: %v; want it taken, since the first was not", i+1, err)
		}
	}
	a.holds(1, 1, "101", key(2))
	a.holds(2, 1, "102", key(2))
}

// The answer to a batch is lost, or comes too late: it is found out what became
// of it before what was planned upon it is judged again.
func TestPlanAheadOfLostAnswer(t *testing.T) {
	for _, tt := range []struct {
		name string
		hold func(*heldWire) *sync.RWMutex
	}{
		{"answer", func(w *heldWire) *sync.RWMutex { return &w.from }},
		{"batch", func(w *heldWire) *sync.RWMutex { return &w.to }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := openAhead(t)
			a.stream.patience = 500 * time.Millisecond
			held := tt.hold(a.wire)
			held.Lock()
			first := a.announce(key(1), registration(1, 1, "192.0.2.1"))
			<-a.sent
			second := a.announce(key(1), registration(1, 2, "192.0.2.2"))
			fresh := a.announce(key(2), registration(2, 1, "192.0.2.3"))
			if tt.name == "batch" {
				time.AfterFunc(a.stream.patience, held.Unlock)
			}
			if err := <-first; !errors.Is(err, ErrUnavailable) {
				t.Errorf("first = %v; want that nothing is promised", err)
			}
			if tt.name == "answer" {
				held.Unlock()
			}
			// As a phone does: what is not known is asked again.
			for i, c := range []<-chan error{second, fresh} {
				err := <-c
				for tries := 0; errors.Is(err, ErrUnavailable) && tries < 20; tries++ {
					if i == 0 {
						err = <-a.announce(key(1), registration(1, 2, "192.0.2.2"))
					} else {
						err = <-a.announce(key(2), registration(2, 1, "192.0.2.3"))
					}
				}
				if err != nil {
					t.Errorf("%d: %v", i, err)
				}
			}
			a.holds(1, 2, "101", key(1))
			a.holds(2, 1, "102", key(2))
			rows := slices.Collect(a.store.Rows())
			a.close()
			again := open(t, a.dir, nil)
			defer again.Close()
			for i, row := range slices.Collect(again.Rows()) {
				if row.MAC != rows[i].MAC || row.Sequence != rows[i].Sequence || row.Number != rows[i].Number {
					t.Errorf("after a restart: %+v; want %+v", row, rows[i])
				}
			}
		})
	}
}
