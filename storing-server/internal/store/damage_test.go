package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

// Whichever record of the file of the rows is damaged, and wherever the file
// ends too early: the folder opens with all that was acknowledged, or is refused.
// It opens without what is gone when that is asked for, again and again, and
// what is left can be moved to a folder that is whole. A record's head is not
// tried: JetStream takes the sequence there on trust, and remembers each of the
// changes that it then misses, of which there may be more than it has room for.
func TestDamage(t *testing.T) {
	whole := t.TempDir()
	s := open(t, whole, nil)
	if _, _, err := s.Register(t.Context(), key(1), registration(1, 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"300", "lobby"} {
		if _, err := s.AddPhone(t.Context(), Phone{User: user, MD5: make([]byte, 16)}); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	files, err := filepath.Glob(filepath.Join(whole, natsName, "jetstream", "$G", "streams", "*", "msgs", "*.blk"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files of rows: %v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	name := files[0][len(whole):]
	quiet := slog.New(slog.DiscardHandler)
	try := func(dir string, acceptLoss bool) (*Store, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		return Open(ctx, Options{Dir: dir, Numbers: Numbers{First: 101, Last: 999}, Log: quiet, AcceptLoss: acceptLoss})
	}
	refused, tried := 0, 0
	for _, r := range records(text) {
		damages := map[string][]byte{"cut": text[:r.begin], "cut in the midst": text[:(r.begin+r.end)/2]}
		for what, at := range map[string]int{"another subject": r.begin + recordHead + 3, "another body": r.end - 12, "another checksum": r.end - 3} {
			damages[what] = bytes.Clone(text)
			damages[what][at] ^= 0xff
		}
		for what, damaged := range damages {
			tried++
			at := r.begin
			dir := t.TempDir()
			if err := errors.Join(os.CopyFS(dir, os.DirFS(whole)), os.WriteFile(dir+name, damaged, 0o600)); err != nil {
				t.Fatal(err)
			}
			s, err := try(dir, false)
			switch {
			case err == nil:
				row, ok := s.Resolve(wire.Query{MAC: mac(1)})
				if !ok || row.Sequence != 1 || len(s.Phones()) != 2 {
					t.Errorf("%s at %d: opened with %+v and %v", what, at, row, s.Phones())
				}
				s.Close()
				continue
			case !errors.Is(err, ErrDamaged):
				t.Errorf("%s at %d: %v; want ErrDamaged", what, at, err)
				continue
			}
			refused++
			if s, err = try(dir, true); err != nil {
				t.Errorf("%s at %d, what is left: %v", what, at, err)
				continue
			}
			s.Close()
			if s, err = try(dir, false); err != nil {
				t.Errorf("%s at %d, what is left, again: %v", what, at, err)
				continue
			}
			// JetStream may take nothing more where a file is damaged: what is left
			// is moved to another folder.
			var left bytes.Buffer
			if err := s.Backup(t.Context(), &left); err != nil {
				t.Errorf("%s at %d, what is left is not backed up: %v", what, at, err)
			}
			s.Close()
			moved := filepath.Join(t.TempDir(), "moved")
			if _, err := Restore(t.Context(), moved, bytes.NewReader(left.Bytes())); err != nil {
				t.Errorf("%s at %d, what is left is not restored: %v", what, at, err)
				continue
			}
			if s, err = try(moved, false); err != nil {
				t.Errorf("%s at %d, what was restored: %v", what, at, err)
				continue
			}
			if _, _, err := s.Register(t.Context(), key(1), registration(2, 1, "192.0.2.2")); err != nil {
				t.Errorf("%s at %d, what was restored takes nothing: %v", what, at, err)
			}
			s.Close()
		}
	}
	if t.Logf("%d of %d were refused", refused, tried); refused < tried/2 {
		t.Errorf("%d of %d were refused; want at least those that were cut", refused, tried)
	}
}

// recordHead is the size of what stands before a record's subject in a file of
// JetStream's: lengths, sequence and time.
const recordHead = 22

type extent struct{ begin, end int }

// records finds the records of such a file.
func records(text []byte) (out []extent) {
	for at := 0; at < len(text); {
		end := at + int(binary.LittleEndian.Uint32(text[at:])&^(1<<31)) // a bit says that there are headers
		out = append(out, extent{at, end})
		at = end
	}
	return out
}
