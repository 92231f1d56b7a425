package store

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/registry-client/wire"
)

// A hundred disks that fill up at some byte of some batch, or while the journal is
// written anew, and have room again later: what was acknowledged is there, then and
// after a restart, and nothing that was refused has replaced it.
func TestFullDisks(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a small disk")
	}
	const disks, phones = 100, 20
	seed := [2]uint64{rand.Uint64(), rand.Uint64()}
	t.Logf("seed %v", seed)
	random := rand.New(rand.NewPCG(seed[0], seed[1]))
	at := t.TempDir()
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) }) // of a disk that a failure has left
	refused, renewals := 0, 0
	for range disks {
		// A page more or less decides where it ends.
		size := (96 + random.IntN(64)) << 10
		if err := unix.Mount("none", at, "tmpfs", 0, "size="+strconv.Itoa(size)); err != nil {
			t.Fatalf("mount a small disk: %v", err)
		}
		r, n := fillOne(t, filepath.Join(at, "data"), random, phones)
		refused, renewals = refused+r, renewals+n
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	}
	if t.Logf("%d changes were refused, the journal was to be written anew %d times", refused, renewals); refused < disks {
		t.Errorf("%d changes were refused on %d disks; want one on each at least", refused, disks)
	}
}

// fillOne lets phones move until the disk is full, makes room, and lets them move
// again.
func fillOne(t *testing.T, dir string, random *rand.Rand, phones int) (refused, renewals int) {
	t.Helper()
	opts := Options{Dir: dir, Numbers: Numbers{First: 101, Last: 999}, Log: slog.New(slog.DiscardHandler)}
	s, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Close() }()
	// The reserve would turn changes away long before the disk does.
	s.disk.asked.Store(time.Now().Add(time.Hour).UnixNano())
	unreserved := func() {
		s.disk.full.Store(false)
		s.disk.asked.Store(time.Now().UnixNano())
	}
	acknowledged := make([]uint64, phones)
	sequence := uint64(0)
	move := func() error {
		unreserved()
		sequence++
		n := random.IntN(phones)
		_, _, err := s.Register(t.Context(), key(byte(n)), registration(n, sequence, "192.0.2.1"))
		if err == nil {
			acknowledged[n] = sequence
		} else if !errors.Is(err, ErrUnavailable) {
			t.Fatalf("Register() on a full disk = %v; want ErrUnavailable", err)
		}
		return err
	}
	check := func(when string) {
		t.Helper()
		for n, want := range acknowledged {
			row, ok := s.Resolve(wire.Query{MAC: mac(n)})
			if ok != (want > 0) || row.Sequence != want {
				t.Fatalf("%s: row %d is %+v, %v; want sequence %d", when, n, row, ok, want)
			}
		}
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 16<<10+random.IntN(32<<10)), 0o600); err != nil {
		t.Fatal(err)
	}
	for full := 0; full < 5; {
		if move() != nil {
			full++
			refused++
		}
		if random.IntN(50) == 0 && renewals < 2 {
			renewals++
			s.engine.(*local).thrive(-renewLeast / renewTimes) // worn with whatever it has
		}
	}
	check("on a full disk")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	for moved := 0; moved < 20; {
		if move() == nil {
			moved++
		} else if refused++; refused > 1000 {
			t.Fatal("nothing is taken though there is room")
		}
	}
	check("with room again")
	s.Close()
	if s, err = Open(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	check("after a restart")
	return refused, renewals
}
