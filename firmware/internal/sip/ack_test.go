package sip_test

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"flexphone/firmware/internal/sip"
)

// pinnedPeer is a peer of another phone's key, which listen has take connections until
// its listener is closed.
func pinnedPeer(t *testing.T, by *phone) (p *peer, to sip.Target, id tls.Certificate, listen func() net.Listener) {
	id, key := identity(t, userB)
	p = newPeer(t, "TLS", "127.0.0.1")
	p.phone, p.user = by.SIPSAddr(), by.user
	return p, sip.Target{User: userB, Addr: p.at, Pin: key}, id, func() net.Listener {
		t.Helper()
		l, err := tls.Listen("tcp", p.at.String(), &tls.Config{Certificates: []tls.Certificate{id}, ClientAuth: tls.RequireAnyClientCert})
		must(t, err)
		p.accepts(l, "TLS")
		return l
	}
}

// The connection breaks into which the ACK was written: nobody knows whether it has
// arrived, and the 200 cannot come again. It is sent by another connection.
func TestACKOnALostConnection(t *testing.T) {
	a := newPhone(t, userA)
	p, to, _, listen := pinnedPeer(t, a)
	listen()
	c := a.dials(to)
	p.answers(p.expects("INVITE"), "200", p.audio(7000))
	first := p.expects("ACK")
	expect(t, c, sip.Established, "")
	for range 2 { // the second may be lost as the first
		sip.CutLinks(a.Agent)
		again := p.expects("ACK")
		if again.get("CSeq") != first.get("CSeq") || again.get("Call-ID") != first.get("Call-ID") || again.tag("To") != first.tag("To") {
			t.Errorf("%s in %s to %s", again.get("CSeq"), again.get("Call-ID"), again.get("To"))
		}
	}
	hung := hangsUp(t, c)
	p.answers(p.expects("BYE"), "200", "")
	must(t, <-hung)
}

// A 200 arrives while no way leads back, as when a cable has just come back: the ACK waits
// for one, and is not given up. Who repeats the 200 is acknowledged at once.
func TestACKWithoutAWay(t *testing.T) {
	for name, late := range map[string]func(*sip.Config){"the phone looks for one": func(*sip.Config) {}, "the 200 is repeated": sip.LateACK} {
		t.Run(name, func(t *testing.T) {
			a := newPhone(t, userA, late)
			p, to, id, listen := pinnedPeer(t, a)
			l := listen()
			c := a.dials(to)
			invite := p.expects("INVITE")
			p.answers(invite, "180", "")
			expect(t, c, sip.Progress, "")
			sip.Tentative(c) // then nothing else is on its way to the call
			resume, posted := sip.Pause(c)
			p.answers(invite, "200", p.audio(7000))
			for ctx := patience(t); posted() == 0; time.Sleep(time.Millisecond) {
				must(t, ctx.Err())
			}
			must(t, l.Close())
			sip.CutLinks(a.Agent)
			resume()
			expect(t, c, sip.Established, "")
			if len(p.came) > 0 {
				t.Fatalf("the phone says %q, and has no way", (<-p.came).start)
			}
			p.connects(&id)
			if name == "the 200 is repeated" {
				invite.reply = p.out
				p.answers(invite, "200", p.audio(7000))
			}
			if ack := p.expects("ACK"); ack.get("CSeq") != "1 ACK" || ack.tag("To") != p.tag {
				t.Errorf("%s to %s", ack.get("CSeq"), ack.get("To"))
			}
			hung := hangsUp(t, c)
			p.answers(p.expects("BYE"), "200", "")
			must(t, <-hung)
		})
	}
}
