package sip_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"flexphone/firmware/internal/media"
	"flexphone/firmware/internal/sip"
)

// called is a peer that a calls: the call, and the INVITE that came of it.
func called(t testing.TB, a *phone) (*peer, *sip.Call, message) {
	t.Helper()
	p := newPeer(t, "UDP", "127.0.0.1")
	p.phone, p.user = a.SIPAddr(), a.user
	c := a.dials(sip.Target{User: userB, Addr: p.at})
	return p, c, p.expects("INVITE")
}

// hangsUp hangs up c; the peer has to say yes to the BYE.
func hangsUp(t testing.TB, c *sip.Call) <-chan error {
	said := make(chan error, 1)
	go func() { said <- c.Hangup(patience(t)) }()
	return said
}

func TestPeerIsCalled(t *testing.T) {
	a := newPhone(t, userA)
	p, c, invite := called(t, a)
	if want := fmt.Sprintf("INVITE sip:%s@%v SIP/2.0", userB, p.at); invite.start != want {
		t.Errorf("%q, want %q", invite.start, want)
	}
	p.wants(invite.get("From"), fmt.Sprintf(`"101" <sip:%s@127.0.0.1>;tag=`, userA))
	p.wants(invite.get("Contact"), a.SIPAddr().String())
	p.answers(invite, "180", "")
	expect(t, c, sip.Progress, "")
	p.answers(invite, "200", p.audio(7000))
	ack := p.expects("ACK")
	p.wants(ack.start, "sip:peer@"+p.at.String())
	if ack.get("CSeq") != "1 ACK" || ack.tag("To") != p.tag {
		t.Errorf("ACK %s to %s", ack.get("CSeq"), ack.get("To"))
	}
	expect(t, c, sip.Established, "")
	p.repeats = true
	p.answers(invite, "200", p.audio(7000)) // the ACK was lost
	if again := p.expects("ACK"); again.get("Via") != ack.get("Via") {
		t.Error("the second ACK is another one")
	}
	p.repeats = false
	p.sends("BYE", "")
	p.expects("200")
	expect(t, c, sip.Ended, sip.ReasonHangup)
}

// TestRoutes: requests of the dialog go where its proxies want them.
func TestRoutes(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	p, c, invite := called(t, a)
	proxy := newPeer(t, "UDP", "127.0.0.1")
	p.answers(invite, "200", p.audio(7000),
		fmt.Sprintf("Record-Route: <sip:192.0.2.9:5070;lr>, <sip:%v;lr>", proxy.at))
	ack := proxy.expects("ACK")
	proxy.wants(ack.start, "sip:peer@"+p.at.String())
	if got, want := ack.get("Route"), fmt.Sprintf("<sip:%v;lr>, <sip:192.0.2.9:5070;lr>", proxy.at); got != want {
		t.Errorf("Route %q, want %q", got, want)
	}
	expect(t, c, sip.Established, "")
	hung := hangsUp(t, c)
	proxy.answers(proxy.expects("BYE"), "200", "")
	must(t, <-hung)

	p = calls(t, b) // and the other way round, by a strict router
	strict := newPeer(t, "UDP", "127.0.0.1")
	p.sends("INVITE", p.audio(7000), fmt.Sprintf("Record-Route: <sip:%v>", strict.at), "Record-Route: <sip:192.0.2.9:5070;lr>")
	c = b.isCalled()
	said := answering(c)
	p.wants(p.expects("200").get("Record-Route"), "<sip:192.0.2.9:5070;lr>")
	p.sends("ACK", "")
	must(t, <-said)
	hung = hangsUp(t, c)
	bye := strict.expects("BYE")
	if want := fmt.Sprintf("BYE sip:%v SIP/2.0", strict.at); bye.start != want {
		t.Errorf("%q, want %q", bye.start, want)
	}
	strict.wants(bye.get("Route"), fmt.Sprintf("<sip:192.0.2.9:5070;lr>, <sip:peer@%v", p.at))
	strict.answers(bye, "200", "")
	must(t, <-hung)
}

// TestFork: a second phone answers the same INVITE, and is told good-bye where
// it is.
func TestFork(t *testing.T) {
	a := newPhone(t, userA)
	p, c, invite := called(t, a)
	p.answers(invite, "180", "")
	expect(t, c, sip.Progress, "")
	p.answers(invite, "200", p.audio(7000))
	p.expects("ACK")
	expect(t, c, sip.Established, "")

	other := newPeer(t, "UDP", "127.0.0.1")
	other.tag = "other"
	for range 2 { // it repeats its 200 and gets one BYE only
		p.answers(invite, "200", p.audio(7000), "To: "+invite.get("To")+";tag=other",
			fmt.Sprintf("Contact: <sip:other@%v>", other.at))
	}
	seen := map[string]int{}
	for range 2 { // in either order
		m := other.next()
		if m.tag("To") != "other" {
			t.Errorf("%s to %s", m.start, m.get("To"))
		}
		if m.is("BYE") {
			other.answers(m, "200", "")
		}
		method, _, _ := strings.Cut(m.start, " ")
		seen[method]++
	}
	if seen["ACK"] != 1 || seen["BYE"] != 1 {
		t.Errorf("the other phone hears %v", seen)
	}
	p.sends("BYE", "") // the first one still talks
	p.expects("200")
	expect(t, c, sip.Ended, sip.ReasonHangup)
	if len(other.came) > 0 && (<-other.came).is("BYE") {
		t.Error("a second BYE")
	}
}

