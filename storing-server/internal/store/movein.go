package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"flexphone/internal/durable"
	"flexphone/storing-server/internal/journal"
)

// beforeEnding is what the folder of JetStream's files is called once its rows
// are in the journal. Nothing reads it any more; it can be removed.
const beforeEnding = ".before"

// moveIn brings the rows of a folder that a server of before has kept by an
// embedded JetStream into a journal. The folder is read with all its checks
// first; what it was stays there under another name. Cut short, it begins again.
func moveIn(ctx context.Context, opts Options) error {
	streams, to := filepath.Join(opts.Dir, natsName), filepath.Join(opts.Dir, journalName)
	if opts.NATS != "" || journal.There(to) || !streamsThere(streams) {
		return nil
	}
	book, err := checkFolder(opts, true)
	if err != nil {
		return err
	}
	st, err := openStream(ctx, place{dir: streams}, opts.Log)
	if err != nil {
		book.close()
		return err
	}
	old := opts
	old.Audit, old.Changed = func([]Event) error { return nil }, nil
	s, err := openEngine(ctx, old.withDefaults(), st, book, nil)
	if err != nil {
		return err
	}
	defer s.halt()
	part := to + ".new"
	if err := os.RemoveAll(part); err != nil {
		return fmt.Errorf("store: move rows to a journal: %w", err)
	}
	newest, err := journal.Create(part, func(put func(string, []byte) error) error {
		return s.table.dump(0, func(subject string, data []byte, _ uint64) error { return put(subject, data) })
	})
	if err == nil {
		err = s.ledger.moved(newest)
	}
	if err == nil {
		err = errors.Join(os.Rename(part, to), os.Rename(streams, streams+beforeEnding), durable.SyncDir(opts.Dir))
	}
	if err != nil {
		return fmt.Errorf("store: move rows to a journal: %w", err)
	}
	opts.Log.Info("rows moved to a journal of their own; what they were in before can be removed", "rows", s.table.size(),
		"journal", to, "before", streams+beforeEnding)
	return nil
}

// moved makes the ledger that of a journal with so many messages. It says less
// than there is until the journal is in its place.
func (l *ledger) moved(newest uint64) error {
	l.mu.Lock()
	entries := int(l.entries)
	l.places = []uint64{0}
	err := l.file.Truncate(0)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return errors.Join(l.reset([]uint64{newest}, entries), l.file.Sync())
}
