package store

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

// Whichever byte of the file of the rows is another, and wherever the file ends
// too early: the folder opens with all that was acknowledged, or is refused. It
// opens without what is gone when that is asked for, and from then on as usual.
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
	refused := 0
	for at := 1; at < len(text); at += len(text) / 23 {
		changed := append([]byte(nil), text...)
		changed[at] ^= 0xff
		for what, damaged := range map[string][]byte{"another byte": changed, "cut": text[:at]} {
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
			if _, _, err := s.Register(t.Context(), key(2), registration(2, 1, "192.0.2.2")); err != nil {
				t.Errorf("%s at %d, what is left takes nothing: %v", what, at, err)
			}
			s.Close()
		}
	}
	t.Logf("refused: %d of 46", refused)
	if refused < 23 {
		t.Errorf("%d of 46 were refused; want at least those that were cut", refused)
	}
}
