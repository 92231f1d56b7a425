package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"flexphone/storing-server/internal/journal"
)

// ErrFull: the disk is full, or nearly so. Nothing is written; lookups go on.
var ErrFull = errors.New("the disk is full")

// ErrDamaged: acknowledged rows are missing from the data folder.
var ErrDamaged = errors.New("acknowledged rows are missing")

const (
	// The disk counts as full while there is still room for what was begun and
	// for the journal that is written anew: a hundredth of it, within these bounds.
	reserveLeast = 16 << 20
	reserveMost  = 1 << 30
	// roomEvery is how often the disk is asked.
	roomEvery = 200 * time.Millisecond
)

// A gauge says whether there is room on the disk.
type gauge struct {
	dir   string
	log   *slog.Logger
	asked atomic.Int64 // when, in nanoseconds of Unix time
	full  atomic.Bool
}

// room returns ErrFull when nothing should be written.
func (g *gauge) room() error {
	now := time.Now().UnixNano()
	if last := g.asked.Load(); now-last > int64(roomEvery) || now < last {
		g.asked.Store(now)
		var st syscall.Statfs_t
		if err := syscall.Statfs(g.dir, &st); err != nil {
			return fmt.Errorf("store: ask for room in %s: %w", g.dir, err)
		}
		size := uint64(st.Bsize)
		free, reserve := st.Bavail*size, min(max(st.Blocks*size/100, reserveLeast), reserveMost)
		switch full := free < reserve; {
		case full && !g.full.Swap(full):
			g.log.Error("the disk is full: nothing is written until there is room; lookups go on", "folder", g.dir,
				"free", free, "needed", reserve)
		case !full && g.full.Swap(full):
			g.log.Info("there is room on the disk again", "folder", g.dir, "free", free)
		}
	}
	if g.full.Load() {
		return fmt.Errorf("store: write to %s: %w", g.dir, ErrFull)
	}
	return nil
}

// Writable tries whether rows can be written now, and returns why not.
func (s *Store) Writable(ctx context.Context) error {
	if s.opts.NATS != "" {
		if !s.engine.connected() {
			return fmt.Errorf("store: try to write: %w: the NATS cluster is out of reach", ErrUnavailable)
		}
		return nil
	}
	if err := s.room(); err != nil {
		return err
	}
	l, ok := s.engine.(*local)
	if !ok {
		return nil
	}
	if err := l.journal.Probe(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// ledgerName is the ledger's file in the data folder.
const ledgerName = "acknowledged"

// A ledger says how far the acknowledged changes reach: by how many places in
// each partition, and how many entries there were. It is written after
// each batch, without waiting for the disk, so that after a power cut it tells
// less than there is, and never more. By it, a data folder is found out that
// was copied in part, cut or overwritten.
type ledger struct {
	path string

	mu      sync.Mutex
	file    *os.File
	places  []uint64
	entries uint64
	writes  int64
}

// openLedger reads the ledger of dir. A folder without one has promised nothing
// yet.
func openLedger(dir string) (*ledger, error) {
	l := &ledger{path: filepath.Join(dir, ledgerName)}
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: open ledger: %w", err)
	}
	l.file = f
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("store: open ledger: %w", err)
	}
	if n := (info.Size()/2 - 8 - 4) / 8; n >= 1 && n <= maxPartitions {
		l.places = make([]uint64, n)
	}
	slot := make([]byte, l.slot())
	for i := range int64(2) {
		if _, err := f.ReadAt(slot, i*l.slot()); err == nil {
			l.learn(slot)
		}
	}
	return l, nil
}

// fit makes room for so many partitions.
func (l *ledger) fit(partitions int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.places) == partitions {
		return nil
	}
	places := make([]uint64, partitions)
	copy(places, l.places)
	l.places = places
	return errors.Join(l.file.Truncate(0), l.write(), l.write())
}

// slot is the size of one of the two places that are written by turns, so that
// one is always whole.
func (l *ledger) slot() int64 { return int64(8 + 8*len(l.places) + 4) }

func (l *ledger) learn(slot []byte) {
	end := len(slot) - 4
	if crc32.ChecksumIEEE(slot[:end]) != binary.BigEndian.Uint32(slot[end:]) {
		return
	}
	l.entries = max(l.entries, binary.BigEndian.Uint64(slot))
	for i := range l.places {
		l.places[i] = max(l.places[i], binary.BigEndian.Uint64(slot[8+8*i:]))
	}
}

