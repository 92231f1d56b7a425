package sip_test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"flexphone/firmware/internal/sip"
)

// place is where p is called, as a Contact says it.
func (p *peer) place(params string) string { return fmt.Sprintf("<sip:there@%v>%s", p.at, params) }

// TestRedirect: a call goes where it is led: the same call, by the same Call-ID
// (RFC 3261, 8.1.3.4), and to the best place first.
func TestRedirect(t *testing.T) {
	a := newPhone(t, userA)
	p, c, invite := called(t, a)
	worse, better := newPeer(t, "UDP", "127.0.0.1"), newPeer(t, "UDP", "127.0.0.2")
	better.phone, better.user, better.tag = a.SIPAddr(), a.user, "better"
	p.answers(invite, "302", "", "Contact: "+worse.place(";q=0.3")+", "+better.place(";q=0.7")+", <sip:there@name.example.net>, <tel:101>")
	p.expects("ACK")
	again := better.expects("INVITE")
	if want := fmt.Sprintf("INVITE sip:there@%v SIP/2.0", better.at); again.start != want {
		t.Errorf("%q, want %q", again.start, want)
	}
	if again.get("Call-ID") != invite.get("Call-ID") || again.get("From") != invite.get("From") || again.get("To") != invite.get("To") || again.get("CSeq") != "2 INVITE" {
		t.Errorf("From %q, To %q, %s", again.get("From"), again.get("To"), again.get("CSeq"))
	}
	better.answers(again, "503", "") // so the next best is tried
	better.expects("ACK")
	third := worse.expects("INVITE")
	worse.answers(third, "180", "")
	expect(t, c, sip.Progress, "")
	worse.answers(third, "200", worse.audio(7000))
	worse.expects("ACK")
	expect(t, c, sip.Established, "")
	if c.Peer().Addr != worse.at {
		t.Errorf("the peer is at %v", c.Peer().Addr)
	}
	better.otherTag = third.tag("From") // where it has been does not steer it
	better.callID = third.get("Call-ID")
	better.tag = worse.tag
	better.seq = 100
	better.sends("BYE", "")
	worse.answersOptions(worse.expects("OPTIONS"))
	better.expects("403")
	hung := hangsUp(t, c)
	worse.answers(worse.expects("BYE"), "200", "")
	must(t, <-hung)
}

