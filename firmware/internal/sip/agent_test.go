package sip_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"flexphone/firmware/internal/media"
	"flexphone/firmware/internal/sip"
)

func TestCallAndHangUp(t *testing.T) {
	for name, way := range ways {
		for _, first := range []string{"caller", "callee", "both"} {
			t.Run(name+"/"+first, func(t *testing.T) {
				a, b := newPhone(t, userA), newPhone(t, userB)
				ca, cb := connect(t, a, b, way(b))
				if p := cb.Peer(); p.User != userA || p.DisplayName != "101" || p.Secure != (name == "pinned") {
					t.Errorf("B sees %+v", p)
				}
				if p := cb.Peer(); p.Secure && p.Fingerprint != a.key {
					t.Error("B sees another fingerprint")
				}
				ends := make(chan error, 2)
				hang := func(c *sip.Call) { ends <- c.Hangup(patience(t)) }
				switch first {
				case "caller":
					hang(ca)
				case "callee":
					hang(cb)
				case "both":
					go hang(ca)
					hang(cb)
					must(t, <-ends)
				}
				must(t, <-ends)
				expect(t, ca, sip.Ended, sip.ReasonHangup)
				expect(t, cb, sip.Ended, sip.ReasonHangup)
				if _, err := ca.Next(patience(t)); !errors.Is(err, sip.ErrEnded) {
					t.Errorf("after the end: %v", err)
				}
			})
		}
	}
}

// TestReasonOfTheEnd: the peer hears why a call ends where that is no person's wish, and
// believes no other words.
func TestReasonOfTheEnd(t *testing.T) {
	for reason, want := range map[string]string{
		sip.ReasonWrongKey: sip.ReasonWrongKey, sip.ReasonNoKeys: sip.ReasonNoKeys, sip.ReasonBusy: sip.ReasonHangup,
	} {
		for name, way := range ways {
			a, b := newPhone(t, userA), newPhone(t, userB)
			ca, cb := connect(t, a, b, way(b))
			must(t, ca.HangupFor(patience(t), reason))
			expect(t, ca, sip.Ended, reason)
			if e := expect(t, cb, sip.Ended, want); e.Code != 0 {
				t.Errorf("%s, %s: code %d", name, reason, e.Code)
			}
		}
	}
	b := newPhone(t, userB)
	p := calls(t, b)
	c := established(t, p, b)
	p.sends("BYE", "", `Reason: SIP;cause=488;text="busy"`)
	p.expects("200")
	expect(t, c, sip.Ended, sip.ReasonHangup)
}

func TestRefusals(t *testing.T) {
	for code, reason := range map[int]string{
		486: sip.ReasonBusy, 600: sip.ReasonBusy, 480: sip.ReasonNoAnswer, 603: sip.ReasonDeclined,
		404: sip.ReasonWrongPhone, 488: sip.ReasonNoCodec, 604: sip.ReasonUnknown, 500: sip.ReasonFailed,
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			for name, way := range ways {
				a, b := newPhone(t, userA), newPhone(t, userB)
				ca := a.dials(way(b))
				cb := b.isCalled()
				must(t, cb.Reject(code))
				if e := expect(t, ca, sip.Ended, reason); e.Code != code {
					t.Errorf("%s: code %d, want %d", name, e.Code, code)
				}
				expect(t, cb, sip.Ended, reason)
			}
		})
	}
}

func TestForeignUserIsNotRung(t *testing.T) {
	for name, way := range ways {
		a, b := newPhone(t, userA), newPhone(t, userB)
		to := way(b)
		to.User = userC
		if e := expect(t, a.dials(to), sip.Ended, sip.ReasonWrongPhone); e.Code != 404 {
			t.Errorf("%s: code %d", name, e.Code)
		}
		b.isNotCalled()
	}
}

func TestWrongPin(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	to := b.pinned()
	to.Pin[3] ^= 1
	expect(t, a.dials(to), sip.Ended, sip.ReasonWrongPhone)
	b.isNotCalled()
}

func TestCancel(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			a, b := newPhone(t, userA), newPhone(t, userB)
			ca := a.dials(way(b))
			cb := b.isCalled()
			must(t, cb.Ring())
			expect(t, ca, sip.Progress, "")
			must(t, ca.Hangup(patience(t)))
			expect(t, ca, sip.Ended, sip.ReasonHangup)
			expect(t, cb, sip.Ended, sip.ReasonCancelled)
			if err := cb.Answer(of(cb, 5000)); !errors.Is(err, sip.ErrEnded) {
				t.Errorf("answered a cancelled call: %v", err)
			}
		})
	}
}

