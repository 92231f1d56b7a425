package store

import (
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

// An approval is of one key and one MAC, is kept over a restart, is used up,
// ends after a week, and counts only where the operator lets single keys in.
func TestApproval(t *testing.T) {
	dir := t.TempDir()
	var now atomic.Int64 // seconds of Unix time
	now.Store(1e9)
	var events []Event
	open := func() *Store {
		t.Helper()
		s, err := Open(t.Context(), Options{
			Dir: dir, Numbers: Numbers{First: 101, Last: 999}, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(now.Load(), 0) },
			Audit: func(es []Event) error { events = append(events, es...); return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	ctx := t.Context()
	come := func(n int, sequence uint64, c Claim, want bool) {
		t.Helper()
		_, created, err := s.Announce(ctx, c, registration(n, sequence, "192.0.2.1"))
		var e *Error
		if created != want || !want && (!errors.As(err, &e) || e.Reason != wire.ReasonPolicy) {
			t.Errorf("phone %d: created %v, %v; want %v", n, created, err, want)
		}
	}
	waits := func(k byte) Claim { return Claim{Key: key(k), Approval: true} }
	come(1, 1, waits(1), false)
	for n := 1; n <= 2; n++ {
		if err := s.Approve(ctx, mac(n), key(1)); err != nil {
			t.Fatal(err)
		}
	}
	come(1, 1, waits(2), false)           // another key
	come(3, 1, waits(1), false)           // another phone
	come(1, 1, Claim{Key: key(1)}, false) // nobody is let in singly
	s.Close()
	s = open()
	defer func() { s.Close() }()
	come(1, 1, waits(1), true)
	if last := events[len(events)-1]; last.Event != EventEnrolled || last.By != "approval" {
		t.Errorf("the last event is %+v", last)
	}
	if !slices.Contains(names(events), EventApproved) {
		t.Errorf("events: %v", names(events))
	}
	if err := s.Approve(ctx, mac(1), key(2)); !errors.Is(err, ErrOwned) {
		t.Errorf("a phone that has an owner: %v; want ErrOwned", err)
	}
	if err := s.ForgetKey(ctx, mac(1)); err != nil {
		t.Fatal(err)
	}
	come(1, 2, waits(1), false) // it was used up
	now.Add(int64(approvalLasts / time.Second))
	come(2, 1, waits(1), false) // it has ended
	for _, one := range []struct {
		mac wire.MAC
		key wire.Fingerprint
	}{{mac(5), wire.Fingerprint{}}, {wire.MAC{}, key(1)}} {
		if err := s.Approve(ctx, one.mac, one.key); !errors.Is(err, wire.ErrInvalid) {
			t.Errorf("%v: %v; want ErrInvalid", one, err)
		}
	}
}