// TestRedirectEnds: a call that is led in circles, or on and on, or back to who
// calls, or nowhere, ends.
func TestRedirectEnds(t *testing.T) {
	t.Run("circle", func(t *testing.T) {
		a := newPhone(t, userA)
		p, c, invite := called(t, a)
		other := newPeer(t, "UDP", "127.0.0.1")
		p.answers(invite, "302", "", "Contact: "+other.place(""))
		p.expects("ACK")
		again := other.expects("INVITE")
		other.answers(again, "302", "", "Contact: "+fmt.Sprintf("<sip:%s@%v>, <sip:there@%v>", userB, p.at, other.at))
		if e := expect(t, c, sip.Ended, sip.ReasonMoved); e.Code != 302 {
			t.Errorf("code %d", e.Code)
		}
	})
	t.Run("on and on", func(t *testing.T) {
		a := newPhone(t, userA)
		p, c, invite := called(t, a)
		hops := 0
		for ; ; hops++ {
			p.answers(invite, "302", "", fmt.Sprintf("Contact: <sip:%d@%v>", hops, p.at))
			p.expects("ACK")
			if hops == 5 {
				break
			}
			invite = p.expects("INVITE")
		}
		expect(t, c, sip.Ended, sip.ReasonMoved)
	})
	t.Run("nowhere", func(t *testing.T) {
		a := newPhone(t, userA)
		for _, contact := range []string{fmt.Sprintf("<sip:%s@%v>", userA, a.SIPAddr()), "<sip:there@name.example.net>", "<tel:101>", ""} {
			p, c, invite := called(t, a)
			p.answers(invite, "302", "", "Contact: "+contact)
			p.expects("ACK")
			expect(t, c, sip.Ended, sip.ReasonMoved)
		}
	})
	t.Run("busy there", func(t *testing.T) {
		a := newPhone(t, userA)
		p, c, invite := called(t, a)
		one, two := newPeer(t, "UDP", "127.0.0.1"), newPeer(t, "UDP", "127.0.0.1")
		p.answers(invite, "302", "", "Contact: "+one.place("")+", "+two.place(""))
		p.expects("ACK")
		one.answers(one.expects("INVITE"), "486", "")
		expect(t, c, sip.Ended, sip.ReasonBusy)
	})
	t.Run("hung up", func(t *testing.T) {
		a := newPhone(t, userA)
		p, c, invite := called(t, a)
		p.answers(invite, "180", "")
		expect(t, c, sip.Progress, "")
		hung := hangsUp(t, c)
		p.answers(p.expects("CANCEL"), "200", "")
		p.answers(invite, "302", "", "Contact: "+p.place(""))
		p.expects("ACK")
		must(t, <-hung)
		expect(t, c, sip.Ended, sip.ReasonHangup)
		if m := len(p.came); m > 0 {
			t.Errorf("%d messages more", m)
		}
	})
	t.Run("by key", func(t *testing.T) { // one of our phones is nowhere else
		a := newPhone(t, userA)
		p := newPeer(t, "TLS", "127.0.0.1")
		id, key := identity(t, userB)
		l, err := tls.Listen("tcp", p.at.String(), &tls.Config{Certificates: []tls.Certificate{id}, ClientAuth: tls.RequireAnyClientCert})
		must(t, err)
		p.accepts(l, "TLS")
		c := a.dials(sip.Target{User: userB, Addr: p.at, Pin: key})
		p.answers(p.expects("INVITE"), "302", "", "Contact: "+p.place(""))
		p.expects("ACK")
		expect(t, c, sip.Ended, sip.ReasonMoved)
	})
}

// TestRedirectToTLS: sips is TLS, whose other end is then known by its key: nobody
// else speaks for it.
func TestRedirectToTLS(t *testing.T) {
	for _, uri := range []string{"<sips:there@%v>", "<sip:there@%v;transport=tls>"} {
		t.Run(uri, func(t *testing.T) {
			a := newPhone(t, userA)
			p, c, invite := called(t, a)
			safe := newPeer(t, "TLS", "127.0.0.1")
			safe.phone, safe.user = a.SIPSAddr(), a.user
			id, key := identity(t, userB)
			thief, _ := identity(t, userB)
			l, err := tls.Listen("tcp", safe.at.String(), &tls.Config{Certificates: []tls.Certificate{id}})
			must(t, err)
			safe.accepts(l, "TLS")
			p.answers(invite, "302", "", "Contact: "+fmt.Sprintf(uri, safe.at))
			p.expects("ACK")
			again := safe.expects("INVITE")
			if again.over != "TLS" || strings.HasPrefix(uri, "<sips") != strings.Contains(again.get("Contact"), "<sips:") {
				t.Errorf("over %s, Contact %s", again.over, again.get("Contact"))
			}
			safe.answers(again, "200", safe.audio(7000))
			safe.expects("ACK")
			expect(t, c, sip.Established, "")
			if peer := c.Peer(); !peer.Secure || peer.Fingerprint != key || peer.Addr != safe.at {
				t.Errorf("the peer is %+v", peer)
			}
			p.callID, p.otherTag, p.tag = again.get("Call-ID"), again.tag("From"), safe.tag
			p.sends("BYE", "")
			p.expects("403")
			other := *safe
			other.connects(&thief)
			other.sends("BYE", "")
			other.expects("403")
			hung := hangsUp(t, c)
			safe.answers(safe.expects("BYE"), "200", "")
			must(t, <-hung)
		})
	}
	a := newPhone(t, userA)
	p, c, invite := called(t, a)
	p.answers(invite, "302", "", "Contact: "+fmt.Sprintf("<sips:there@%v>", p.at)) // where nobody takes TLS
	p.expects("ACK")
	expect(t, c, sip.Ended, sip.ReasonUnreachable)
}
