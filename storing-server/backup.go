package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"flexphone/internal/durable"
	"flexphone/storing-server/internal/admin"
	"flexphone/storing-server/internal/store"
)

// BackupCmd is `backup`.
type BackupCmd struct {
	Data
	File string `arg:"" type:"path" help:"To write; replaced when the backup is whole. It holds the server's key."`
}

// RestoreCmd is `restore`.
type RestoreCmd struct {
	Data
	File string `arg:"" type:"existingfile" help:"That backup wrote."`
}

// Run writes a backup of the running server, or else of the data folder.
func (c *BackupCmd) Run(e *edges) error {
	f, err := durable.Create(c.File)
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	defer f.Drop()
	rotten, err := admin.NewClient(c.Data.Data).Backup(e.ctx, f)
	if errors.Is(err, admin.ErrNotRunning) {
		err = withStore(e.ctx, c.Data, func(s *store.Store) (err error) {
			rotten, err = s.Backup(e.ctx, f)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	n, _, err := store.CheckBackup(f)
	if err == nil {
		err = f.Keep()
	}
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	fmt.Fprintf(e.stdout, "%d entries in %s\n", n, c.File)
	if rotten != "" {
		fmt.Fprintf(e.stderr, "The disk has lost %s. The backup has them, from memory, and they are written to the disk anew; look after the disk.\n", rotten)
	}
	return nil
}

// Run makes a data folder of a backup.
func (c *RestoreCmd) Run(e *edges) error {
	f, err := os.Open(c.File)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer f.Close()
	n, err := store.Restore(e.ctx, c.Data.Data, f)
	switch {
	case errors.Is(err, store.ErrNotEmpty):
		return fmt.Errorf("restore: %w: move it away, or name another folder with --data", err)
	case errors.Is(err, store.ErrBackup):
		return fmt.Errorf("restore: %w: take another backup; nothing was changed", err)
	case err != nil:
		return fmt.Errorf("restore: %w", err)
	}
	fmt.Fprintf(e.stdout, "%d entries restored to %s; start the server with: storing-server run --data %s\n", n, c.Data.Data, c.Data.Data)
	return nil
}
