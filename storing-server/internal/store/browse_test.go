package store

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

// A phone's history outlives the server, is bounded, and says where the phone
// was and when.
func TestHistory(t *testing.T) {
	dir := t.TempDir()
	var passed atomic.Int64 // seconds
	pass := func(by time.Duration) { passed.Add(int64(by / time.Second)) }
	now := func() time.Time { return time.Unix(1_900_000_000+passed.Load(), 0) }
	start := func() *Store {
		s, err := Open(t.Context(), Options{Dir: dir, Numbers: Numbers{First: 101, Last: 999}, Now: now, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := start()
	if _, ok := s.History(mac(1)); ok {
		t.Error("a phone that nobody knows has a history")
	}
	sequence := uint64(0)
	announce := func(addr string) {
		t.Helper()
		sequence++
		if _, _, err := s.Register(t.Context(), key(1), registration(1, sequence, addr)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, lines ...string) {
		t.Helper()
		stays, _ := s.History(mac(1))
		var got []string
		for _, st := range stays {
			until := "now"
			if !st.Until.IsZero() {
				until = fmt.Sprint(st.Until.Unix() - 1_900_000_000)
			}
			got = append(got, fmt.Sprintf("%v %d-%s", st.Addrs[0], st.From.Unix()-1_900_000_000, until))
		}
		if !slices.Equal(got, lines) {
			t.Errorf("%s: history %q; want %q", what, got, lines)
		}
	}
	announce("192.0.2.1")
	want("first", "192.0.2.1 0-now")
	pass(10 * time.Second)
	announce("192.0.2.1") // renewed
	announce("192.0.2.2")
	want("moved", "192.0.2.2 10-now", "192.0.2.1 0-10")
	pass(10 * time.Second)
	sequence++
	if err := s.Release(t.Context(), key(1), wire.Withdrawal{MAC: mac(1), Sequence: sequence}); err != nil {
		t.Fatal(err)
	}
	want("released", "192.0.2.2 10-20", "192.0.2.1 0-10")
	pass(10 * time.Second)
	announce("2001:db8::3")
	want("back elsewhere", "2001:db8::3 30-now", "192.0.2.2 10-20", "192.0.2.1 0-10")
	pass(2 * time.Hour)
	want("vanished", "2001:db8::3 30-3630", "192.0.2.2 10-20", "192.0.2.1 0-10")
	announce("192.0.2.4")
	s.Close()
	s = start()
	want("after a restart", "192.0.2.4 7230-now", "2001:db8::3 30-3630", "192.0.2.2 10-20", "192.0.2.1 0-10")
	for i := range 100 {
		pass(time.Second)
		announce(fmt.Sprintf("198.51.100.%d", i))
	}
	if stays, _ := s.History(mac(1)); len(stays) != 1+historyMost || stays[historyMost].Addrs[0] != netip.MustParseAddr("198.51.100.89") {
		t.Errorf("after a hundred moves: %d stays, the oldest at %v", len(stays), stays[len(stays)-1].Addrs)
	}
	if e, _ := s.table.row(mac(1)); len(e.Trail) > 16*historyMost {
		t.Errorf("the history takes %d bytes", len(e.Trail))
	}
	s.Close()
}

// The operator's pages: every row once, in order, forwards and backwards, and
// what is searched for.
func TestPage(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	defer s.Close()
	const phones = 2*stride + 50
	for i := range phones {
		r := record{MAC: mac(i + 1), Owner: key(byte(i)), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i % 64), 1})}, Expiry: momentOf(time.Now().Add(time.Hour))}
		s.table.putRow(nil, r.MAC, &r, uint64(i+1))
	}
	s.table.putRow(nil, mac(7), nil, phones+1)
	for _, sel := range []Selection{{}, {MAC: "02005e0004"}, {Addr: netip.MustParseAddr("10.0.5.1")}, {Key: strings.Repeat("0", 20)}, {MAC: mac(9).Hex()}, {MAC: mac(7).Hex()}, {Number: "101"}, {Key: "ff", MAC: "02"}} {
		var want, forwards, backwards []string
		for r := range s.Rows() {
			if e, _ := s.table.row(r.MAC); sel.has(e.record) {
				want = append(want, r.MAC.Hex())
			}
		}
		for at, more := (wire.MAC{}), true; more; {
			var page []wire.Row
			var err error
			page, more, err = s.Page(t.Context(), sel, at, false, 7)
			if err != nil || more && len(page) != 7 {
				t.Fatalf("%+v: a page of %d rows, more %v, %v", sel, len(page), more, err)
			}
			for _, r := range page {
				forwards = append(forwards, r.MAC.Hex())
				at = r.MAC
			}
		}
		for at, more := (wire.MAC{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff}), true; more; {
			var page []wire.Row
			page, more, _ = s.Page(t.Context(), sel, at, true, 7)
			for _, r := range slices.Backward(page) {
				backwards = append(backwards, r.MAC.Hex())
			}
			if len(page) > 0 {
				at = page[0].MAC
			}
		}
		slices.Reverse(backwards)
		if !slices.Equal(forwards, want) || !slices.Equal(backwards, want) {
			t.Errorf("%+v: %d rows forwards, %d backwards; want %d", sel, len(forwards), len(backwards), len(want))
		}
	}
	if n := s.Size(); n != phones-1 {
		t.Errorf("%d rows; want %d", n, phones-1)
	}
}

// FuzzTrail: what is read as a history is written again as it was.
func FuzzTrail(f *testing.F) {
	now := time.Unix(1_900_000_000, 0)
	f.Add([]byte(trailOf(now, nil)))
	f.Add([]byte(trailOf(now, []Stay{
		{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, From: now.Add(-time.Hour), Until: now},
		{From: now.Add(-2 * time.Hour), Until: now.Add(-time.Hour)},
	})))
	f.Fuzz(func(t *testing.T, b []byte) {
		here, before, err := trail(b).stays()
		if err != nil {
			return
		}
		again, stays, err := trailOf(here, before).stays()
		if err != nil || !again.Equal(here) || !slices.EqualFunc(stays, before, func(a, b Stay) bool {
			return slices.Equal(a.Addrs, b.Addrs) && a.From.Equal(b.From) && a.Until.Equal(b.Until)
		}) {
			t.Errorf("%x: %v %v, and then %v %v, %v", b, here, before, again, stays, err)
		}
		// The address changes: what was the present joins the earlier ones.
		old := record{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.7")}, Expiry: momentOf(now.Add(time.Hour)), Trail: trail(b)}
		moved, stays, err := old.trailTo([]netip.Addr{netip.MustParseAddr("192.0.2.8")}, now).stays()
		want := append([]Stay{{Addrs: old.Addrs, From: here, Until: now}}, before...)
		want = want[:min(len(want), historyMost)]
		if err != nil || !moved.Equal(now) || len(stays) != len(want) || !slices.Equal(stays[0].Addrs, old.Addrs) ||
			!slices.EqualFunc(stays[1:], want[1:], func(a, b Stay) bool {
				return slices.Equal(a.Addrs, b.Addrs) && a.From.Equal(b.From) && a.Until.Equal(b.Until)
			}) {
			t.Errorf("%x after a change: %v %v, %v; want %v", b, moved, stays, err, want)
		}
	})
}
