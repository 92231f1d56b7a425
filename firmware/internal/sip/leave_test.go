package sip_test

import (
	"testing"

	"flexphone/firmware/internal/sip"
)

// A caller that leaves without a word is not missed for a while, in which it calls
// anew; then its first call is over.
func TestCallerLeavesAndCallsAnew(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB, sip.HurryAnew)
	first := a.dials(b.pinned())
	rings := b.isCalled()
	must(t, rings.Ring())
	expect(t, first, sip.Progress, "")
	if !first.Leave() {
		t.Error("a call that rings cannot be left")
	}
	expect(t, first, sip.Ended, sip.ReasonCancelled)
	again := a.dials(b.pinned())
	other := b.isCalled()
	if p, q := rings.Peer(), other.Peer(); p.Fingerprint != q.Fingerprint || p.User != q.User {
		t.Errorf("called by %+v, then by %+v; want the same", p, q)
	}
	expect(t, rings, sip.Ended, sip.ReasonUnreachable)
	must(t, other.Ring())
	expect(t, again, sip.Progress, "")
	must(t, again.Hangup(patience(t)))
	expect(t, other, sip.Ended, sip.ReasonCancelled)
}

// A call that has been answered is not left.
func TestAnsweredCallIsNotLeft(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	ca, _ := connect(t, a, b, b.pinned())
	if ca.Leave() {
		t.Error("a call that was answered is left")
	}
	must(t, ca.Hangup(patience(t)))
	if !ca.Leave() {
		t.Error("a call that has ended is not left")
	}
}

// A caller whose connection goes while a phone of ours rings is told that the call
// was cut off, which is not that nobody is there.
func TestCallIsCutOff(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	c := a.dials(b.pinned())
	must(t, b.isCalled().Ring())
	expect(t, c, sip.Progress, "")
	sip.CutLinks(b.Agent)
	expect(t, c, sip.Ended, sip.ReasonCut)
}
