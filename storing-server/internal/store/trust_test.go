package store

import (
	"errors"
	"log/slog"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

// openWith opens a store whose audit log is the slice that it returns.
func openWith(t *testing.T, dir string, numbers Numbers) (*Store, *[]Event) {
	t.Helper()
	events := &[]Event{}
	s, err := Open(t.Context(), Options{
		Dir: dir, Numbers: numbers, Log: slog.New(slog.DiscardHandler),
		Audit: func(es []Event) error { *events = append(*events, es...); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, events
}

func names(events []Event) (out []string) {
	for _, e := range events {
		out = append(out, e.Event)
	}
	return out
}

// A number that was freed is given to nobody until it has rested, also not
// after a restart; the operator can end its rest.
func TestNumbersRest(t *testing.T) {
	dir := t.TempDir()
	numbers := Numbers{First: 101, Last: 104, Rest: time.Hour}
	s, _ := openWith(t, dir, numbers)
	ctx := t.Context()
	for i := 1; i <= 2; i++ {
		if _, _, err := s.Register(ctx, key(1), registration(i, 1, "192.0.2.1")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Forget(ctx, mac(1)); err != nil { // frees 101
		t.Fatal(err)
	}
	s.Close()
	s, _ = openWith(t, dir, numbers)
	defer s.Close()
	if err := s.SetNumber(ctx, mac(2), "101"); !errors.Is(err, ErrNumberRests) {
		t.Errorf("SetNumber() of a number that rests = %v; want ErrNumberRests", err)
	}
	give := func(n int, want string) {
		t.Helper()
		row, _, err := s.Register(ctx, key(1), registration(n, 1, "192.0.2.1"))
		if err != nil || row.Number != want {
			t.Errorf("phone %d got number %q, %v; want %q", n, row.Number, err, want)
		}
	}
	give(3, "103")
	if err := s.SetNumber(ctx, mac(2), "777"); err != nil { // frees 102
		t.Fatal(err)
	}
	give(4, "104")
	give(5, "")
	if err := s.FreeNumber(ctx, "777"); !errors.Is(err, ErrNumberTaken) {
		t.Errorf("FreeNumber() of a number in use = %v; want ErrNumberTaken", err)
	}
	if err := s.FreeNumber(ctx, "102"); err != nil {
		t.Fatal(err)
	}
	give(6, "102")
	give(7, "")
}

// When its rest is over, a number is given out again by itself.
func TestRestEnds(t *testing.T) {
	lowest := 101
	tab := newTable()
	start := time.UnixMilli(1_000_000)
	numbers := Numbers{First: 101, Last: 200, Rest: time.Minute}
	seq := uint64(0)
	step := func(now time.Time, act func(*view) error) {
		t.Helper()
		v := newView(tab, now, &lowest)
		if err := act(v); err != nil {
			t.Fatal(err)
		}
		_, ms := v.messages()
		tab.place(nil, ms[0], seq+1)
		seq += uint64(len(ms[0]))
	}
	enrol := func(now time.Time, n int, want string) {
		t.Helper()
		step(now, func(v *view) error {
			_, err := v.register(Claim{Key: key(1), Entitled: true}, registration(n, 1, "192.0.2.1"), numbers)
			return err
		})
		if row, _ := tab.find(wire.Query{MAC: mac(n)}, now); row.Number != want {
			t.Errorf("phone %d has number %q; want %q", n, row.Number, want)
		}
	}
	for i := range 5 {
		enrol(start, i, strconv.Itoa(101+i))
	}
	step(start, func(v *view) error { return v.forget(mac(1), numbers.Rest) })
	step(start.Add(time.Second), func(v *view) error { return v.forget(mac(0), numbers.Rest) })
	enrol(start.Add(2*time.Second), 10, "106")
	enrol(start.Add(time.Minute), 11, "102")
	enrol(start.Add(time.Minute), 12, "107")
	enrol(start.Add(time.Minute+time.Second), 13, "101")
	enrol(start.Add(2*time.Minute), 14, "108")
}

// A number that is freed is not passed over while that is on its way to the
// disk, and one that is taken only there is free again if it does not arrive.
func TestNumberOnItsWay(t *testing.T) {
	lowest := 101
	tab, now := newTable(), time.UnixMilli(1_000_000)
	numbers := Numbers{First: 101, Last: 200}
	enrol := func(v *view, n int) string {
		t.Helper()
		if _, err := v.register(Claim{Key: key(1), Entitled: true}, registration(n, 1, "192.0.2.1"), numbers); err != nil {
			t.Fatal(err)
		}
		r, _ := v.row(mac(n))
		return r.Number
	}
	first := newView(tab, now, &lowest)
	enrol(first, 1)
	enrol(first, 2)
	_, ms := first.messages()
	tab.place(nil, ms[0], 1)

	air := newView(tab, now, &lowest)
	if err := air.forget(mac(1), 0); err != nil {
		t.Fatal(err)
	}
	ahead := newView(tab, now, &lowest)
	ahead.under, ahead.given = air, air.given
	if got := enrol(ahead, 3); got != "101" {
		t.Errorf("number %s, while the row that had 101 is being forgotten; want 101", got)
	}
	if got := enrol(ahead, 4); got != "103" {
		t.Errorf("the next is %s; want 103", got)
	}
	// Neither came to the disk.
	if got := enrol(newView(tab, now, &lowest), 5); got != "103" {
		t.Errorf("number %s, after what was on its way did not arrive; want 103", got)
	}
}

// A token lets one key own one row, once.
func TestTokens(t *testing.T) {
	dir := t.TempDir()
	s, _ := openWith(t, dir, Numbers{First: 101, Last: 999})
	ctx := t.Context()
	announce := func(n int, k byte, token string) error {
		_, _, err := s.Announce(ctx, Claim{Key: key(k), Token: token}, registration(n, 1, "192.0.2.1"))
		return err
	}
	any, _, err := s.MakeToken(ctx, wire.MAC{}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	bound, _, err := s.MakeToken(ctx, mac(2), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	old, _, err := s.MakeToken(ctx, wire.MAC{}, -time.Second)
	if err != nil {
		t.Fatal(err)
	}
	gone, meant, err := s.MakeToken(ctx, wire.MAC{}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RevokeToken(ctx, meant.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.RevokeToken(ctx, meant.ID); !errors.Is(err, ErrNoToken) {
		t.Errorf("second RevokeToken() = %v; want ErrNoToken", err)
	}
	s.Close() // tokens outlive the process
	var events *[]Event
	s, events = openWith(t, dir, Numbers{First: 101, Last: 999})
	defer s.Close()
	if got := len(s.Tokens()); got != 3 {
		t.Errorf("%d tokens; want 3", got)
	}
	for name, token := range map[string]string{"none": "", "unknown": "abcdef", "for another": bound, "expired": old, "revoked": gone} {
		if err := announce(1, 1, token); reason(err) != wire.ReasonPolicy {
			t.Errorf("%s: %v; want refused by policy", name, err)
		}
	}
	if err := announce(1, 1, any); err != nil {
		t.Errorf("with a token: %v", err)
	}
	if err := announce(1, 1, any); err != nil {
		t.Errorf("the same again, as when the answer was lost: %v", err)
	}
	if err := announce(3, 3, any); reason(err) != wire.ReasonPolicy {
		t.Errorf("with a used token: %v; want refused by policy", err)
	}
	if err := announce(2, 2, bound); err != nil {
		t.Errorf("with the token for it: %v", err)
	}
	if got := names(*events); len(got) != 2 || got[0] != EventEnrolled || (*events)[0].Key != key(1) || (*events)[0].By[:6] != "token " {
		t.Errorf("audit log = %+v; want two enrolments by token", *events)
	}
}

// An owner names its next key; nobody else can.
func TestRotate(t *testing.T) {
	s, events := openWith(t, t.TempDir(), Numbers{First: 101, Last: 999})
	defer s.Close()
	ctx := t.Context()
	if _, _, err := s.Register(ctx, key(1), registration(1, 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	next := registration(1, 2, "192.0.2.1")
	next.Next = key(2)
	if _, _, err := s.Register(ctx, key(3), next); reason(err) != wire.ReasonForeign {
		t.Errorf("rotation by another key: %v; want foreign", err)
	}
	for i := range 2 { // the second time its answer was lost
		row, _, err := s.Register(ctx, key(1), next)
		if err != nil || i == 0 && row.Fingerprint != key(2) {
			t.Errorf("rotation: %+v, %v", row, err)
		}
	}
	if _, _, err := s.Register(ctx, key(1), registration(1, 3, "192.0.2.9")); reason(err) != wire.ReasonForeign {
		t.Errorf("the old key afterwards: %v; want foreign", err)
	}
	row, created, err := s.Register(ctx, key(2), registration(1, 3, "192.0.2.3"))
	if err != nil || created || row.Number != "101" {
		t.Errorf("the new key: %+v, %v, %v", row, created, err)
	}
	if got := names(*events); len(got) != 2 || got[1] != EventRotated || (*events)[1].Old != key(1) || (*events)[1].Key != key(2) {
		t.Errorf("audit log = %+v; want an enrolment and a rotation", *events)
	}
}

// A forgotten key leaves the number to the next one, whatever its sequence.
func TestForgetKey(t *testing.T) {
	s, _ := openWith(t, t.TempDir(), Numbers{First: 101, Last: 999})
	defer s.Close()
	ctx := t.Context()
	if _, _, err := s.Register(ctx, key(1), registration(1, 50, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if err := s.ForgetKey(ctx, mac(1)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Announce(ctx, Claim{Key: key(2)}, registration(1, 1, "192.0.2.2")); reason(err) != wire.ReasonPolicy {
		t.Errorf("a key that may not enrol: %v; want refused by policy", err)
	}
	row, created, err := s.Register(ctx, key(2), registration(1, 1, "192.0.2.2"))
	if err != nil || !created || row.Number != "101" || row.Fingerprint != key(2) {
		t.Errorf("another key: %+v, %v, %v; want number 101", row, created, err)
	}
}

// Nothing is written that the audit log could not take.
func TestAuditFirst(t *testing.T) {
	full := errors.New("no space left")
	s, err := Open(t.Context(), Options{Dir: t.TempDir(), Numbers: Numbers{First: 101, Last: 999}, Log: slog.New(slog.DiscardHandler),
		Audit: func([]Event) error { return full }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, _, err := s.Register(t.Context(), key(1), registration(1, 1, "192.0.2.1")); !errors.Is(err, ErrUnavailable) || s.Size() != 0 {
		t.Errorf("Register() = %v with %d rows; want ErrUnavailable and none", err, s.Size())
	}
}

// A binding is replaced by a newer registration alone.
func TestBind(t *testing.T) {
	s, _ := openWith(t, t.TempDir(), Numbers{First: 101, Last: 999})
	defer s.Close()
	ctx := t.Context()
	m := UserMAC("lobby")
	b := func(call string, cseq uint32, nonce int64, count uint32, addr string) Binding {
		return Binding{Contact: "sip:lobby@" + addr, CallID: []byte(call), CSeq: cseq, Nonce: nonce, Count: count, Addr: netip.MustParseAddr(addr), Port: 5060}
	}
	if _, err := s.Bind(ctx, m, b("a", 1, 1, 1, "192.0.2.1"), time.Hour); reason(err) != wire.ReasonUnknown {
		t.Errorf("Bind() of a stranger = %v; want unknown", err)
	}
	if number, err := s.AddPhone(ctx, Phone{User: "lobby"}); err != nil || number != "101" {
		t.Fatalf("AddPhone() = %q, %v; want number 101", number, err)
	}
	if number, err := s.AddPhone(ctx, Phone{User: "300"}); err != nil || number != "300" {
		t.Errorf("AddPhone(300) = %q, %v; want number 300", number, err)
	}
	for _, tt := range []struct {
		name string
		b    Binding
		want error
		addr string // afterwards
	}{
		{"first", b("a", 10, 100, 1, "192.0.2.1"), nil, "192.0.2.1"},
		{"repeated", b("a", 10, 100, 1, "192.0.2.1"), nil, "192.0.2.1"},
		{"repeated with another address", b("a", 10, 100, 1, "192.0.2.66"), ErrOutOfOrder, "192.0.2.1"},
		{"moved, same nonce", b("a", 11, 100, 2, "192.0.2.2"), nil, "192.0.2.2"},
		{"lower CSeq", b("a", 9, 100, 3, "192.0.2.66"), ErrOutOfOrder, "192.0.2.2"},
		{"replayed nonce count", b("a", 12, 100, 2, "192.0.2.66"), ErrOldNonce, "192.0.2.2"},
		{"another Call-ID, same nonce", b("b", 1, 100, 9, "192.0.2.66"), ErrOldNonce, "192.0.2.2"},
		{"another Call-ID, older nonce", b("b", 99, 99, 1, "192.0.2.66"), ErrOldNonce, "192.0.2.2"},
		{"restarted phone", b("b", 1, 101, 1, "192.0.2.3"), nil, "192.0.2.3"},
		{"delayed from before the restart", b("a", 99, 100, 9, "192.0.2.66"), ErrOldNonce, "192.0.2.3"},
	} {
		if _, err := s.Bind(ctx, m, tt.b, time.Hour); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v; want %v", tt.name, err, tt.want)
		}
		row, ok := s.Resolve(wire.Query{Number: "101"})
		if !ok || row.Addrs[0] != netip.MustParseAddr(tt.addr) || row.State != wire.Online || row.Ports != (wire.Ports{SIP: 5060}) || row.Fingerprint != (wire.Fingerprint{}) {
			t.Errorf("%s: row %+v, %v; want %s", tt.name, row, ok, tt.addr)
		}
	}
	r := registration(1, 1000, "192.0.2.66")
	r.MAC = m
	if _, _, err := s.Register(ctx, key(1), r); reason(err) != wire.ReasonForeign {
		t.Errorf("announcement of a standard phone's MAC: %v; want foreign", err)
	}
	if _, err := s.Bind(ctx, m, b("b", 2, 101, 2, "192.0.2.3"), 0); err != nil {
		t.Errorf("withdrawal: %v", err)
	}
	if _, err := s.Bind(ctx, m, b("a", 99, 100, 9, "192.0.2.66"), time.Hour); !errors.Is(err, ErrOldNonce) {
		t.Errorf("delayed from before the withdrawal: %v; want ErrOldNonce", err)
	}
	if row, _ := s.Resolve(wire.Query{MAC: m}); row.State != wire.Offline {
		t.Errorf("after the withdrawal: %+v; want it offline", row)
	}
	if _, _, err := s.Register(ctx, key(1), registration(1, 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddPhone(ctx, Phone{User: mac(1).Hex()}); !errors.Is(err, ErrOwned) {
		t.Errorf("AddPhone() with the MAC of a phone with a key = %v; want ErrOwned", err)
	}
}
