package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flexphone/registry-client/wire"
)

// A hundred folders with random bytes at random places of every file: each opens
// with all that was acknowledged, or is refused without a change and says what is
// missing, and opens with the rest when that is asked for. No phone is missing
// then whose record was not hit, and what is left takes changes and lasts.
func TestDamage(t *testing.T) {
	const phones, folders = 60, 100
	whole := t.TempDir()
	s := open(t, whole, nil)
	for n := range phones {
		if _, _, err := s.Register(t.Context(), key(byte(n)), registration(n, 1, "192.0.2.1")); err != nil {
			t.Fatal(err)
		}
	}
	for _, user := range []string{"300", "lobby"} {
		if _, err := s.AddPhone(t.Context(), Phone{User: user, MD5: make([]byte, 16)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.renew(t.Context(), s.engine.(*local)); err != nil {
		t.Fatal(err)
	}
	for n := range phones / 2 { // some of them move
		if _, _, err := s.Register(t.Context(), key(byte(n)), registration(n, 2, "192.0.2.2")); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	seed := [2]uint64{rand.Uint64(), rand.Uint64()}
	t.Logf("seed %v", seed)
	random := rand.New(rand.NewPCG(seed[0], seed[1]))
	try := func(dir string, acceptLoss bool) (*Store, error) {
		return Open(t.Context(), Options{Dir: dir, Numbers: Numbers{First: 101, Last: 999}, Log: slog.New(slog.DiscardHandler), AcceptLoss: acceptLoss})
	}
	refused, lost := 0, 0
	for range folders {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		hits := 0
		for _, name := range filesOf(t, dir) {
			if filepath.Base(name) == "lock" {
				continue
			}
			change(t, name, func(b []byte) []byte {
				for range random.IntN(3) {
					at, n := random.IntN(len(b)), 1+random.IntN(16)
					for i := at; i < min(at+n, len(b)); i++ {
						b[i] = byte(random.Uint32())
					}
					hits++
				}
				return b
			})
		}
		before := contents(t, dir)
		s, err := try(dir, false)
		if err != nil {
			refused++
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "record") {
				t.Errorf("refused with %v; want ErrDamaged, and how many records", err)
			}
			for name, text := range contents(t, dir) {
				if !bytes.Equal(before[name], text) {
					t.Errorf("%s was changed by looking", name)
				}
			}
			if s, err = try(dir, true); err != nil {
				t.Errorf("what is left: %v", err)
				continue
			}
		}
		missing := 0
		for n := range phones {
			want := uint64(1)
			if n < phones/2 {
				want = 2
			}
			if row, ok := s.Resolve(wire.Query{MAC: mac(n)}); !ok || row.Sequence != want {
				missing++
			}
		}
		// A hit of 16 bytes is in two records at the most.
		if missing > 2*hits || err == nil && refused == 0 && missing > 0 {
			t.Errorf("%d phones are missing or older after %d hits", missing, hits)
		}
		lost += missing
		if _, _, err := s.Register(t.Context(), key(99), registration(1000, 1, "192.0.2.3")); err != nil {
			t.Errorf("what is left takes nothing: %v", err)
		}
		s.Close()
		if s, err = try(dir, false); err != nil {
			t.Errorf("what is left, again: %v", err)
			continue
		}
		if row, ok := s.Resolve(wire.Query{MAC: mac(1000)}); !ok || row.Sequence != 1 {
			t.Errorf("what came after the damage is %+v, %v", row, ok)
		}
		s.Close()
	}
	if t.Logf("%d of %d were refused, %d phones were lost in them", refused, folders, lost); refused < folders/4 || refused == folders {
		t.Errorf("%d of %d were refused; want some, and not all", refused, folders)
	}
}

// filesOf lists the files of a folder and of those in it.
func filesOf(t *testing.T, dir string) (out []string) {
	t.Helper()
	for name := range contents(t, dir) {
		out = append(out, filepath.Join(dir, name))
	}
	return out
}

func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, pattern := range []string{"*", "*/*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if info, err := os.Stat(name); err == nil && !info.IsDir() {
				text, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				out[name[len(dir)+1:]] = text
			}
		}
	}
	return out
}

