package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A file is replaced as a whole or not at all, and nothing is left beside it.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	holds := func(when, want string, mode fs.FileMode) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil || string(text) != want {
			t.Errorf("%s: %q, %v; want %q", when, text, err, want)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: mode %v, %v; want %v", when, info.Mode(), err, mode)
		}
		if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
			t.Errorf("%s: %v in the folder, %v", when, all, err)
		}
	}
	// 0646 is what no usual umask leaves.
	for text, mode := range map[string]fs.FileMode{"first": 0o600, "a second": 0o646, "and a third one": 0o644} {
		if err := WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		holds("written", text, mode)
	}
	if err := WriteFile(path, []byte("fourth"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("fifth, in p"); err != nil {
		t.Fatal(err)
	}
	f.Drop()
	holds("dropped", "fourth", 0o600)
	if err := WriteFile(filepath.Join(dir, "none", "file"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("WriteFile() in no folder = %v", err)
	}
}