// note writes that partition part reaches to place, and that there are so many
// entries.
func (l *ledger) note(part int, place uint64, entries int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.places[part] = max(l.places[part], place)
	l.entries = max(l.entries, uint64(entries))
	return l.write()
}

func (l *ledger) write() error {
	slot := binary.BigEndian.AppendUint64(make([]byte, 0, l.slot()), l.entries)
	for _, p := range l.places {
		slot = binary.BigEndian.AppendUint64(slot, p)
	}
	slot = binary.BigEndian.AppendUint32(slot, crc32.ChecksumIEEE(slot))
	l.writes++
	if _, err := l.file.WriteAt(slot, l.writes%2*l.slot()); err != nil {
		return fmt.Errorf("store: write ledger: %w", err)
	}
	return nil
}

// promised reports whether anything was acknowledged in this folder.
func (l *ledger) promised() bool {
	for _, p := range l.places {
		if p > 0 {
			return true
		}
	}
	return false
}

// missing returns ErrDamaged when there is less than was acknowledged.
func (l *ledger) missing(places []uint64, entries int) error {
	for i, p := range l.places {
		if places[i] < p {
			return fmt.Errorf("store: read rows: the newest change is %d, and %d was acknowledged: %w", places[i], p, ErrDamaged)
		}
	}
	if uint64(entries) < l.entries {
		return fmt.Errorf("store: read rows: %d rows, numbers and accounts are there, and %d were: %w", entries, l.entries, ErrDamaged)
	}
	return nil
}

// reset makes the ledger say what there is.
func (l *ledger) reset(places []uint64, entries int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	copy(l.places, places)
	l.entries = uint64(entries)
	return errors.Join(l.write(), l.write()) // both slots
}

func (l *ledger) close() {
	_ = l.file.Sync()
	l.file.Close()
}

// Local reports whether a server has kept its rows in dir, rather than in a
// cluster.
func Local(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, ledgerName))
	return err == nil || journal.There(filepath.Join(dir, journalName)) || streamsThere(filepath.Join(dir, natsName)) // or nothing was promised there yet
}

// checkFolder opens the ledger of a folder, and refuses one whose rows are gone:
// there says whether they are.
func checkFolder(opts Options, there bool) (*ledger, error) {
	book, err := openLedger(opts.Dir)
	if err != nil {
		return nil, err
	}
	if book.promised() && !opts.AcceptLoss && !there {
		book.close()
		return nil, fmt.Errorf("store: read rows: none in %s: %w", opts.Dir, ErrDamaged)
	}
	return book, nil
}

// checkLedger compares what was read with what was acknowledged.
func (s *Store) checkLedger(ctx context.Context) error {
	s.tails = make([]uint64, s.engine.partitions())
	if s.ledger == nil {
		return nil
	}
	if err := s.ledger.fit(len(s.tails)); err != nil {
		return fmt.Errorf("store: write ledger: %w", err)
	}
	places := make([]uint64, len(s.tails)) // that can be read
	for i := range places {
		var err error
		if places[i], s.tails[i], err = s.engine.reach(ctx, i); err != nil {
			return err
		}
	}
	entries := s.table.entries()
	err := s.ledger.missing(places, entries)
	l, isLocal := s.engine.(*local)
	if isLocal {
		err = errors.Join(l.damaged(), err)
	}
	if err != nil {
		if !s.opts.AcceptLoss {
			return err
		}
		s.opts.Log.Warn("going on with what is there; the damaged files are kept aside", "err", err)
		if isLocal { // so that it is asked for once
			upTo, err := l.journal.Mark()
			if err == nil {
				err = s.rewrite(ctx, l, upTo)
			}
			if err != nil {
				return err
			}
		}
	}
	return s.ledger.reset(s.tails, entries)
}

// acknowledged writes into the ledger that partition part reaches to place.
func (s *Store) acknowledged(part int, place uint64) {
	if s.ledger == nil {
		return
	}
	if err := s.ledger.note(part, place, s.table.entries()); err != nil {
		s.opts.Log.Warn("ledger not written", "err", err)
	}
	if l, ok := s.engine.(*local); ok && l.grown() {
		s.wornOut()
	}
}

// entries counts rows, numbers and notes, with those that are gone: it never
// falls. Tokens do not count, since they are forgotten once they are gone.
func (t *table) entries() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.rows) + len(t.numbers) + t.kept
}

// streamsThere reports whether dir holds the files of JetStream's streams.
func streamsThere(dir string) bool {
	names, err := os.ReadDir(filepath.Join(dir, "jetstream", "$G", "streams"))
	return err == nil && len(names) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist)
}
