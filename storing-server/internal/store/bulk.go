package store

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"flexphone/registry-client/wire"
)

// preloadAtOnce is how many batches are on their way; the server takes 50.
const preloadAtOnce = 8

// Preload writes rows into dir, where no server may run, as one that had
// enrolled them would have: in the same batches, but many of them at once, and
// without waiting for the disk before the end. The rows must be new there. It
// is for measurements and for moving in from another system.
func Preload(ctx context.Context, dir string, rows iter.Seq[wire.Row]) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("store: make data folder: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	st, err := openStream(ctx, place{dir: filepath.Join(dir, "nats"), unsynced: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer st.close() // syncs
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	batches := make(chan []message)
	var all sync.WaitGroup
	for range preloadAtOnce {
		all.Go(func() {
			for ms := range batches {
				if _, err := st.commit(ctx, 0, ms, perSubject); err != nil {
					cancel(err)
				}
			}
		})
	}
	err = feed(ctx, batches, rows)
	close(batches)
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// feed cuts rows into batches.
func feed(ctx context.Context, batches chan<- []message, rows iter.Seq[wire.Row]) error {
	var ms []message
	send := func() bool {
		if len(ms) == 0 {
			return true
		}
		select {
		case batches <- ms:
			ms = nil
			return true
		case <-ctx.Done():
			return false
		}
	}
	for row := range rows {
		r := record{
			MAC: row.MAC, Owner: row.Fingerprint, Number: row.Number, Addrs: row.Addrs, Ports: row.Ports,
			Sequence: row.Sequence, Since: momentOf(row.Since), Expiry: momentOf(row.Expiry),
		}
		ms = append(ms, message{subject: rowSubject(row.MAC), row: &r})
		if row.Number != "" {
			ms = append(ms, message{subject: numberSubject(row.Number), data: row.MAC[:]})
		}
		if len(ms)+2 > batchMost && !send() {
			return nil
		}
	}
	send()
	return nil
}
