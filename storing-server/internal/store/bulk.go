package store

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/journal"
)

// Preload writes rows into dir, where no server may run, as one that had enrolled
// them would have. There must be no rows. It is for measurements and for moving in
// from another system.
func Preload(ctx context.Context, dir string, rows iter.Seq[wire.Row]) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("store: make data folder: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	to := filepath.Join(dir, journalName)
	if journal.There(to) {
		return fmt.Errorf("store: preload %s: %w", dir, ErrNotEmpty)
	}
	var body recordEncoder
	_, err = journal.Create(to, func(put func(string, []byte) error) error {
		for row := range rows {
			r := record{
				MAC: row.MAC, Owner: row.Fingerprint, Number: row.Number, Addrs: row.Addrs, Ports: row.Ports,
				Sequence: row.Sequence, Since: momentOf(row.Since), Expiry: momentOf(row.Expiry), Reach: row.Reach,
			}
			data, err := body.encode(&r)
			if err == nil {
				err = put(rowSubject(row.MAC), data)
			}
			if err == nil && row.Number != "" {
				err = put(numberSubject(row.Number), row.MAC[:])
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store: preload %s: %w", dir, err)
	}
	return nil
}