// TestLateAnswer: a 200 that crosses our CANCEL is acknowledged and ended.
func TestLateAnswer(t *testing.T) {
	a := newPhone(t, userA)
	p, c, invite := called(t, a)
	p.answers(invite, "180", "")
	expect(t, c, sip.Progress, "")
	hung := hangsUp(t, c)
	expect(t, c, sip.Ended, sip.ReasonHangup)
	cancel := p.expects("CANCEL")
	if cancel.get("Via") != invite.get("Via") || cancel.get("CSeq") != "1 CANCEL" {
		t.Errorf("CANCEL %q %q", cancel.get("Via"), cancel.get("CSeq"))
	}
	p.answers(invite, "180", "") // no reason to cancel again
	p.answers(invite, "200", p.audio(7000))
	p.answers(cancel, "481", "")
	for range 2 {
		switch m := p.next(); {
		case m.is("BYE"):
			p.answers(m, "200", "")
		case !m.is("ACK"):
			t.Errorf("the phone says %q", m.start)
		}
	}
	must(t, <-hung)
}

// TestNoCancelBeforeTrying: a CANCEL waits for the first response.
func TestNoCancelBeforeTrying(t *testing.T) {
	a := newPhone(t, userA)
	p, c, invite := called(t, a)
	hung := hangsUp(t, c)
	expect(t, c, sip.Ended, sip.ReasonHangup)
	p.answers(invite, "100", "")
	cancel := p.expects("CANCEL")
	p.answers(cancel, "200", "")
	p.answers(invite, "487", "")
	p.expects("ACK")
	must(t, <-hung)
}

// TestSilentPeer: who says nothing at all is given up soon, and what then
// comes nevertheless is ended.
func TestSilentPeer(t *testing.T) {
	a := newPhone(t, userA, sip.HurrySilence)
	p, c, invite := called(t, a)
	if e := expect(t, c, sip.Ended, sip.ReasonUnreachable); e.Code != 408 {
		t.Errorf("code %d", e.Code)
	}
	p.answers(invite, "180", "")
	p.answers(p.expects("CANCEL"), "200", "")
	p.answers(invite, "487", "")
	p.expects("ACK")
	must(t, c.Hangup(patience(t)))
}

// TestUnusableAnswer: a 200 without a codec of ours is acknowledged and ended.
func TestUnusableAnswer(t *testing.T) {
	a := newPhone(t, userA)
	p, c, invite := called(t, a)
	p.answers(invite, "200", strings.ReplaceAll(p.audio(7000), "RTP/AVP 111 0 102", "RTP/AVP 18"))
	p.expects("ACK")
	p.answers(p.expects("BYE"), "200", "")
	expect(t, c, sip.Ended, sip.ReasonNoCodec)
}

// long is media whose offer does not fit into a packet.
func long() sip.LocalMedia {
	return sound(4000, func(lm *media.Local) {
		lm.Codecs = slices.Clone(lm.Codecs)
		for i := range 40 {
			lm.Codecs = append(lm.Codecs, media.Codec{Name: fmt.Sprintf("rare-%d", i), PayloadType: 127, ClockRate: 8000})
		}
	})
}

// TestLongRequests go over TCP, and over UDP where nobody listens on TCP.
func TestLongRequests(t *testing.T) {
	for _, over := range []string{"TCP", "UDP"} {
		t.Run(over, func(t *testing.T) {
			a := newPhone(t, userA)
			p := newPeer(t, "UDP", "127.0.0.1")
			p.phone, p.user = a.SIPAddr(), a.user
			if over == "TCP" {
				p.listens()
			}
			dial := func() (*sip.Call, message) {
				t.Helper()
				c, err := a.Invite(patience(t), sip.Target{User: userB, Addr: p.at}, long())
				must(t, err)
				invite := p.expects("INVITE")
				if invite.over != over {
					t.Errorf("INVITE over %s", invite.over)
				}
				p.wants(invite.get("Via"), "SIP/2.0/"+over)
				return c, invite
			}
			c, invite := dial()
			p.answers(invite, "180", "")
			expect(t, c, sip.Progress, "")
			hung := hangsUp(t, c)
			cancel := p.expects("CANCEL") // goes the way of its INVITE
			if cancel.over != over || cancel.get("Via") != invite.get("Via") {
				t.Errorf("CANCEL over %s by %q", cancel.over, cancel.get("Via"))
			}
			p.answers(cancel, "200", "")
			p.answers(invite, "487", "")
			p.expects("ACK")
			must(t, <-hung)

			c, invite = dial()
			p.answers(invite, "200", p.audio(7000), fmt.Sprintf("Contact: <sip:peer@%v>", p.at))
			if ack := p.expects("ACK"); ack.over != "UDP" { // short again
				t.Errorf("ACK over %s", ack.over)
			}
			hung = hangsUp(t, c)
			expect(t, c, sip.Established, "")
			p.answers(p.expects("BYE"), "200", "")
			must(t, <-hung)
		})
	}
}

// TestPeerOverTCP: a call all over TCP, whose connection breaks.
func TestPeerOverTCP(t *testing.T) {
	b := newPhone(t, userB)
	p := newPeer(t, "TCP", "127.0.0.1").listens()
	p.phone, p.user = b.SIPAddr(), b.user
	conn := p.connects(nil)
	c := established(t, p, b)
	must(t, conn.Close())
	hung := hangsUp(t, c)
	bye := p.expects("BYE")
	if bye.over != "TCP" {
		t.Errorf("BYE over %s", bye.over)
	}
	p.answers(bye, "200", "")
	must(t, <-hung)
}
