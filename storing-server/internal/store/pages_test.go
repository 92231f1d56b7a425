package store

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

// A browser has the same number whenever it comes again, also after a restart; another
// has another one, and as many have one as may.
func TestPages(t *testing.T) {
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
	link := CallLinkHash{9}
	if _, err := s.AddCallLink(t.Context(), link, CallLink{Name: "Ada", Receives: true, Expires: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	opens := func(hash byte, by *CallLinkHash, number, name string) wire.MAC {
		t.Helper()
		row, err := s.OpenPage(t.Context(), PageHash{hash}, by, "operator", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := s.Resolve(wire.Query{Number: number})
		if !ok || got.MAC != row.MAC || !wire.IsBrowser(row.MAC) || got.Name != name || got.State != wire.Online || len(got.Addrs) > 0 {
			t.Errorf("browser %d opens %+v; %s is %+v", hash, row, number, got)
		}
		if mac, ok := s.PageMAC(PageHash{hash}); !ok || mac != row.MAC {
			t.Errorf("browser %d is %v, %v; want %v", hash, mac, ok, row.MAC)
		}
		return row.MAC
	}
	state := func(number string, want wire.State) {
		t.Helper()
		if row, ok := s.Resolve(wire.Query{Number: number}); !ok || row.State != want {
			t.Errorf("%s is %+v, %v; want it %s", number, row, ok, want)
		}
	}
	first := opens(1, &link, "101", "Ada")
	opens(2, nil, "102", "operator")
	// Two hashes that begin alike.
	if row, err := s.OpenPage(t.Context(), PageHash{1, 3: 7}, &link, "", time.Minute); err != nil || row.Number != "103" || row.MAC == first {
		t.Errorf("one like the first: %+v, %v", row, err)
	}
	if err := s.ClosePage(t.Context(), first, func() bool { return true }); err != nil {
		t.Fatal(err)
	}
	state("101", wire.Online) // another page is open
	if err := s.ClosePage(t.Context(), first, func() bool { return false }); err != nil {
		t.Fatal(err)
	}
	state("101", wire.Offline)
	s.Close()
	s = open()
	state("101", wire.Offline)
	opens(1, &link, "101", "Ada")
	passed.Store(int64(time.Minute))
	state("101", wire.Offline) // its server says no more
	opens(1, &link, "101", "Ada")

	opens(3, &link, "104", "Ada")
	opens(4, &link, "105", "Ada")
	if _, err := s.OpenPage(t.Context(), PageHash{5}, &link, "", time.Minute); !errors.Is(err, ErrTooManyPages) {
		t.Errorf("a browser too many: %v", err)
	}
	opens(2, nil, "102", "operator")
	if err := s.Forget(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Resolve(wire.Query{MAC: first}); ok {
		t.Error("what was forgotten is there")
	}
	opens(6, &link, "101", "Ada") // there is room for another

	passed.Store(int64(time.Hour))
	if _, err := s.OpenPage(t.Context(), PageHash{1}, &link, "", time.Minute); !errors.Is(err, ErrCallLinkOver) {
		t.Errorf("when the link is over: %v", err)
	}
	if err := s.RevokeCallLink(t.Context(), "09000000"); err != nil {
		t.Fatal(err)
	}
	for number, want := range map[string]bool{"101": false, "102": true, "103": false, "104": false, "105": false} {
		if _, ok := s.Resolve(wire.Query{Number: number}); ok != want {
			t.Errorf("after its revocation %s is there: %v", number, ok)
		}
	}
	if _, err := s.OpenPage(t.Context(), PageHash{1}, &link, "", time.Minute); !errors.Is(err, ErrNoCallLink) {
		t.Errorf("when the link is revoked: %v", err)
	}
}

// A link is for calling or for being called.
func TestLinksForOneThing(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	calls, called := CallLinkHash{1}, CallLinkHash{2}
	if _, err := s.AddCallLink(t.Context(), calls, CallLink{Name: "Ada"}); err != nil {
		t.Fatal(err)
	}
	if l, err := s.AddCallLink(t.Context(), called, CallLink{Name: "Ada", Receives: true}); err != nil || !l.Receives || l.Times != 0 || l.Used != 0 {
		t.Fatalf("%+v, %v", l, err)
	}
	if err := s.UseCallLink(t.Context(), called, "101"); !errors.Is(err, ErrCallLinkOther) {
		t.Errorf("a call by a link for being called: %v", err)
	}
	if _, err := s.OpenPage(t.Context(), PageHash{1}, &calls, "", time.Minute); !errors.Is(err, ErrCallLinkOther) {
		t.Errorf("called by a link for calling: %v", err)
	}
	for _, l := range []CallLink{{Name: "Ada", Receives: true, Times: 1}, {Name: "Ada", Receives: true, Numbers: []string{"101"}}} {
		if _, err := s.AddCallLink(t.Context(), CallLinkHash{3}, l); err == nil {
			t.Errorf("%+v is made", l)
		}
	}
}
