// Package durable writes files that a power cut leaves whole: as they were, or
// as they are to be.
//
// It knows temporary files, renaming and syncing. It refuses to know what is in
// a file.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A File is one that is being written, beside the path that it is for. Only its
// owner may read it.
type File struct {
	*os.File
	path string
}

// Create begins a file for path, which stays as it is until Keep.
func Create(path string) (*File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("durable: create: %w", err)
	}
	return &File{f, path}, nil
}

// Keep brings the file to the disk, and to its path. It closes it in any case.
func (f *File) Keep() error {
	err := errors.Join(f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), f.path)
	}
	if err == nil {
		err = SyncDir(filepath.Dir(f.path))
	}
	if err != nil {
		return fmt.Errorf("durable: keep: %w", err)
	}
	return nil
}

// Drop leaves nothing of a file that was not kept. It may be called afterwards.
func (f *File) Drop() {
	f.Close()
	os.Remove(f.Name()) // fails once it is renamed
}

// WriteFile replaces the file at path, or makes it. It has mode afterwards,
// whatever it had before and whatever the umask is.
func WriteFile(path string, text []byte, mode fs.FileMode) error {
	f, err := Create(path)
	if err != nil {
		return err
	}
	defer f.Drop()
	if _, err := f.Write(text); err != nil {
		return fmt.Errorf("durable: write: %w", err)
	}
	if err := f.Chmod(mode); err != nil {
		return fmt.Errorf("durable: write: %w", err)
	}
	return f.Keep()
}

// SyncDir brings the names in dir to the disk.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
