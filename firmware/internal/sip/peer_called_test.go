package sip_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

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
	a := newPhone(t, userA, sip.Hurry)
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
	lm := media(4000)
	for i := range 40 {
		lm.Codecs = append(lm.Codecs, sip.Codec{Name: fmt.Sprintf("rare-%d", i), PayloadType: 127, ClockRate: 8000})
	}
	return lm
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

// TestIPv6: calls between addresses that need brackets.
func TestIPv6(t *testing.T) {
	six := netip.IPv6Loopback()
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("this machine has no IPv6: %v", err)
	} else {
		l.Close()
	}
	for name, listen := range map[string]netip.Addr{"loopback": six, "everywhere": {}} {
		t.Run(name, func(t *testing.T) {
			at := func(c *sip.Config) { c.Listen = listen }
			a, b := newPhone(t, userA, at), newPhone(t, userB, at)
			for _, way := range ways {
				to := way(b)
				to.Addr = netip.AddrPortFrom(six, to.Addr.Port())
				lm := media(4000)
				lm.Addr = six
				ca, err := a.Invite(patience(t), to, lm)
				must(t, err)
				cb := b.isCalled()
				must(t, cb.Answer(lm))
				expect(t, cb, sip.Established, "")
				if e := expect(t, ca, sip.Established, ""); e.Media.Remote.Addr() != six {
					t.Errorf("media %+v", e.Media)
				}
				must(t, ca.Update(patience(t), lm))
				expect(t, ca, sip.Changed, "")
				must(t, cb.Hangup(patience(t)))
				expect(t, ca, sip.Ended, sip.ReasonHangup)
			}
		})
	}
	b := newPhone(t, userB, func(c *sip.Config) { c.Listen = six })
	p := calls(t, b)
	p.phone = b.SIPAddr()
	p.sends("INVITE", p.audio(7000))
	c := b.isCalled()
	said := answering(c)
	p.wants(p.expects("200").get("Contact"), "@[::1]:")
	p.sends("ACK", "")
	must(t, <-said)
}

// TestRetarget: the peer's row says that it is elsewhere.
func TestRetarget(t *testing.T) {
	a := newPhone(t, userA)
	p, c, invite := called(t, a)
	p.answers(invite, "200", p.audio(7000))
	p.expects("ACK")
	expect(t, c, sip.Established, "")
	updated := make(chan error, 1)
	go func() { updated <- c.Update(patience(t), media(6000)) }()
	lost := p.expects("INVITE") // to where the peer no longer is

	now := newPeer(t, "UDP", "127.0.0.1")
	now.tag = p.tag
	must(t, c.Retarget(now.at))
	again := now.expects("INVITE")
	if again.get("CSeq") != "3 INVITE" || again.get("Call-ID") != lost.get("Call-ID") {
		t.Errorf("%s in %s", again.get("CSeq"), again.get("Call-ID"))
	}
	now.wants(again.body, "m=audio 6000")
	now.answers(again, "200", now.audio(7100))
	now.expects("ACK")
	must(t, <-updated)
	if e := expect(t, c, sip.Changed, ""); e.Media.Remote.Port() != 7100 || c.Peer().Addr != now.at {
		t.Errorf("media %+v, peer at %v", e.Media, c.Peer().Addr)
	}
	p.answers(lost, "200", p.audio(7000)) // it was there after all
	now.expects("ACK")
	hung := hangsUp(t, c)
	now.answers(now.expects("BYE"), "200", "")
	must(t, <-hung)
	if err := c.Retarget(netip.AddrPort{}); err == nil {
		t.Error("retargeted to nowhere")
	}
}

// TestLostLink: when the TLS connection breaks, the next request makes another
// one, to the same key only.
func TestLostLink(t *testing.T) {
	b := newPhone(t, userB)
	p := newPeer(t, "TLS", "127.0.0.1")
	p.phone, p.user = b.SIPSAddr(), b.user
	id, _ := identity(t, userA)
	thief, _ := identity(t, userA)
	offers := make(chan tls.Certificate, 2)
	l, err := tls.Listen("tcp", p.at.String(), &tls.Config{ClientAuth: tls.RequireAnyClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { c := <-offers; return &c, nil }})
	must(t, err)
	p.accepts(l, "TLS")

	conn := p.connects(&id)
	c := established(t, p, b)
	if !c.Peer().Secure {
		t.Error("not secure")
	}
	other := *p // the same dialog, by somebody with another key
	other.connects(&thief)
	other.sends("BYE", "")
	other.expects("403")

	updated := make(chan error, 1)
	update := func() { updated <- c.Update(patience(t), media(6000)) }
	go update()
	p.expects("INVITE")
	must(t, conn.Close()) // with the INVITE in it
	offers <- thief
	if err := <-updated; err == nil {
		t.Error("another key got the re-INVITE")
	}
	offers <- id
	go update()
	invite := p.expects("INVITE")
	p.answers(invite, "200", p.audio(7000))
	p.expects("ACK")
	must(t, <-updated)
	expect(t, c, sip.Changed, "")
	hung := hangsUp(t, c)
	p.answers(p.expects("BYE"), "200", "") // on the same connection
	must(t, <-hung)
}

// TestTwoCallsOneLink: calls to the same phone share a connection and end
// apart.
func TestTwoCallsOneLink(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	a1, b1 := connect(t, a, b, b.pinned())
	a2, b2 := connect(t, a, b, b.pinned())
	must(t, a2.Hangup(patience(t)))
	expect(t, b2, sip.Ended, sip.ReasonHangup)
	must(t, b1.Update(patience(t), media(6000)))
	expect(t, a1, sip.Changed, "")
	must(t, b1.Hangup(patience(t)))
	expect(t, a1, sip.Ended, sip.ReasonHangup)
	a1, b1 = connect(t, a, b, b.pinned())
	must(t, b1.Hangup(patience(t)))
	expect(t, a1, sip.Ended, sip.ReasonHangup)
}

// TestGlare: two phones change the call at the same time, and both succeed.
func TestGlare(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			a, b := newPhone(t, userA, sip.Hurry), newPhone(t, userB, sip.Hurry)
			ca, cb := connect(t, a, b, way(b))
			said := make(chan error, 2)
			for range 10 {
				go func() { said <- ca.Update(patience(t), media(6000)) }()
				go func() { said <- cb.Update(patience(t), media(6002)) }()
				must(t, <-said)
				must(t, <-said)
			}
			must(t, ca.Hangup(patience(t)))
		})
	}
}
