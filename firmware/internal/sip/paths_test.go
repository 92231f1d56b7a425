package sip_test

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"flexphone/firmware/internal/media"
	"flexphone/firmware/internal/sip"
)

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
				lm, theirs := sound(4000, func(lm *media.Local) { lm.Addr = six }), sound(4002, func(lm *media.Local) { lm.Addr = six })
				ca, err := a.Invite(patience(t), to, lm)
				must(t, err)
				cb := b.isCalled()
				must(t, cb.Answer(theirs))
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
	go func() { updated <- c.Update(patience(t), of(c, 6000)) }()
	lost := p.expects("INVITE") // to where the peer no longer is

	now := newPeer(t, "UDP", "127.0.0.1")
	now.tag = p.tag
	must(t, c.Retarget(now.at))
	ack, again := now.next(), now.next() // each finds its own way, and either may be first
	if ack.is("INVITE") {
		ack, again = again, ack
	}
	if ack.get("CSeq") != "1 ACK" { // the first may be lost
		t.Errorf("%s", ack.get("CSeq"))
	}
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

// TestPeerMovesDuringUpdate: our re-INVITE goes to where the peer was, while
// the peer's comes from where it is now. That is no glare.
func TestPeerMovesDuringUpdate(t *testing.T) {
	a := newPhone(t, userA)
	p, c, invite := called(t, a)
	p.answers(invite, "200", p.audio(7000))
	p.expects("ACK")
	expect(t, c, sip.Established, "")
	updated := make(chan error, 1)
	go func() { updated <- c.Update(patience(t), of(c, 6000)) }()
	p.expects("INVITE")

	now := newPeer(t, "UDP", "127.0.0.1")
	now.phone, now.user, now.callID, now.otherTag = p.phone, p.user, p.callID, p.otherTag
	now.sends("INVITE", now.audio(7100))
	now.wants(now.expects("200").body, "m=audio 6000")
	now.sends("ACK", "")
	again := now.expects("INVITE")
	now.wants(again.body, "m=audio 6000")
	now.answers(again, "200", now.audio(7100))
	now.expects("ACK")
	must(t, <-updated)
	for {
		e := expect(t, c, sip.Changed, "")
		if e.Media.Remote.Port() == 7100 {
			break
		}
	}
	now.sends("BYE", "")
	now.expects("200")
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
	update := func() { updated <- c.Update(patience(t), of(c, 6000)) }
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
	must(t, b1.Update(patience(t), of(b1, 6000)))
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
			a, b := newPhone(t, userA, sip.HurryGlare), newPhone(t, userB, sip.HurryGlare)
			ca, cb := connect(t, a, b, way(b))
			said := make(chan error, 2)
			for range 10 {
				go func() { said <- ca.Update(patience(t), of(ca, 6000)) }()
				go func() { said <- cb.Update(patience(t), of(cb, 6002)) }()
				must(t, <-said)
				must(t, <-said)
			}
			must(t, ca.Hangup(patience(t)))
		})
	}
}

// TestGlareWaits: who made the Call-ID waits for 2.1 to 4 s, the other for up to 2 s,
// in units of 10 ms (RFC 3261, 14.1): so they do not collide again.
func TestGlareWaits(t *testing.T) {
	for range 1000 {
		owner, other := sip.GlareWait(true), sip.GlareWait(false)
		if owner < 2100*time.Millisecond || owner > 4*time.Second || other < 0 || other > 2*time.Second || (owner+other)%(10*time.Millisecond) != 0 {
			t.Fatalf("waits for %v and %v", owner, other)
		}
	}
}

// TestHangUpWhileConnecting: nobody has to wait for a handshake that never
// comes.
func TestHangUpWhileConnecting(t *testing.T) {
	a := newPhone(t, userA, sip.LateConnect)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	c := a.dials(sip.Target{User: userB, Addr: netip.MustParseAddrPort(l.Addr().String()), Pin: [32]byte{1}})
	conn, err := l.Accept()
	must(t, err)
	defer conn.Close()
	must(t, c.Hangup(patience(t)))
	expect(t, c, sip.Ended, sip.ReasonHangup)
}

// TestCallerVanishes: the phone stops ringing when the caller's connection is
// gone, since no answer could reach it.
func TestCallerVanishes(t *testing.T) {
	b := newPhone(t, userB)
	p := newPeer(t, "TLS", "127.0.0.1")
	p.phone, p.user = b.SIPSAddr(), b.user
	id, _ := identity(t, userA)
	conn := p.connects(&id)
	p.sends("INVITE", p.audio(7000))
	c := b.isCalled()
	must(t, c.Ring())
	p.expects("180")
	must(t, conn.Close())
	expect(t, c, sip.Ended, sip.ReasonUnreachable)
	if err := c.Ring(); !errors.Is(err, sip.ErrEnded) {
		t.Errorf("rings on: %v", err)
	}
}
