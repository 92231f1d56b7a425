package store

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

// rows is how many TestRestart has.
var rows = flag.Int("rows", 10_000, "how many rows TestRestart reads")

// fileOf returns the newest file in dir whose name ends so.
func fileOf(t *testing.T, dir, ending string) string {
	t.Helper()
	var found string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ending) {
			found = path
		}
		return err
	})
	if err != nil || found == "" {
		t.Fatalf("no *%s in %s: %v", ending, dir, err)
	}
	return found
}

// change rewrites one file.
func change(t *testing.T, path string, how func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, how(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A folder that was copied from under a running server, as a crash leaves it,
// and then damaged: either every acknowledged row is there, or the server says
// that some are missing. Nothing is lost without a word.
func TestDamagedFolder(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	const phones, moves = 50, 4
	for n := range phones * moves {
		if _, _, err := s.Register(t.Context(), key(byte(n%phones)), registration(n%phones, uint64(n+1), "192.0.2.1")); err != nil {
			t.Fatal(err)
		}
	}
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	const ( // what may come of it
		whole = iota
		damaged
		either
	)
	block := func(how func([]byte) []byte) func(string) {
		return func(dir string) { change(t, fileOf(t, dir, ".journal"), how) }
	}
	for _, tt := range []struct {
		name string
		do   func(dir string)
		want int
	}{
		{"as it was", func(string) {}, whole},
		{"a write torn that was never acknowledged", block(func(b []byte) []byte {
			return append(b, b[:40]...) // a record's beginning
		}), whole},
		{"noise after the end", block(func(b []byte) []byte { return append(b, bytes.Repeat([]byte{0xa5}, 333)...) }), whole},
		{"zeros after the end", block(func(b []byte) []byte { return append(b, make([]byte, 4096)...) }), whole},
		{"last byte cut", block(func(b []byte) []byte { return b[:len(b)-1] }), damaged},
		{"last record cut", block(func(b []byte) []byte { return b[:len(b)-150] }), damaged},
		{"half cut", block(func(b []byte) []byte { return b[:len(b)/2] }), damaged},
		{"empty", block(func(b []byte) []byte { return nil }), damaged},
		{"last record flipped", block(func(b []byte) []byte { b[len(b)-60] ^= 0x10; return b }), damaged},
		{"last page zeroed", block(func(b []byte) []byte { clear(b[len(b)-512:]); return b }), damaged},
		{"middle flipped", block(func(b []byte) []byte { b[len(b)/2] ^= 0x10; return b }), either},
		{"block removed", func(dir string) { os.Remove(fileOf(t, dir, ".journal")) }, damaged},
		{"journal removed", func(dir string) { os.RemoveAll(filepath.Join(dir, journalName)) }, damaged},
		{"ledger cut", func(dir string) { os.Truncate(filepath.Join(dir, ledgerName), 5) }, whole},
		{"ledger half written", func(dir string) {
			change(t, filepath.Join(dir, ledgerName), func(b []byte) []byte { b[3] ^= 1; return b })
		}, whole},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(crashed)); err != nil {
				t.Fatal(err)
			}
			tt.do(dir)
			s, err := Open(t.Context(), Options{Dir: dir, Numbers: Numbers{First: 101, Last: 999}, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				if tt.want == whole || tt.want == damaged && !errors.Is(err, ErrDamaged) {
					t.Errorf("Open() = %v", err)
				}
				if _, err := os.Stat(filepath.Join(dir, journalName)); err == nil && tt.name == "journal removed" {
					t.Error("a new journal was made where the old one is gone")
				}
				return
			}
			defer s.Close()
			if tt.want == damaged {
				t.Error("opened; want it refused")
			}
			for n := range phones {
				want := uint64(phones*(moves-1) + n + 1)
				if row, ok := s.Resolve(wire.Query{MAC: mac(n)}); !ok || row.Sequence != want || row.Number == "" {
					t.Fatalf("row %d is %+v, %v; want sequence %d", n, row, ok, want)
				}
			}
		})
	}
	t.Run("accepted", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(crashed)); err != nil {
			t.Fatal(err)
		}
		block(func(b []byte) []byte { return b[:len(b)/2] })(dir)
		for _, accept := range []bool{true, false} { // once is enough
			s, err := Open(t.Context(), Options{Dir: dir, AcceptLoss: accept, Numbers: Numbers{First: 101, Last: 999}, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			if n := s.Size(); n == 0 || n > phones {
				t.Errorf("%d rows are left", n)
			}
			s.Close()
		}
	})
}

