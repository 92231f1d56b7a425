package store

import (
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A link is good for its numbers, so many calls, and until its time is over, also
// after a restart.
func TestCallLinks(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1e9, 0)
	var passed atomic.Int64 // in nanoseconds
	open := func() *Store {
		t.Helper()
		s, err := Open(t.Context(), Options{Dir: dir, Numbers: Numbers{First: 101, Last: 999}, Now: func() time.Time { return now.Add(time.Duration(passed.Load())) }, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	defer func() { s.Close() }()
	h := CallLinkHash{1}
	made, err := s.AddCallLink(t.Context(), h, CallLink{Name: "Ada", Numbers: []string{"101", "102"}, Times: 2, Expires: now.Add(time.Hour)})
	if err != nil || made.ID != "01000000" {
		t.Fatalf("made %+v, %v", made, err)
	}
	use := func(number string, want error) {
		t.Helper()
		if err := s.UseCallLink(t.Context(), h, number); !errors.Is(err, want) {
			t.Errorf("a call to %s: %v; want %v", number, err, want)
		}
	}
	use("101", nil)
	use("103", ErrCallLinkNumber)
	s.Close()
	s = open()
	use("102", nil)
	use("101", ErrCallLinkUsed)
	if l, ok := s.CallLink(h); !ok || l.Used != 2 || l.Name != "Ada" {
		t.Errorf("it is %+v, %v", l, ok)
	}
	if _, err := s.AddCallLink(t.Context(), CallLinkHash{2}, CallLink{Name: "Bob", Expires: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	h = CallLinkHash{2}
	use("999", nil)
	passed.Store(int64(time.Hour))
	use("999", ErrCallLinkOver)
	if all := s.CallLinks(); len(all) != 2 {
		t.Errorf("there are %+v", all)
	}
	if err := s.RevokeCallLink(t.Context(), "02000000"); err != nil {
		t.Error(err)
	}
	use("999", ErrNoCallLink)
	if err := s.RevokeCallLink(t.Context(), "02000000"); !errors.Is(err, ErrNoCallLink) {
		t.Errorf("revoked again: %v", err)
	}
	for _, l := range []CallLink{
		{}, {Name: "a\nb"}, {Name: strings.Repeat("a", 41)}, {Name: "a", Numbers: []string{"1"}}, {Name: "a", Times: -1}, {Name: "a", Numbers: make([]string, 17)},
	} {
		if _, err := s.AddCallLink(t.Context(), CallLinkHash{3}, l); err == nil {
			t.Errorf("%+v is made", l)
		}
	}
}