// What rots on the disk while the server runs is not missing in a backup, which
// says so, and is on the disk again soon.
func TestBackupOfRottenDisk(t *testing.T) {
	const phones = 300
	dir := t.TempDir()
	renewed := make(chan struct{}, 1)
	s, err := Open(t.Context(), Options{
		Dir: dir, Numbers: Numbers{First: 101, Last: 999},
		Log: slog.New(slog.NewTextHandler(teller(func(line string) {
			if strings.Contains(line, "written anew\"") {
				renewed <- struct{}{}
			}
		}), &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := range phones {
		if _, _, err := s.Register(t.Context(), key(byte(n)), registration(n, 1, "192.0.2.1")); err != nil {
			t.Fatal(err)
		}
	}
	change(t, fileOf(t, dir, ".journal"), func(b []byte) []byte {
		for i := len(b) / 2; i < len(b)/2+4; i++ {
			b[i] ^= 0xff
		}
		return b
	})
	var out bytes.Buffer
	rotten, err := s.Backup(t.Context(), &out)
	if err != nil || !strings.Contains(rotten, "1 record of ") {
		t.Errorf("Backup() = %q, %v; want that one record has rotted", rotten, err)
	}
	n, _, err := CheckBackup(bytes.NewReader(out.Bytes()))
	if err != nil || n != 2*phones {
		t.Errorf("backup of %d entries, %v; want %d", n, err, 2*phones)
	}
	<-renewed
	if rotten, err = s.Backup(t.Context(), new(bytes.Buffer)); err != nil || rotten != "" {
		t.Errorf("after it was written anew: %q, %v", rotten, err)
	}
}

// teller is a log that is told line by line.
type teller func(line string)

func (t teller) Write(b []byte) (int, error) {
	t(string(b))
	return len(b), nil
}

// The journal is written anew when it has grown, under load, and loses nothing
// by it: also not when the folder is copied from under the server at any moment,
// as a crash leaves it.
func TestRenew(t *testing.T) {
	const phones, rounds = 50, 40
	dir := t.TempDir()
	s := open(t, dir, nil)
	l := s.engine.(*local)
	for round := range uint64(rounds) {
		for n := range phones {
			if _, _, err := s.Register(t.Context(), key(byte(n)), registration(n, round+1, "192.0.2.1")); err != nil {
				t.Fatal(err)
			}
		}
		l.thrive(-renewLeast / renewTimes) // worn with whatever it has
		if round%10 < 9 {
			continue
		}
		crashed := t.TempDir()
		for { // a file that goes meanwhile is copied again
			if err := os.CopyFS(crashed, os.DirFS(dir)); err == nil {
				break
			}
			crashed = t.TempDir()
		}
		again := open(t, crashed, nil)
		for n := range phones {
			if row, ok := again.Resolve(wire.Query{MAC: mac(n)}); !ok || row.Sequence != round+1 || row.Number == "" {
				t.Fatalf("round %d, row %d is %+v, %v", round, n, row, ok)
			}
		}
		again.Close()
	}
	size := l.journal.Size()
	s.Close()
	if st, err := os.ReadDir(filepath.Join(dir, journalName)); err != nil || len(st) > 4 {
		t.Errorf("%d files, %v", len(st), err)
	}
	if size > rounds*phones*400/4 {
		t.Errorf("%d bytes for %d rows that moved %d times: it was not written anew", size, phones, rounds)
	}
	again := open(t, dir, nil)
	defer again.Close()
	if again.Size() != phones {
		t.Errorf("%d rows; want %d", again.Size(), phones)
	}
}

// Rows that a server of before has kept by JetStream move into a journal when the
// folder is opened, with all numbers, passwords and tokens; what they were in stays
// aside. A folder that is damaged is refused as it was, and cut short it begins
// again.
func TestMoveIn(t *testing.T) {
	const phones = 40
	for _, parts := range []int{1, 3} {
		t.Run(fmt.Sprint(parts), func(t *testing.T) {
			dir := t.TempDir()
			opts := Options{Dir: dir, Partitions: parts, Numbers: Numbers{First: 101, Last: 9999}, Log: slog.New(slog.DiscardHandler)}
			s, err := openStreams(t, opts)
			if err != nil {
				t.Fatal(err)
			}
			var want []wire.Row
			for n := range phones {
				for sequence := range uint64(2) {
					if _, _, err := s.Register(t.Context(), key(byte(n)), registration(n, sequence+1, "192.0.2.1")); err != nil {
						t.Fatal(err)
					}
				}
			}
			if _, err := s.AddPhone(t.Context(), Phone{User: "lobby", MD5: make([]byte, 16)}); err != nil {
				t.Fatal(err)
			}
			if err := s.Forget(t.Context(), mac(3)); err != nil {
				t.Fatal(err)
			}
			for row := range s.Rows() {
				want = append(want, row)
			}
			s.Close()
			if err := os.MkdirAll(filepath.Join(dir, journalName+".new"), 0o700); err != nil { // cut short
				t.Fatal(err)
			}
			broken := t.TempDir()
			if err := os.CopyFS(broken, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(broken, natsName)); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(t.Context(), Options{Dir: broken, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, ErrDamaged) {
				t.Errorf("without its streams: %v; want ErrDamaged", err)
			}
			for range 2 {
				s := open(t, dir, nil)
				i := 0
				for row := range s.Rows() {
					if w := want[i]; row.MAC != w.MAC || row.Number != w.Number || row.Sequence != w.Sequence || row.Fingerprint != w.Fingerprint {
						t.Errorf("row %d is %+v; want %+v", i, row, w)
					}
					i++
				}
				if i != len(want) || len(s.Phones()) != 1 {
					t.Errorf("%d rows and %d standard phones; want %d and 1", i, len(s.Phones()), len(want))
				}
				if _, err := os.Stat(filepath.Join(dir, natsName+beforeEnding)); err != nil {
					t.Error(err)
				}
				s.Close()
			}
		})
	}
}
