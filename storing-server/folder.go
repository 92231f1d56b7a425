package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
	"flexphone/storing-server/internal/web"
)

// Data is the flag that all commands share.
type Data struct {
	Data string `help:"Folder of the rows and keys; ${default} by default." default:"/var/lib/storing-server" env:"STORING_SERVER_DATA" type:"path" placeholder:"DIR"`
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
	opts.Keep = []string{keyName, web.CertificateName}
	audit := trust.NewAudit(opts.Dir)
	if opts.Audit == nil {
		opts.Audit = audit.Append
	}
	rows, err := store.Open(ctx, opts)
	if err == nil {
		if err = audit.Check(); err == nil {
			return rows, nil
		}
		rows.Close()
		err = fmt.Errorf("%w: without it nobody can enrol: let this user write there, or move it away", err)
	}
	if errors.Is(err, store.ErrDamaged) {
		return nil, fmt.Errorf("%w; nothing was changed: move %s away and restore a backup there (storing-server restore FILE), or go on without these records (storing-server run --accept-loss, once; the damaged files are kept aside)", err, opts.Dir)
	}
	if full(opts.Dir) {
		return nil, fmt.Errorf("%w: the disk of %s is full: make room there; nothing is lost", err, opts.Dir)
	}
	if path := new(fs.PathError); errors.As(err, &path) && path.Op == "mkdir" {
		return nil, fmt.Errorf("%w: name a folder with --data that this user may make", err)
	}
	return nil, err
}

// hand gives what root has made in a data folder to the owner of the folder, as
// whom the server runs.
func hand(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	root, err := os.OpenRoot(dir) // which no link leads out of
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	to := info.Sys().(*syscall.Stat_t)
	return fs.WalkDir(root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		// A file with another name elsewhere is not for us to give away.
		if is := info.Sys().(*syscall.Stat_t); is.Uid == to.Uid || is.Uid != 0 || !e.IsDir() && is.Nlink > 1 {
			return nil
		}
		return root.Lchown(path, int(to.Uid), int(to.Gid))
	})
}

// leastRoom is what a data folder needs to be opened, in bytes.
const leastRoom = 1 << 20

// full reports whether there is no room on the disk of a folder.
func full(dir string) bool {
	var disk unix.Statfs_t
	return unix.Statfs(dir, &disk) == nil && disk.Bavail*uint64(disk.Bsize) < leastRoom
}
