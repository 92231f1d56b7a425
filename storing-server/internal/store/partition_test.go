package store

import (
	"errors"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

func openParts(t *testing.T, dir string, parts int) (*Store, error) {
	t.Helper()
	return openStreams(t, Options{
		Dir: dir, Partitions: parts, Numbers: Numbers{First: 101, Last: 99999999}, Log: slog.New(slog.DiscardHandler),
	})
}

// Divided rows are found again, with numbers of their own, and are not divided
// in another way later.
func TestPartitions(t *testing.T) {
	const parts, phones = 4, 200
	dir := t.TempDir()
	s, err := openParts(t, dir, parts)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for n := range phones {
		all.Go(func() {
			row, created, err := s.Register(t.Context(), key(byte(n)), registration(n, 1, "192.0.2.1"))
			if err != nil || !created || row.Number == "" || numberPart(row.Number, parts) != rowPart(mac(n), parts) {
				t.Errorf("phone %d: %+v, %v, %v; want a number of its partition", n, row, created, err)
			}
		})
	}
	all.Wait()
	used := map[int]bool{}
	for n := range phones {
		used[rowPart(mac(n), parts)] = true
	}
	if len(used) != parts {
		t.Errorf("%d partitions are used; want %d", len(used), parts)
	}
	// A number of another partition, which two batches write.
	far := ""
	for i := 5000; far == ""; i++ {
		if d := strconv.Itoa(i); numberPart(d, parts) != rowPart(mac(3), parts) {
			far = d
		}
	}
	if err := s.SetNumber(t.Context(), mac(3), far); err != nil {
		t.Fatal(err)
	}
	if err := s.SetNumber(t.Context(), mac(4), far); !errors.Is(err, ErrNumberTaken) {
		t.Errorf("SetNumber() to a number in use = %v; want ErrNumberTaken", err)
	}
	s.Close()

	if _, err := openParts(t, dir, parts+1); !errors.Is(err, ErrPartitions) {
		t.Errorf("Open() with another number of partitions = %v; want ErrPartitions", err)
	}
	for _, asked := range []int{parts, 0} {
		s, err := openParts(t, dir, asked)
		if err != nil {
			t.Fatal(err)
		}
		if row, ok := s.Resolve(wire.Query{Number: far}); !ok || row.MAC != mac(3) || row.Number != far || s.Size() != phones {
			t.Errorf("with %d partitions asked for: %s is %+v, %v, of %d rows; want phone 3 of %d", asked, far, row, ok, s.Size(), phones)
		}
		s.Close()
	}
}

// Preloaded rows are like those that were announced.
func TestPreload(t *testing.T) {
	const phones = 2000
	dir := t.TempDir()
	now := time.Now().Truncate(time.Millisecond)
	rowOf := func(n int) wire.Row {
		return wire.Row{
			MAC: mac(n), Number: strconv.Itoa(101 + n), Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Ports: wire.Ports{SIP: 5060},
			Fingerprint: key(1), Sequence: 7, Expiry: now.Add(time.Hour), State: wire.Online, Since: now,
		}
	}
	if err := Preload(t.Context(), dir, func(yield func(wire.Row) bool) {
		for n := range phones {
			if !yield(rowOf(n)) {
				return
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, nil)
	defer s.Close()
	if s.Size() != phones {
		t.Errorf("%d rows; want %d", s.Size(), phones)
	}
	for _, n := range []int{0, 449, 450, phones - 1} {
		want := rowOf(n)
		got, ok := s.Resolve(wire.Query{Number: want.Number})
		if !ok || got.MAC != want.MAC || got.Sequence != 7 || got.State != wire.Online || !got.Expiry.Equal(want.Expiry) {
			t.Errorf("row %d is %+v; want %+v", n, got, want)
		}
	}
	if _, _, err := s.Register(t.Context(), key(1), registration(5, 8, "192.0.2.2")); err != nil {
		t.Errorf("owner moves: %v", err)
	}
	if _, _, err := s.Register(t.Context(), key(2), registration(6, 8, "192.0.2.2")); reason(err) != wire.ReasonForeign {
		t.Errorf("another moves: %v; want foreign", err)
	}
	row, _, err := s.Register(t.Context(), key(2), registration(phones, 1, "192.0.2.2"))
	if err != nil || row.Number != strconv.Itoa(101+phones) {
		t.Errorf("new phone: %+v, %v; want the next number", row, err)
	}
}
