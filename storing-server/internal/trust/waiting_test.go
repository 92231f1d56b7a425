package trust

import (
	"net/netip"
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

// The list of who waits is bounded, in all and by network, and who does not ask
// any more leaves it.
func TestWaiting(t *testing.T) {
	now := time.Unix(1e9, 0)
	e, _ := ParseExempt([]string{"198.51.100.1"})
	w := NewWaiting(e)
	phone := func(n int) wire.MAC { return wire.MAC{2, 0, 0, 0, byte(n >> 8), byte(n)} }
	at := func(net, host int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, byte(net), byte(host)}) }
	w.Ask(phone(1), wire.Fingerprint{1}, at(2, 1), now)
	w.Ask(phone(1), wire.Fingerprint{1}, at(2, 9), now.Add(time.Hour))
	w.Ask(phone(1), wire.Fingerprint{2}, at(2, 1), now.Add(2*time.Hour))
	all := w.List(now.Add(2 * time.Hour))
	if len(all) != 2 || all[0].Key != (wire.Fingerprint{1}) || all[0].Since != now || all[0].Last != now.Add(time.Hour) || all[0].From != at(2, 9) {
		t.Errorf("waiting: %+v", all)
	}
	if all := w.List(now.Add(time.Hour + waitingLasts + 1)); len(all) != 1 || all[0].Key != (wire.Fingerprint{2}) {
		t.Errorf("a day later: %+v", all)
	}
	w.Drop(phone(1), wire.Fingerprint{2})
	if all := w.List(now.Add(2 * time.Hour)); len(all) != 1 {
		t.Errorf("after one was let in: %+v", all)
	}
	// One network keeps nobody else away.
	now = now.Add(3 * time.Hour)
	for n := range 10 * waitingEach {
		w.Ask(phone(n), wire.Fingerprint{3}, at(3, 1), now.Add(time.Duration(n)))
	}
	if all := w.List(now); len(all) != waitingEach+1 || all[0].Key != (wire.Fingerprint{1}) || all[1].MAC != phone(9*waitingEach) {
		t.Errorf("%d wait, first %+v and %+v", len(all), all[0], all[1])
	}
	exempt := netip.MustParseAddr("198.51.100.1")
	for n := range 2 * waitingMost {
		w.Ask(phone(n), wire.Fingerprint{4}, exempt, now.Add(time.Minute+time.Duration(n)))
	}
	if all := w.List(now); len(all) != waitingMost || all[0].MAC != phone(waitingMost) {
		t.Errorf("%d wait, first %+v", len(all), all[0])
	}
	w.Ask(phone(1), wire.Fingerprint{5}, at(4, 1), now.Add(waitingLasts+time.Hour))
	if len(w.all) != 1 {
		t.Errorf("%d are kept of whom nothing was heard for a day", len(w.all))
	}
	var none *Waiting
	if none.Drop(phone(1), wire.Fingerprint{}); none.List(now) != nil {
		t.Error("somebody waits where nobody is waited for")
	}
}
