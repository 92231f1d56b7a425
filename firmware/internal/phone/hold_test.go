package phone

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/firmware/internal/events"
	"flexphone/firmware/internal/sip"
)

// A peer on hold stays there wherever this phone moves, until it is taken up again.
// Whoever is put on hold reads it.
func TestHold(t *testing.T) {
	c := newFakeCall(talk)
	c.update = func(lm sip.LocalMedia) []sip.Event {
		quiet := lm.(described).hold
		return []sip.Event{changed(func(m *sip.Media) { m.Send, m.Recv, m.Silent, m.Holds = !quiet, !quiet, quiet, quiet })}
	}
	w := outgoing(c)
	try(t, w, func(t *testing.T, d *table) {
		says := func(when, want string, held ...string) {
			t.Helper()
			synctest.Wait()
			if s := d.Status(); s.Display[1] != want {
				t.Errorf("%s the display says %q; want %q", when, s.Display[1], want)
			}
			w.mu.Lock()
			told := slices.DeleteFunc(slices.Clone(d.events), func(e string) bool { return e != "held" && e != "retrieved" })
			w.mu.Unlock()
			if !slices.Equal(told, held) {
				t.Errorf("%s told %q; want %q", when, told, held)
			}
		}
		offered := func(hold ...bool) {
			t.Helper()
			synctest.Wait()
			var got []bool
			w.mu.Lock()
			for _, lm := range c.updates {
				got = append(got, lm.(described).hold)
			}
			c.updates = nil
			w.mu.Unlock()
			if !slices.Equal(got, hold) {
				t.Errorf("offered on hold: %v; want %v", got, hold)
			}
		}
		d.Hold(d.ctx) // there is no call yet
		d.talks(t)
		offered()
		d.trouble("Call.Update", twice) // it is on the move as well
		d.Hold(d.ctx)
		d.Hold(d.ctx)
		says("before the peer has agreed", "on hold")
		time.Sleep(3 * updateWait)
		d.trouble("", no)
		offered(true)
		says("on hold", "on hold", "held")
		d.NetworkUp(d.ctx, netip.MustParseAddr("198.51.100.7"))
		offered(true)
		d.Retrieve(d.ctx)
		offered(false)
		says("taken up again", "not private", "held", "retrieved")
		c.events <- changed(func(m *sip.Media) { m.Send, m.Silent = false, true })
		says("when the peer has put it on hold", "has put you on hold", "held", "retrieved", "held")
		c.events <- changed(func(*sip.Media) {})
		says("in the end", "not private", "held", "retrieved", "held", "retrieved")
	})
}

// TestBothHold: each end has the other wait, and one takes it up again. An offer of the
// other's, which has moved, crosses that, and is answered as before; nobody is told more
// than what becomes of it.
func TestBothHold(t *testing.T) {
	for _, theirs := range []bool{false, true} {
		c := newFakeCall(talk)
		moved := changed(func(m *sip.Media) {
			m.Remote, m.Send, m.Recv, m.Silent, m.Holds = netip.MustParseAddrPort("198.51.100.9:4000"), false, false, true, true
		})
		c.update = func(lm sip.LocalMedia) []sip.Event {
			ours := lm.(described).hold
			agreed := changed(func(m *sip.Media) {
				m.Remote, m.Send, m.Recv, m.Silent, m.Holds = moved.Media.Remote, !ours && !theirs, !ours && !theirs, ours || theirs, ours
			})
			if !ours {
				return []sip.Event{moved, agreed}
			}
			return []sip.Event{agreed}
		}
		try(t, outgoing(c), func(t *testing.T, d *table) {
			d.talks(t)
			d.Hold(d.ctx)
			synctest.Wait()
			c.events <- moved
			synctest.Wait()
			d.Retrieve(d.ctx)
			synctest.Wait()
			d.world.mu.Lock()
			told := slices.DeleteFunc(slices.Clone(d.full), func(e events.Event) bool {
				switch e.(type) {
				case events.Held, events.Retrieved:
					return false
				}
				return true
			})
			d.world.mu.Unlock()
			want := []events.Event{events.Held{Who: "local", Peer: "102"}, events.Retrieved{Who: "local", Peer: "102"}}
			if theirs {
				want = append(want, events.Held{Who: "peer", Peer: "102"})
			}
			if len(told) != len(want) || slices.ContainsFunc(want, func(e events.Event) bool { return !slices.Contains(told, e) }) {
				t.Errorf("told %+v; want %+v", told, want)
			}
		})
	}
}

// TestARefusedHold: a peer that refuses to wait is asked again after longer and longer
// times, and then no more; that is said once, and the call is what it was. So it is where
// it refuses to be taken up again, and neither keeps a move from being told.
func TestARefusedHold(t *testing.T) {
	c := newFakeCall(talk)
	refused := true
	c.refuses = func(lm sip.LocalMedia) bool { return lm.(described).hold == refused }
	c.update = func(lm sip.LocalMedia) []sip.Event { return nil }
	try(t, outgoing(c), func(t *testing.T, d *table) {
		d.talks(t)
		asked := func(when string, after time.Duration, updates, kept int, says string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			w := d.world
			w.mu.Lock()
			n := len(c.updates)
			c.updates = nil
			w.mu.Unlock()
			told := 0
			for _, e := range d.told() {
				if e == "kept" {
					told++
				}
			}
			if s := d.Status(); n != updates || told != kept || s.Display[1] != says {
				t.Errorf("%s: asked %d times, want %d; told %d times, want %d; the display says %q", when, n, updates, told, kept, s.Display[1])
			}
		}
		d.Hold(d.ctx)
		asked("at once", 0, 1, 0, "on hold")
		asked("soon", 600*time.Millisecond, 1, 0, "on hold")
		asked("later", 3*time.Second, 2, 0, "on hold")
		asked("in the end", 4*time.Second, 1, 1, "not private")
		asked("then", 20*time.Second, 0, 1, "not private")
		d.Hold(d.ctx)
		d.NetworkUp(d.ctx, netip.MustParseAddr("198.51.100.7"))
		asked("with a move", 20*time.Second, 7, 2, "not private") // the last one tells of the move alone
		refused = false
		d.Hold(d.ctx)
		asked("on hold", time.Second, 1, 2, "on hold")
		d.Retrieve(d.ctx)
		asked("not taken up again", 8*time.Second, 5, 3, "on hold")
		d.Hangup(d.ctx)
	})
}