// A full disk turns changes away; lookups and backups go on.
func TestFullDisk(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	defer s.Close()
	if _, _, err := s.Register(t.Context(), key(1), registration(1, 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	s.disk.asked.Store(time.Now().Add(time.Hour / 2).UnixNano())
	s.disk.full.Store(true)
	s.disk.asked.Store(time.Now().UnixNano())
	_, _, err := s.Register(t.Context(), key(1), registration(1, 2, "192.0.2.2"))
	if !errors.Is(err, ErrFull) || !errors.Is(err, ErrUnavailable) {
		t.Errorf("Register() = %v; want ErrFull", err)
	}
	if row, ok := s.Resolve(wire.Query{Number: "101"}); !ok || row.Sequence != 1 {
		t.Errorf("row %+v, %v", row, ok)
	}
	if _, err := s.Backup(t.Context(), new(bytes.Buffer)); err != nil {
		t.Errorf("Backup() = %v", err)
	}
	if err := s.Writable(t.Context()); !errors.Is(err, ErrFull) {
		t.Errorf("Writable() = %v; want ErrFull", err)
	}
	s.disk.asked.Store(0) // ask again
	if err := s.Writable(t.Context()); err != nil {
		t.Errorf("Writable() = %v once there is room", err)
	}
}

// A backup that is made under load holds every row that was acknowledged when
// it began, none older than that, and can be restored.
func TestBackup(t *testing.T) {
	const phones = 100
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "server.key"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{Dir: dir, Keep: []string{"server.key", "none"}, Numbers: Numbers{First: 101, Last: 999}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var acknowledged [phones]atomic.Uint64
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	begun := make(chan struct{}, phones)
	for i := range phones {
		load.Go(func() {
			for n := uint64(1); ctx.Err() == nil; n++ {
				if _, _, err := s.Register(ctx, key(byte(i)), registration(i, n, "192.0.2.1")); err != nil {
					continue
				}
				acknowledged[i].Store(n)
				if n == 3 {
					begun <- struct{}{}
				}
			}
		})
	}
	for range phones {
		<-begun
	}
	var least [phones]uint64
	for i := range least {
		least[i] = acknowledged[i].Load()
	}
	var out bytes.Buffer
	if rotten, err := s.Backup(t.Context(), &out); err != nil || rotten != "" {
		t.Fatal(rotten, err)
	}
	stop()
	load.Wait()

	to := filepath.Join(t.TempDir(), "new")
	n, err := Restore(t.Context(), to, bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d entries for %d rows in %d bytes", n, phones, out.Len())
	if _, err := Restore(t.Context(), to, bytes.NewReader(out.Bytes())); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("restored over rows: %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(to, "server.key")); err != nil || string(got) != "secret" {
		t.Errorf("key restored as %q, %v", got, err)
	}
	again := open(t, to, nil)
	defer again.Close()
	if again.Size() != phones {
		t.Errorf("%d rows restored; want %d", again.Size(), phones)
	}
	for i := range phones {
		row, ok := again.Resolve(wire.Query{MAC: mac(i)})
		byNumber, found := again.Resolve(wire.Query{Number: row.Number})
		if !ok || row.Sequence < least[i] || !found || byNumber.MAC != row.MAC {
			t.Errorf("row %d restored as %+v, %v; want sequence %d or higher", i, row, ok, least[i])
		}
	}
	for _, cut := range []int{0, 5, 100, out.Len() / 2, out.Len() - 1} {
		if _, err := Restore(t.Context(), filepath.Join(t.TempDir(), "new"), bytes.NewReader(out.Bytes()[:cut])); !errors.Is(err, ErrBackup) {
			t.Errorf("cut at %d: Restore() = %v; want ErrBackup", cut, err)
		}
	}
	changed := bytes.Clone(out.Bytes())
	changed[len(changed)/2] ^= 1
	if _, err := Restore(t.Context(), filepath.Join(t.TempDir(), "new"), bytes.NewReader(changed)); !errors.Is(err, ErrBackup) {
		t.Errorf("changed: Restore() = %v; want ErrBackup", err)
	}
}

// A clock that is set back or forward loses no row, and lets no older
// announcement replace a newer one.
func TestClockIsSet(t *testing.T) {
	var offset atomic.Int64
	said := make(lines, 100)
	changed := make(chan []wire.Query, 100)
	s, err := Open(t.Context(), Options{
		Dir: t.TempDir(), Numbers: Numbers{First: 101, Last: 999}, Log: slog.New(slog.NewTextHandler(said, nil)),
		Now:     func() time.Time { return time.Now().Add(time.Duration(offset.Load())) },
		Changed: func(qs []wire.Query) { changed <- qs },
	})
	if err != nil {
		t.Fatal(err)
	}
	announce := func(n int, sequence uint64) {
		t.Helper()
		if _, _, err := s.Register(t.Context(), key(byte(n)), registration(n, sequence, "192.0.2.1")); err != nil {
			t.Errorf("Register() = %v", err)
		}
		for { // rows that expire are told of as well
			<-changed
			if row, ok := s.Resolve(wire.Query{MAC: mac(n)}); ok && row.Sequence == sequence {
				return
			}
		}
	}
	state := func(n int, want wire.State) {
		t.Helper()
		if row, ok := s.Resolve(wire.Query{MAC: mac(n)}); !ok || row.State != want {
			t.Errorf("row %d: %v, %v; want %v", n, row.State, ok, want)
		}
	}
	warned := func() {
		t.Helper()
		for line := range said {
			if strings.Contains(line, "the clock was set") {
				return
			}
		}
	}
	announce(1, 5)
	offset.Store(int64(-48 * time.Hour))
	state(1, wire.Online)
	announce(2, 1)
	if _, _, err := s.Register(t.Context(), key(1), registration(1, 4, "192.0.2.9")); reason(err) != wire.ReasonStale {
		t.Errorf("an older announcement after the clock was set back: %v", err)
	}
	warned()
	offset.Store(int64(48 * time.Hour))
	state(1, wire.Offline) // until it renews
	announce(1, 6)
	state(1, wire.Online)
	if s.Size() != 2 {
		t.Errorf("%d rows; want 2", s.Size())
	}
	warned()
	s.Close()
}

// lines is a log that a test waits for.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

func rowsFor(n int) iter.Seq[wire.Row] {
	return func(yield func(wire.Row) bool) {
		for i := range n {
			if !yield(wire.Row{
				MAC: wire.MAC{2, 0, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}, Number: fmt.Sprint(1000 + i),
				Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}, Ports: wire.Ports{SIP: 5060},
				Sequence: 1, Since: time.Now(), Expiry: time.Now().Add(time.Hour), Fingerprint: wire.Fingerprint{byte(i)},
			}) {
				return
			}
		}
	}
}

// A server with many rows is soon back. With -rows 1000000 it is measured what
// an operator would wait for.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	if err := Preload(t.Context(), dir, rowsFor(*rows)); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"after a preload", "after a shutdown", "after a crash"} {
		from := dir
		if how == "after a crash" { // copied from under a running server
			s := open(t, dir, nil)
			from = t.TempDir()
			if err := os.CopyFS(from, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			s.Close()
		}
		start := time.Now()
		s := open(t, from, nil)
		t.Logf("%s: %d rows read in %v", how, s.Size(), time.Since(start).Round(time.Millisecond))
		if s.Size() != *rows {
			t.Errorf("%d rows; want %d", s.Size(), *rows)
		}
		s.Close()
	}
}

// FuzzBackup: nothing that is read as a backup does harm.
func FuzzBackup(f *testing.F) {
	var out bytes.Buffer
	w := newFrameWriter(&out)
	for _, x := range []any{backupHead{Partitions: 1}, backupEntry{Subject: "flexphone.number.101", Data: []byte{2, 0, 0, 0, 0, 1}}} {
		if err := w.put(x); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.end(); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes())
	f.Add([]byte(backupMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _, err := CheckBackup(bytes.NewReader(data))
		if err != nil && !errors.Is(err, ErrBackup) {
			t.Errorf("CheckBackup() = %v; want ErrBackup", err)
		}
	})
}
