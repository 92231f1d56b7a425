package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
	"flexphone/storing-server/internal/web"
)

// Data is the flag that all commands share.
type Data struct {
	Data string `help:"Folder of the rows and keys." default:"/var/lib/storing-server" env:"STORING_SERVER_DATA" type:"path" placeholder:"DIR"`
}

// exists reports an error where no server has run, so that a command makes no
// data folder of a mistyped name.
func (d Data) exists() error {
	if _, err := os.Stat(filepath.Join(d.Data, "lock")); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return barred(fmt.Errorf("open data folder: %w", err))
		}
		return fmt.Errorf("open data folder %s: no storing-server has run there; name the right one with --data: %w", d.Data, err)
	}
	return nil
}

// barred says who may give commands, when this user may not.
func barred(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w (be root, or the user that the server runs as)", err)
	}
	return err
}

// openRows opens the rows, and says what to do when that fails.
func openRows(ctx context.Context, opts store.Options) (*store.Store, error) {
	opts.Keep = []string{keyName, web.AccessName, web.CertificateName}
	opts.Audit = trust.NewAudit(opts.Dir).Append
	rows, err := store.Open(ctx, opts)
	if errors.Is(err, store.ErrDamaged) {
		return nil, fmt.Errorf("%w; nothing was changed: move %s away and restore a backup there (storing-server restore FILE), or go on with what is left (storing-server run --accept-loss, once)", err, opts.Dir)
	}
	if err != nil && full(opts.Dir) {
		return nil, fmt.Errorf("%w: the disk of %s is full: make room there; nothing is lost", err, opts.Dir)
	}
	if path := new(fs.PathError); errors.As(err, &path) && path.Op == "mkdir" {
		return nil, fmt.Errorf("%w: name a folder with --data that this user may make", err)
	}
	return rows, err
}

// leastRoom is what a data folder needs to be opened, in bytes: state of the
// streams that is written anew.
const leastRoom = 1 << 20

// full reports whether there is no room on the disk of a folder.
func full(dir string) bool {
	var disk unix.Statfs_t
	return unix.Statfs(dir, &disk) == nil && disk.Bavail*uint64(disk.Bsize) < leastRoom
}
