package phone

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/firmware/internal/sip"
)

// ours is the phone of ours with that MAC, key and address.
func ours(user string, key byte, addr string) Peer {
	p, _ := found(addr)()
	p.Target.User, p.Target.Pin = user, [32]byte{key}
	return p
}

// in is what the storing server says after a while.
func in(d time.Duration, p Peer, err error) []func() (Peer, error) {
	return []func() (Peer, error){func() (Peer, error) { time.Sleep(d); return p, err }}
}

// A number that is known is connected with while the storing server is asked, and
// rung when that has said the same. Whatever else it says counts.
func TestAKnownNumberIsConnectedWithMeanwhile(t *testing.T) {
	last := ours("02005e005302", 1, "192.0.2.9:5061")
	moved := ours("02005e005302", 1, "192.0.2.7:5061")
	for _, tt := range []struct {
		name  string
		says  Peer
		err   error
		after string // the answer
	}{
		{"it is where it was", last, nil, "open; invite 192.0.2.9:5061"},
		{"it has moved", moved, nil, "not needed; open; invite 192.0.2.7:5061"},
		{"it has another key", ours("02005e005302", 2, "192.0.2.9:5061"), nil, "not needed; open; invite 192.0.2.9:5061"},
		{"another phone has its number", ours("02005e005303", 3, "192.0.2.8:5061"), nil, "not needed; open; invite 192.0.2.8:5061"},
		{"it is offline", Peer{}, ErrOffline, `not needed; tone "special information"`},
		{"nobody has its number", Peer{}, ErrUnknown, `not needed; tone "special information"`},
		{"the storing server is away", Peer{}, errors.New("away"), `not needed; tone "congestion"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := outgoing(newFakeCall())
			w.known, w.resolve = last, in(lateBy/6, tt.says, tt.err)
			try(t, w, func(t *testing.T, d *table) {
				d.dials(t)
				d.expectBoth(t, `tone ""`, "resolve 102", "prepare 192.0.2.9:5061")
				time.Sleep(lateBy / 6)
				d.expectBoth(t, strings.Split(tt.after, "; ")...)
				d.hook.Lay()
				synctest.Wait()
				d.take()
			})
		})
	}
}

// Where the storing server tells of each change, and there is a connection, it rings
// at once; and what the server says then still counts.
func TestAWarmConnectionIsRungAtOnce(t *testing.T) {
	last := ours("02005e005302", 1, "192.0.2.9:5061")
	other := ours("02005e005303", 3, "192.0.2.8:5061")
	for _, tt := range []struct {
		name     string
		says     Peer
		err      error
		answered bool // before it says so
		after    string
	}{
		{"it is right", last, nil, false, ""},
		{"it is right, and talks", last, nil, true, ""},
		{"it has moved meanwhile", ours("02005e005302", 1, "192.0.2.7:5061"), nil, false, ""},
		{"the storing server is away", Peer{}, errors.New("away"), false, ""},
		{"another phone has its number", other, nil, false, "hangup; invite 192.0.2.8:5061"},
		{"it is offline", Peer{}, ErrOffline, false, `close; hangup; tone "special information"`},
		{"another phone has its number, and it talks", other, nil, true, `close; hangup; tone "special information"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			call := newFakeCall(sip.Event{Kind: sip.Progress})
			w := outgoing(call, newFakeCall())
			w.known, w.current, w.prepared, w.resolve = last, true, true, in(lateBy/6, tt.says, tt.err)
			try(t, w, func(t *testing.T, d *table) {
				d.dials(t)
				d.expectBoth(t, `tone ""`, "resolve 102", "open", "invite 192.0.2.9:5061", `tone "ringing tone"`)
				if tt.answered {
					call.events <- talk
					synctest.Wait()
				}
				d.take()
				time.Sleep(lateBy / 6)
				synctest.Wait()
				got := slices.Sorted(slices.Values(strings.Split(strings.TrimSuffix(strings.ReplaceAll(d.take(), `; tone ""`, ""), `tone ""`), "; ")))
				want := slices.Sorted(slices.Values(strings.Split(tt.after, "; ")))
				if !slices.Equal(got, want) {
					t.Errorf("did %q; want %q", got, want)
				}
				d.hook.Lay()
				synctest.Wait()
				d.take()
			})
		})
	}
}

// Without a connection, or without being told of changes, the server is asked first.
func TestALukewarmConnectionWaitsForTheServer(t *testing.T) {
	for _, current := range []bool{false, true} {
		w := outgoing(newFakeCall())
		w.known, w.current, w.prepared = ours("02005e005302", 1, "192.0.2.9:5061"), current, !current
		w.resolve = []func() (Peer, error){nil}
		try(t, w, func(t *testing.T, d *table) {
			d.dials(t)
			d.expectBoth(t, `tone ""`, "resolve 102", "prepare 192.0.2.9:5061")
			d.hook.Lay()
			synctest.Wait()
			d.take()
		})
	}
}

// A key that is not the known one is shown as long as a call lasts, in whatever it
// is, and told; until it is accepted.
func TestANewKeyIsShown(t *testing.T) {
	there := ours("02005e005302", 2, "192.0.2.9:5061")
	there.Was = [32]byte{1}
	call := newFakeCall(sip.Event{Kind: sip.Progress})
	w := outgoing(call, newFakeCall(sip.Event{Kind: sip.Progress}))
	w.known, w.resolve = there, in(0, there, nil)
	try(t, w, func(t *testing.T, d *table) {
		shows := func(want string, key bool) {
			t.Helper()
			synctest.Wait()
			s := d.Status()
			if s.Display[1] != want || s.Call.WasKey != "" != key || !strings.HasPrefix(s.Call.Key, "0200") {
				t.Errorf("the display says %q, and the status %+v; want %q", s.Display, s.Call, want)
			}
		}
		d.dials(t)
		shows("ringing, new key", true)
		call.events <- talk
		shows("not private, new key", true)
		d.keys.Press("#") // for the peer
		shows("not private, new key", true)
		call.events <- bye
		d.hook.Lay()
		synctest.Wait()
		if got := strings.Join(d.events, " "); got != "dialed resolved key.changed connected ringing established ended" {
			t.Errorf("events: %s", got)
		}
		d.take()
		d.dials(t)
		shows("ringing, new key", true)
		d.take()
		d.keys.Press("#")
		d.expect(t, "accept 102")
		shows("ringing", false)
		d.hook.Lay()
		synctest.Wait()
		d.take()
	})
}

// So is that of a caller who is proved.
func TestANewKeyOfACallerIsShown(t *testing.T) {
	w := &world{vouched: true, was: [32]byte{1}}
	try(t, w, func(t *testing.T, d *table) {
		call := d.offers(sip.Peer{User: "02005e005302", DisplayName: "102", Secure: true, Fingerprint: [32]byte{2}})
		synctest.Wait()
		if s := d.Status(); s.Display != [2]string{"102", "is calling, new key"} || s.Call.WasKey == "" {
			t.Errorf("the display says %q, the status %+v", s.Display, s.Call)
		}
		d.Phone.Accept(d.ctx)
		synctest.Wait()
		if s := d.Status(); s.Display[1] != "is calling" || s.Call.WasKey != "" {
			t.Errorf("once accepted the display says %q", s.Display)
		}
		if got := strings.Join(d.events, " "); got != "ringing key.changed" {
			t.Errorf("events: %s", got)
		}
		call.events <- sip.Event{Kind: sip.Ended, Reason: sip.ReasonCancelled}
		synctest.Wait()
		d.take()
	})
}
