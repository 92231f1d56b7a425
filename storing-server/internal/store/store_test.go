package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

func open(t *testing.T, dir string, changed func([]wire.Query)) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{
		Dir: dir, Numbers: Numbers{First: 101, Last: 99999999}, Changed: changed, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mac(n int) wire.MAC { return wire.MAC{2, 0, 0x5e, 0, byte(n >> 8), byte(n)} }

func key(n byte) wire.Fingerprint { return wire.Fingerprint{n} }

func registration(n int, sequence uint64, addr string) wire.Registration {
	return wire.Registration{
		MAC: mac(n), Addrs: []netip.Addr{netip.MustParseAddr(addr)},
		Ports: wire.Ports{SIP: 5060}, Sequence: sequence, Lifetime: time.Hour,
	}
}

func reason(err error) wire.Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return wire.ReasonNone
}

// What a registration answers, in each situation of a row.
func TestRegister(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	defer s.Close()
	ctx := t.Context()
	row, created, err := s.Register(ctx, key(1), registration(1, 7, "192.0.2.1"))
	if err != nil || !created || row.Number != "101" || row.State != wire.Online {
		t.Fatalf("first: %+v, %v, %v; want number 101, online, created", row, created, err)
	}
	row, created, err = s.Register(ctx, key(2), registration(2, 1, "192.0.2.2"))
	if err != nil || !created || row.Number != "102" {
		t.Errorf("second phone: %+v, %v, %v; want number 102", row, created, err)
	}
	for _, tt := range []struct {
		name string
		key  wire.Fingerprint
		r    wire.Registration
		want wire.Reason
		seq  uint64
	}{
		{"lower sequence", key(1), registration(1, 6, "192.0.2.9"), wire.ReasonStale, 7},
		{"same sequence, other address", key(1), registration(1, 7, "192.0.2.9"), wire.ReasonStale, 7},
		{"another key", key(3), registration(1, 8, "192.0.2.9"), wire.ReasonForeign, 0},
		{"the same again", key(1), registration(1, 7, "192.0.2.1"), wire.ReasonNone, 0},
	} {
		_, created, err := s.Register(ctx, tt.key, tt.r)
		var e *Error
		if tt.want == wire.ReasonNone {
			if err != nil || created {
				t.Errorf("%s: %v, %v; want it confirmed", tt.name, created, err)
			}
			continue
		}
		if !errors.As(err, &e) || e.Reason != tt.want || e.Sequence != tt.seq {
			t.Errorf("%s: %v; want reason %v and sequence %d", tt.name, err, tt.want, tt.seq)
		}
	}
	if row, ok := s.Resolve(wire.Query{MAC: mac(1)}); !ok || row.Addrs[0] != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("row after refusals: %+v, %v; want it unchanged", row, ok)
	}
	row, created, err = s.Register(ctx, key(1), registration(1, 8, "192.0.2.3"))
	if err != nil || created || row.Number != "101" || row.Addrs[0] != netip.MustParseAddr("192.0.2.3") {
		t.Errorf("moved: %+v, %v, %v", row, created, err)
	}
	if row, ok := s.Resolve(wire.Query{Number: "101"}); !ok || row.MAC != mac(1) {
		t.Errorf("by number: %+v, %v", row, ok)
	}
	if row, ok := s.Resolve(wire.Query{Addr: netip.MustParseAddr("192.0.2.3")}); !ok || row.MAC != mac(1) {
		t.Errorf("by address: %+v, %v", row, ok)
	}
	if row, ok := s.Resolve(wire.Query{Addr: netip.MustParseAddr("192.0.2.1")}); ok {
		t.Errorf("by the old address: %+v; want none", row)
	}
}