// TestCancelCrossesAnswer: whichever comes first, both ends end the call.
func TestCancelCrossesAnswer(t *testing.T) {
	for range 20 {
		a, b := newPhone(t, userA), newPhone(t, userB)
		ca := a.dials(b.at())
		cb := b.isCalled()
		must(t, cb.Ring())
		expect(t, ca, sip.Progress, "")
		hung := make(chan error, 1)
		go func() { hung <- ca.Hangup(patience(t)) }()
		_ = cb.Answer(of(cb, 5000)) // fails if the CANCEL was there before
		must(t, <-hung)
		for {
			e, err := cb.Next(patience(t))
			must(t, err)
			if e.Kind == sip.Ended {
				break
			}
		}
		a.stop()
		b.stop()
	}
}

func TestUnreachable(t *testing.T) {
	a := newPhone(t, userA)
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	nobody := netip.MustParseAddrPort(free.LocalAddr().String())
	must(t, free.Close())
	expect(t, a.dials(sip.Target{User: userB, Addr: nobody}), sip.Ended, sip.ReasonUnreachable)
	expect(t, a.dials(sip.Target{User: userB, Addr: nobody, Pin: [32]byte{1}}), sip.Ended, sip.ReasonUnreachable)
}

func TestUpdate(t *testing.T) {
	for name, way := range ways {
		for _, who := range []string{"caller", "callee"} {
			t.Run(name+"/"+who, func(t *testing.T) {
				a, b := newPhone(t, userA), newPhone(t, userB)
				one, other := connect(t, a, b, way(b))
				if who == "callee" {
					one, other = other, one
				}
				must(t, one.Update(patience(t), of(one, 6000)))
				expect(t, one, sip.Changed, "")
				if e := expect(t, other, sip.Changed, ""); e.Media.Remote.Port() != 6000 {
					t.Errorf("peer sends to %v, want port 6000", e.Media.Remote)
				}
				hold := of(one, 6000, func(lm *media.Local) { lm.Hold = true })
				must(t, one.Update(patience(t), hold))
				if e := expect(t, one, sip.Changed, ""); e.Media.Recv {
					t.Errorf("holds, but listens: %+v", e.Media)
				}
				if e := expect(t, other, sip.Changed, ""); e.Media.Send {
					t.Errorf("is held, but sends: %+v", e.Media)
				}
				must(t, other.Hangup(patience(t)))
				expect(t, one, sip.Ended, sip.ReasonHangup)
			})
		}
	}
}

func TestStopEndsCalls(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	ca, cb := connect(t, a, b, b.pinned())
	a.stop()
	expect(t, ca, sip.Ended, sip.ReasonStopped)
	expect(t, cb, sip.Ended, sip.ReasonHangup)
	if _, err := a.Invite(patience(t), b.at(), sound(4000)); !errors.Is(err, sip.ErrStopped) {
		t.Errorf("a stopped agent calls: %v", err)
	}
}

func TestPendingCallsAreBounded(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	var rung int
	var calls []*sip.Call
	for range 12 {
		calls = append(calls, a.dials(b.at()))
	}
	for range 8 {
		must(t, b.isCalled().Ring())
		rung++
	}
	busy := 0
	for _, c := range calls {
		e, err := c.Next(patience(t))
		must(t, err)
		if e.Kind == sip.Ended && e.Reason == sip.ReasonBusy {
			busy++
		}
	}
	if busy != 4 {
		t.Errorf("%d of 12 calls were refused while %d rang, want 4", busy, rung)
	}
}

// TestMisuse: what makes no sense is refused, and harms nothing.
func TestMisuse(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	for _, to := range []sip.Target{
		{User: userB},
		{User: userB, Addr: netip.MustParseAddrPort("127.0.0.1:0")},
		{User: userB, Addr: netip.MustParseAddrPort("0.0.0.0:5060")},
		{User: "a@b", Addr: b.SIPAddr()},
		{User: "a\r\nVia: x", Addr: b.SIPAddr()},
	} {
		if _, err := a.Invite(patience(t), to, sound(4000)); err == nil {
			t.Errorf("%+v was called", to)
		}
	}
	ca := a.dials(b.at())
	cb := b.isCalled()
	if ca.ID() != cb.ID() {
		t.Errorf("the ends call it %q and %q", ca.ID(), cb.ID())
	}
	want := func(want error, what string, err error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	want(sip.ErrState, "ring oneself", ca.Ring())
	want(sip.ErrState, "answer oneself", ca.Answer(of(ca, 4000)))
	want(sip.ErrState, "reject oneself", ca.Reject(486))
	want(sip.ErrState, "change what is not agreed", ca.Update(patience(t), of(ca, 4000)))
	if err := cb.Reject(200); err == nil {
		t.Error("200 is a refusal")
	}
	if err := cb.Answer(of(cb, 0)); err == nil {
		t.Error("answered from nowhere")
	}
	must(t, cb.Answer(of(cb, 5000))) // all that did not harm
	want(sip.ErrState, "answer twice", cb.Answer(of(cb, 5000)))
	must(t, ca.Hangup(patience(t)))
	must(t, ca.Hangup(patience(t)))
	want(sip.ErrEnded, "change what has ended", ca.Update(patience(t), of(ca, 4000)))
}
