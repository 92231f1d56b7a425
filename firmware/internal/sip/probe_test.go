package sip_test

import (
	"context"
	"errors"
	"testing"

	"flexphone/firmware/internal/sip"
)

// talksTo is a call of a's that p has answered.
func talksTo(t *testing.T, a *phone) (*peer, *sip.Call) {
	t.Helper()
	p, c, invite := called(t, a)
	p.answers(invite, "200", p.audio(7000))
	p.expects("ACK")
	expect(t, c, sip.Established, "")
	return p, c
}

// probes asks whether the peer of c lives.
func probes(t *testing.T, c *sip.Call) chan error {
	said := make(chan error, 1)
	go func() { said <- c.Probe(patience(t)) }()
	return said
}

// TestProbe: whatever the peer answers, it lives, unless it says that it knows
// of no such call.
func TestProbe(t *testing.T) {
	for status, gone := range map[string]bool{
		"200": false, "405": false, "501": false, "403": false, "488": false, "500": false, "603": false, "302": false,
		"481": true, "408": true,
	} {
		t.Run(status, func(t *testing.T) {
			p, c := talksTo(t, newPhone(t, userA))
			said := probes(t, c)
			asked := p.expects("OPTIONS")
			if asked.tag("From") != p.otherTag || asked.tag("To") != p.tag || asked.get("Call-ID") != p.callID {
				t.Errorf("asked outside the dialog: %v", asked.header)
			}
			p.answers(asked, status, "")
			if !gone {
				must(t, <-said)
				hung := hangsUp(t, c)
				p.answers(p.expects("BYE"), "200", "")
				must(t, <-hung)
				return
			}
			if err := <-said; !errors.Is(err, sip.ErrEnded) {
				t.Errorf("a call that the peer does not know: %v", err)
			}
			expect(t, c, sip.Ended, sip.ReasonUnreachable)
			p.answers(p.expects("BYE"), "481", "")
		})
	}
}

// TestProbeOurs: our own phones answer, whoever asks and by whichever way.
func TestProbeOurs(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			a, b := newPhone(t, userA), newPhone(t, userB)
			ca, cb := connect(t, a, b, way(b))
			for range 3 {
				must(t, ca.Probe(patience(t)))
				must(t, cb.Probe(patience(t)))
			}
			must(t, ca.Hangup(patience(t)))
			if err := ca.Probe(patience(t)); !errors.Is(err, sip.ErrEnded) {
				t.Errorf("probed a call that is over: %v", err)
			}
		})
	}
}

// TestProbeUnanswered: silence leaves the call as it is, and holds up neither
// the next probe nor the end.
func TestProbeUnanswered(t *testing.T) {
	p, c := talksTo(t, newPhone(t, userA))
	ctx, stop := context.WithCancel(patience(t))
	said := make(chan error, 1)
	go func() { said <- c.Probe(ctx) }()
	p.expects("OPTIONS")
	stop()
	if err := <-said; !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits any more: %v", err)
	}
	again := probes(t, c)
	p.answers(p.expects("OPTIONS"), "200", "")
	must(t, <-again)

	last := probes(t, c)
	p.expects("OPTIONS")
	hung := hangsUp(t, c)
	p.answers(p.expects("BYE"), "200", "")
	must(t, <-hung) // though the OPTIONS has had no answer
	if err := <-last; !errors.Is(err, sip.ErrEnded) {
		t.Errorf("the call ended meanwhile: %v", err)
	}

	p, c = talksTo(t, newPhone(t, userA))
	p.leaves() // the kernel says so
	if err := <-probes(t, c); err == nil {
		t.Error("nobody is there, and lives")
	}
	must(t, c.Hangup(patience(t)))
	expect(t, c, sip.Ended, sip.ReasonHangup)
}
