package sip_test

import (
	"testing"
	"time"

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

// An answer that is on its way when its call is left is not acknowledged: the phone that
// has answered would be in a call, and the one that comes next find it busy.
func TestAnAnswerCrossesLeaving(t *testing.T) {
	a := newPhone(t, userA)
	p := newPeer(t, "UDP", "127.0.0.1")
	first := a.dials(sip.Target{User: userB, Addr: p.at})
	invite := p.expects("INVITE")
	p.answers(invite, "180", "")
	expect(t, first, sip.Progress, "")
	resume, posted := sip.Pause(first)
	left := make(chan bool)
	go func() { left <- first.Leave() }()
	await := func(n int) {
		t.Helper()
		for ctx := patience(t); posted() < n; time.Sleep(time.Millisecond) {
			must(t, ctx.Err())
		}
	}
	await(1)
	p.answers(invite, "200", p.audio(7000))
	await(2)
	resume()
	if !<-left {
		t.Error("a call that rings cannot be left")
	}
	expect(t, first, sip.Ended, sip.ReasonCancelled)
	again := a.dials(sip.Target{User: userB, Addr: p.at})
	m := p.next()
	if !m.is("INVITE") {
		t.Fatalf("the phone that was left is told %q", m.start)
	}
	p.answers(m, "486", "")
	if ack := p.expects("ACK"); ack.get("Call-ID") != m.get("Call-ID") {
		t.Errorf("the phone that was left is told %q", ack.start)
	}
	expect(t, again, sip.Ended, sip.ReasonBusy)
}
