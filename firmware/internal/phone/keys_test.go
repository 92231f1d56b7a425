package phone

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/firmware/internal/sip"
)

// TestWrongKeys: a call in which another than the peer shakes hands ends at once; one for
// which no keys come ends after as long as a cable may be out, and that does not count
// while it is. The peer is told why.
func TestWrongKeys(t *testing.T) {
	try(t, outgoing(newFakeCall(talk)), func(t *testing.T, d *table) {
		d.talks(t)
		d.world.streams[0].wrong <- struct{}{}
		d.expectBoth(t, "hangup for wrong key", "close", `tone "congestion"`)
		if s := d.Status(); s.Display[1] != string(sip.ReasonWrongKey) {
			t.Errorf("display: %q", s.Display)
		}
	})
	try(t, outgoing(newFakeCall(talk)), func(t *testing.T, d *table) {
		d.talks(t)
		d.world.streams[0].keyless.Store(true)
		d.received.Add(1)
		time.Sleep(lostAfter / 2)
		d.NetworkDown(d.ctx, "link down")
		time.Sleep(30 * time.Second)
		d.NetworkUp(d.ctx, netip.MustParseAddr("192.0.2.1"))
		d.received.Add(1)
		time.Sleep(lostAfter - 2*time.Second)
		d.expectState(t, Talking)
		d.world.streams[0].keyless.Store(false)
		time.Sleep(2 * time.Second)
		d.received.Add(1)
		d.world.streams[0].keyless.Store(true)
		time.Sleep(lostAfter - 2*time.Second)
		d.received.Add(1)
		synctest.Wait()
		d.take()
		time.Sleep(4 * time.Second)
		d.expectBoth(t, "hangup for no keys", "close", `tone "congestion"`)
	})
}

// Worn keys are replaced while the call goes on, and no longer asked for than a few times.
func TestWornKeysAreReplaced(t *testing.T) {
	c := newFakeCall(talk)
	w := outgoing(c)
	try(t, w, func(t *testing.T, d *table) {
		d.talks(t)
		offers := func(when string, want ...bool) {
			t.Helper()
			time.Sleep(10 * updateWait)
			var got []bool
			w.mu.Lock()
			for _, lm := range c.updates {
				got = append(got, lm.(described).keys)
			}
			c.updates = nil
			w.mu.Unlock()
			if !slices.Equal(got, want) {
				t.Errorf("%s it offered new keys: %v; want %v", when, got, want)
			}
		}
		w.streams[0].worn <- struct{}{}
		offers("once", true)
		d.trouble("Call.Update", no)
		w.streams[0].worn <- struct{}{}
		d.take()
		offers("in vain")
		if n := strings.Count(d.take(), "update"); n != newKeysTries {
			t.Errorf("it asked %d times; want %d", n, newKeysTries)
		}
		d.trouble("", no)
		d.NetworkUp(d.ctx, netip.MustParseAddr("198.51.100.7"))
		offers("after a move", false)
		d.expectState(t, Talking)
	})
}

// Where sound reaches this phone is told while the call goes on, once, and again where it was in
// vain; a peer that refuses it is not asked without end. It is no move.
func TestOtherPlacesAreTold(t *testing.T) {
	c := newFakeCall(talk)
	w := outgoing(c)
	try(t, w, func(t *testing.T, d *table) {
		d.talks(t)
		offers := func(when string, want int) {
			t.Helper()
			time.Sleep(40 * updateWait)
			w.mu.Lock()
			got := len(c.updates)
			c.updates = nil
			w.mu.Unlock()
			if got != want {
				t.Errorf("%s it was offered %d times; want %d", when, got, want)
			}
		}
		d.take()
		w.streams[0].elsewhere <- struct{}{}
		offers("once", 1)
		if said := d.take(); strings.Contains(said, "moved") {
			t.Errorf("it is said to have moved: %s", said)
		}
		d.trouble("Call.Update", no)
		w.streams[0].elsewhere <- struct{}{}
		time.Sleep(20 * updateWait)
		d.trouble("", no)
		offers("after trouble", 1)
		d.expectState(t, Talking)
	})
}
