package sip_test

import (
	"fmt"
	"testing"

	"flexphone/firmware/internal/sip"
)

// mostKept is how many transactions of one kind are kept at most.
const mostKept = 128

// TestKeptCallsAreBounded: calls of strangers are refused without being remembered
// while as many are kept as may be, and one of our own phones gets through.
func TestKeptCallsAreBounded(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	invites := func(i int) *peer {
		p := newPeer(t, "UDP", fmt.Sprintf("127.0.0.%d", 10+i%4)) // none says more than one host may
		p.phone, p.user, p.callID = b.SIPAddr(), userB, fmt.Sprintf("kept-%d", i)
		p.tag = fmt.Sprintf("peer%d-", i) // and so the branch: a port may come again
		p.sends("INVITE", p.audio(7000))
		return p
	}
	for i := range mostKept { // the transaction of an INVITE that was answered stays for 32 s
		p := invites(i)
		c := b.isCalled()
		said := answering(c)
		p.expects("200")
		p.sends("ACK", "")
		must(t, <-said)
		p.sends("BYE", "")
		p.expects("200")
		p.leaves()
	}
	for i := range 20 {
		p := invites(mostKept + i)
		p.wants(p.expects("503").get("Retry-After"), "2")
		p.sends("ACK", "")
	}
	if n := sip.Kept(b.Agent); n != mostKept {
		t.Errorf("%d are kept, want %d", n, mostKept)
	}
	ca, cb := connect(t, a, b, b.pinned())
	must(t, ca.Hangup(patience(t)))
	expect(t, cb, sip.Ended, sip.ReasonHangup)
}

// TestKeptRequestsAreBounded: a peer that asks and asks in its call is told to
// wait, and can end the call nevertheless.
func TestKeptRequestsAreBounded(t *testing.T) {
	for _, transport := range []string{"UDP", "TCP"} {
		t.Run(transport, func(t *testing.T) {
			b := newPhone(t, userB)
			p := calls(t, b)
			p.transport = transport
			if transport == "TCP" {
				p.connects(nil)
			}
			c := established(t, p, b)
			codes := map[bool]int{}
			for range mostKept + 20 {
				p.sends("OPTIONS", "")
				m := p.next()
				codes[m.is("200")]++
				if !m.is("200") && (!m.is("500") || m.get("Retry-After") == "") {
					t.Fatalf("the phone says %q", m.start)
				}
			}
			if transport == "UDP" && (codes[true] != mostKept || codes[false] != 20) {
				t.Errorf("%d are answered and %d put off", codes[true], codes[false])
			}
			if transport == "TCP" && codes[false] != 0 { // where nothing comes again, nothing is kept
				t.Errorf("%d are put off", codes[false])
			}
			p.sends("BYE", "")
			p.expects("200")
			expect(t, c, sip.Ended, sip.ReasonHangup)
		})
	}
}