func TestRelease(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	defer s.Close()
	ctx := t.Context()
	if err := s.Release(ctx, key(1), wire.Withdrawal{MAC: mac(1), Sequence: 1}); reason(err) != wire.ReasonUnknown {
		t.Errorf("release of nothing: %v; want unknown", err)
	}
	if _, _, err := s.Register(ctx, key(1), registration(1, 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if err := s.Release(ctx, key(2), wire.Withdrawal{MAC: mac(1), Sequence: 2}); reason(err) != wire.ReasonForeign {
		t.Errorf("foreign release: %v; want foreign", err)
	}
	if err := s.Release(ctx, key(1), wire.Withdrawal{MAC: mac(1), Sequence: 1}); reason(err) != wire.ReasonStale {
		t.Errorf("stale release: %v; want stale", err)
	}
	for range 2 { // the second time its answer was lost
		if err := s.Release(ctx, key(1), wire.Withdrawal{MAC: mac(1), Sequence: 2}); err != nil {
			t.Errorf("release: %v", err)
		}
	}
	row, ok := s.Resolve(wire.Query{Number: "101"})
	if !ok || row.State != wire.Offline || row.Fingerprint != key(1) {
		t.Errorf("released row: %+v, %v; want it offline, with number and owner", row, ok)
	}
	if _, _, err := s.Register(ctx, key(1), registration(1, 2, "192.0.2.1")); reason(err) != wire.ReasonStale {
		t.Errorf("announcement older than the release: %v; want stale", err)
	}
}

// A number never has two owners, whatever comes at the same time.
func TestNumbers(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	defer s.Close()
	ctx := t.Context()
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			if _, _, err := s.Register(ctx, key(byte(i)), registration(i, 1, fmt.Sprintf("192.0.2.%d", i+1))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	got := make(chan error, 40)
	for i := range 40 {
		all.Go(func() { got <- s.SetNumber(ctx, mac(i), "77777") })
	}
	all.Wait()
	close(got)
	given := 0
	for err := range got {
		switch {
		case err == nil:
			given++
		case !errors.Is(err, ErrNumberTaken):
			t.Error(err)
		}
	}
	if given != 1 {
		t.Errorf("77777 was given to %d phones; want 1", given)
	}
	owner := map[string]wire.MAC{}
	for row := range s.Rows() {
		if other, ok := owner[row.Number]; ok || row.Number == "" {
			t.Errorf("number %q of %v is %v's too", row.Number, row.MAC, other)
		}
		owner[row.Number] = row.MAC
		if back, ok := s.Resolve(wire.Query{Number: row.Number}); !ok || back.MAC != row.MAC {
			t.Errorf("%s leads to %v; want %v", row.Number, back.MAC, row.MAC)
		}
	}
	if len(owner) != 40 {
		t.Errorf("%d numbers for 40 phones", len(owner))
	}
	if err := s.SetNumber(ctx, mac(999), "55555"); reason(err) != wire.ReasonUnknown {
		t.Errorf("number for nobody: %v", err)
	}
}

// Rows, numbers, owners and releases are the same after a restart.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	ctx := t.Context()
	for i := range 5 {
		if _, _, err := s.Register(ctx, key(byte(i)), registration(i, 5, fmt.Sprintf("192.0.2.%d", i+1))); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		s.Release(ctx, key(1), wire.Withdrawal{MAC: mac(1), Sequence: 6}),
		s.SetNumber(ctx, mac(2), "555"),
		s.Forget(ctx, mac(3)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var before []wire.Row
	for row := range s.Rows() {
		before = append(before, row)
	}
	if _, err := Open(ctx, Options{Dir: dir, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open: %v; want ErrLocked", err)
	}
	s.Close()
	s = open(t, dir, nil)
	defer s.Close()
	i := 0
	for row := range s.Rows() {
		if row.MAC != before[i].MAC || row.Number != before[i].Number || row.Sequence != before[i].Sequence ||
			row.State != before[i].State || row.Fingerprint != before[i].Fingerprint ||
			row.Addrs[0] != before[i].Addrs[0] || row.Since.UnixMilli() != before[i].Since.UnixMilli() {
			t.Errorf("row %d = %+v; want %+v", i, row, before[i])
		}
		i++
	}
	if i != 4 || len(before) != 4 {
		t.Errorf("%d rows of %d; want 4", i, len(before))
	}
	// The table's places in the journal are right: changes are taken.
	if row, _, err := s.Register(ctx, key(9), registration(3, 1, "192.0.2.99")); err != nil || row.Number != "103" {
		t.Errorf("forgotten phone: %+v, %v; want the lowest free number, 103", row, err)
	}
	if _, _, err := s.Register(ctx, key(0), registration(0, 6, "192.0.2.77")); err != nil {
		t.Error(err)
	}
	if err := s.SetNumber(ctx, mac(0), "102"); !errors.Is(err, ErrNumberTaken) {
		t.Errorf("SetNumber to a released phone's number: %v; want ErrNumberTaken", err)
	}
}

// Somebody else's write, as another server of a cluster makes it, turns a
// batch down whole; the table learns from it, and what was asked is judged
// again.
func TestConflict(t *testing.T) {
	s, err := openStreams(t, Options{Dir: t.TempDir(), Numbers: Numbers{First: 101, Last: 999}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := t.Context()
	row, _, err := s.Register(ctx, key(1), registration(1, 1, "192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	e, _ := s.table.row(mac(1))
	other := e.record
	other.Sequence, other.Addrs = 50, []netip.Addr{netip.MustParseAddr("192.0.2.50")}
	if _, err := s.engine.commit(ctx, 0, []message{{subject: rowSubject(mac(1)), row: &other, base: e.seq}}, perSubject); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Register(ctx, key(1), registration(1, 2, "192.0.2.2")); reason(err) != wire.ReasonStale {
		t.Errorf("Register over a newer row = %v; want stale", err)
	}
	if got, _ := s.Resolve(wire.Query{Number: row.Number}); got.Sequence != 50 {
		t.Errorf("row = %+v; want the other server's", got)
	}
}

// Observers are told of each query whose answer changes, and when a row
// expires by itself.
func TestChanged(t *testing.T) {
	changes := make(chan []wire.Query, 16)
	s := open(t, t.TempDir(), func(qs []wire.Query) { changes <- qs })
	defer s.Close()
	ctx := t.Context()
	r := registration(1, 1, "192.0.2.1")
	r.Lifetime = time.Second
	wants := func(qs []wire.Query, want ...wire.Query) {
		t.Helper()
		for _, w := range want {
			found := false
			for _, q := range qs {
				found = found || q == w
			}
			if !found {
				t.Errorf("told of %v; want %v among them", qs, w)
			}
		}
	}
	if _, _, err := s.Register(ctx, key(1), r); err != nil {
		t.Fatal(err)
	}
	wants(<-changes, wire.Query{MAC: mac(1)}, wire.Query{Number: "101"}, wire.Query{Addr: r.Addrs[0]})
	wants(<-changes, wire.Query{MAC: mac(1)}, wire.Query{Number: "101"}) // it expired
	if row, _ := s.Resolve(wire.Query{MAC: mac(1)}); row.State != wire.Offline || row.Number != "101" {
		t.Errorf("expired row = %+v; want it offline, with its number", row)
	}
	if err := s.SetNumber(ctx, mac(1), "200"); err != nil {
		t.Fatal(err)
	}
	wants(<-changes, wire.Query{Number: "101"}, wire.Query{Number: "200"}, wire.Query{MAC: mac(1)})
}

func BenchmarkRegister(b *testing.B) {
	s, err := Open(b.Context(), Options{Dir: b.TempDir(), Numbers: Numbers{First: 101, Last: 99999999}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var n sync.Mutex
	next := 0
	b.SetParallelism(500)
	b.RunParallel(func(pb *testing.PB) {
		n.Lock()
		next++
		me := next
		n.Unlock()
		for seq := uint64(1); pb.Next(); seq++ {
			if _, _, err := s.Register(context.Background(), key(1), registration(me, seq, "192.0.2.1")); err != nil {
				b.Error(err)
			}
		}
	})
}
