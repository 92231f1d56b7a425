package sip_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"flexphone/firmware/internal/sip"
)

// beside is a peer that knows all of p's dialog and sends from another host.
func (p *peer) beside(host string) *peer {
	p.t.Helper()
	o := newPeer(p.t, "UDP", host)
	o.phone, o.user, o.callID, o.tag, o.otherTag = p.phone, p.user, p.callID, p.tag, p.otherTag
	o.seq, o.inviteSeq = p.seq+100, p.inviteSeq+100
	return o
}

// answersOptions says that p lives.
func (p *peer) answersOptions(m message) {
	p.t.Helper()
	if !m.is("OPTIONS") {
		p.t.Fatalf("the phone says %q, want OPTIONS", m.start)
	}
	p.answers(m, "200", "")
}

// TestThirdHost: who knows the tags of a plain call and is not the peer's host
// can neither end it nor lead it elsewhere, whether or not the peer answers when
// it is asked.
func TestThirdHost(t *testing.T) {
	for _, method := range []string{"BYE", "INVITE", "UPDATE", "INFO", "REFER", "OPTIONS", "PRACK"} {
		for _, silent := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/silent=%v", method, silent), func(t *testing.T) {
				t.Parallel()
				b := newPhone(t, userB)
				p := calls(t, b)
				c := established(t, p, b)
				o := p.beside("127.0.0.2")
				body := ""
				if method == "INVITE" || method == "UPDATE" {
					body = o.audio(9000)
				}
				o.sends(method, body)
				asked := p.expects("OPTIONS")
				if !silent {
					p.answersOptions(asked)
				}
				o.expects("403")
				o.seq += 100
				o.sends("ACK", o.audio(9000)) // of nothing
				p.sends("OPTIONS", "")
				p.expects("200") // the peer's own CSeq is still good
				if at := c.Peer().Addr.Addr(); at != p.at.Addr() {
					t.Errorf("the peer is taken to be at %v", at)
				}
				p.sends("BYE", "")
				p.expects("200")
				expect(t, c, sip.Ended, sip.ReasonHangup)
			})
		}
	}
}

// TestThirdHostDoesNotCancel: nor does it end the ringing, or answer for the
// phone that is called.
func TestThirdHostDoesNotCancel(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	p.sends("INVITE", p.audio(7000))
	c := b.isCalled()
	o := p.beside("127.0.0.2")
	o.branch, o.inviteSeq, o.otherTag = p.branch, p.inviteSeq, ""
	o.sends("CANCEL", "", fmt.Sprintf("Via: SIP/2.0/UDP %v;branch=%s;rport", p.at, p.branch))
	o.expects("481")
	said := answering(c)
	p.expects("200")
	p.sends("ACK", "")
	must(t, <-said)
	expect(t, c, sip.Established, "")

	a := newPhone(t, userA)
	callee, call, invite := called(t, a)
	forger := newPeer(t, "UDP", "127.0.0.2")
	forger.tag = "forger"
	forged := invite
	forger.phone = a.SIPAddr()
	forged.reply = forger.out
	forger.answers(forged, "200", forger.audio(9000))
	forger.answers(forged, "486", "")
	callee.answers(invite, "200", callee.audio(7000))
	callee.expects("ACK")
	if e := expect(t, call, sip.Established, ""); e.Media.Remote != netip.AddrPortFrom(callee.at.Addr(), 7000) {
		t.Errorf("sound goes to %v", e.Media.Remote)
	}
}

// TestThirdHostInTheRinging: before anybody has lifted a handset nobody is asked,
// and another host than the peer's is refused, at both ends; nor does it say for
// the phone that is called where its sound is.
func TestThirdHostInTheRinging(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	p.sends("INVITE", p.audio(7000))
	c := b.isCalled()
	must(t, c.Ring())
	p.expects("180")
	o := p.beside("127.0.0.2")
	for _, method := range []string{"BYE", "UPDATE", "INFO", "REFER", "PRACK", "OPTIONS", "INVITE"} {
		o.sends(method, "")
		o.expects("403")
	}
	o.sends("ACK", "")
	p.sends("CANCEL", "")
	p.expects("200")
	p.expects("487")
	expect(t, c, sip.Ended, sip.ReasonCancelled)

	a := newPhone(t, userA)
	callee, call, invite := called(t, a)
	callee.answers(invite, "183", callee.audio(7000), reliably, "RSeq: 1")
	callee.answers(callee.prack(1), "200", "")
	expect(t, call, sip.Progress, "")
	expectEarly(t, call)
	callee.user = userA
	o = callee.beside("127.0.0.2")
	forged := invite
	forged.reply = o.out
	o.answers(forged, "183", o.audio(9000), reliably, "RSeq: 2")
	o.sends("UPDATE", o.audio(9000))
	o.expects("403")
	o.sends("BYE", "")
	o.expects("403")
	callee.answers(invite, "200", "")
	callee.expects("ACK") // and no PRACK before
	if e := expect(t, call, sip.Established, ""); e.Media.Remote != netip.AddrPortFrom(callee.at.Addr(), 7000) {
		t.Errorf("sound goes to %v", e.Media.Remote)
	}
}

// TestRowMovesPlainPeer: a plain peer whose row says that it has moved is believed
// where it is now, without being asked, and no longer where it was.
func TestRowMovesPlainPeer(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	c := established(t, p, b)
	now := p.beside("127.0.0.2")
	must(t, c.Retarget(now.at))
	now.sends("UPDATE", now.audio(9000))
	now.expects("200")
	if e := expect(t, c, sip.Changed, ""); e.Media.Remote != netip.AddrPortFrom(now.at.Addr(), 9000) {
		t.Errorf("sound goes to %v", e.Media.Remote)
	}
	p.seq = now.seq + 100
	p.sends("BYE", "")
	now.answersOptions(now.expects("OPTIONS"))
	p.expects("403")
	now.sends("BYE", "")
	now.expects("200")
	expect(t, c, sip.Ended, sip.ReasonHangup)
}

// TestPlainPeerMoves: a peer that is known to have left its address is believed
// at the new one.
func TestPlainPeerMoves(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	c := established(t, p, b)
	o := p.beside("127.0.0.2")
	p.leaves()
	o.sends("INVITE", o.audio(9000))
	o.expects("200")
	o.sends("ACK", "")
	if e := expect(t, c, sip.Changed, ""); e.Media.Remote != netip.AddrPortFrom(o.at.Addr(), 9000) || c.Peer().Addr != o.at {
		t.Errorf("media to %v, peer at %v", e.Media.Remote, c.Peer().Addr)
	}
	hung := hangsUp(t, c)
	o.answers(o.expects("BYE"), "200", "")
	must(t, <-hung)
}

// TestBehindNAT: a caller whose Contact leads nowhere is reached where it was
// heard.
func TestBehindNAT(t *testing.T) {
	const inside = "10.99.0.7:5060"
	for _, transport := range []string{"UDP", "TCP"} {
		t.Run(transport, func(t *testing.T) {
			b := newPhone(t, userB)
			p := calls(t, b)
			p.transport = transport
			if transport == "TCP" {
				p.connects(nil)
			}
			natted := func() []string {
				p.branches++
				p.branch = fmt.Sprintf("z9hG4bKnat%d", p.branches)
				return []string{
					fmt.Sprintf("Via: SIP/2.0/%s %s;branch=%s;rport", transport, inside, p.branch),
					fmt.Sprintf("Contact: <sip:peer@%s;transport=%s>", inside, transport),
				}
			}
			p.sends("INVITE", p.audio(7000), natted()...)
			c := b.isCalled()
			said := answering(c)
			ok := p.expects("200")
			p.wants(ok.get("Via"), "received=127.0.0.1")
			p.sends("ACK", "", natted()...)
			must(t, <-said)
			expect(t, c, sip.Established, "")

			updated := make(chan error, 1)
			go func() { updated <- c.Update(patience(t), of(c, 6000)) }()
			p.answers(p.expects("INVITE"), "200", p.audio(7000), fmt.Sprintf("Contact: <sip:peer@%s;transport=%s>", inside, transport))
			p.expects("ACK")
			must(t, <-updated)
			alive := probes(t, c)
			p.answersOptions(p.expects("OPTIONS"))
			must(t, <-alive)
			hung := hangsUp(t, c)
			bye := p.expects("BYE")
			if bye.over != transport {
				t.Errorf("BYE over %s", bye.over)
			}
			p.answers(bye, "200", "")
			must(t, <-hung)
		})
	}
}

// TestExpires: ringing ends when the caller's patience does, and what is no
// number of seconds is no limit.
func TestExpires(t *testing.T) {
	for value, ends := range map[string]bool{"1": true, "0": true, "Thu, 01 Jan 2026 00:00:00 GMT": false, "-1": false, "4294967295": false, "99999999999999999999": false, "3600": false} {
		t.Run(value, func(t *testing.T) {
			t.Parallel()
			b := newPhone(t, userB)
			p := calls(t, b)
			p.sends("INVITE", p.audio(7000), "Expires: "+value)
			c := b.isCalled()
			if ends {
				p.expects("487")
				p.sends("ACK", "")
				if e := expect(t, c, sip.Ended, sip.ReasonCancelled); e.Code != 487 {
					t.Errorf("code %d", e.Code)
				}
				return
			}
			must(t, c.Ring())
			p.expects("180")
			said := answering(c)
			p.expects("200")
			p.sends("ACK", "")
			must(t, <-said)
		})
	}
}

// TestSilentConnections: connections that say nothing keep nobody out: neither
// from our TLS nor from our TCP.
func TestSilentConnections(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	for i := range 300 {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i % 40)}), 0)
		if from.Addr().As4()[3] == 0 {
			continue
		}
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from)}
		for _, to := range []netip.AddrPort{b.SIPAddr(), b.SIPSAddr()} {
			c, err := d.Dial("tcp", to.String())
			must(t, err)
			defer c.Close()
		}
	}
	ca, cb := connect(t, a, b, b.pinned())
	must(t, ca.Hangup(patience(t)))
	expect(t, cb, sip.Ended, sip.ReasonHangup)

	p := calls(t, b)
	p.transport = "TCP"
	p.connects(nil)
	c := established(t, p, b)
	p.sends("BYE", "")
	p.expects("200")
	expect(t, c, sip.Ended, sip.ReasonHangup)
}

// TestConnectionsOfCallsStay: a call's connection does not give way, however
// many others come.
func TestConnectionsOfCallsStay(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	ca, cb := connect(t, a, b, b.pinned())
	for range 60 {
		for _, to := range []netip.AddrPort{b.SIPAddr(), b.SIPSAddr()} {
			c, err := net.Dial("tcp", to.String())
			must(t, err)
			defer c.Close()
		}
	}
	must(t, cb.Probe(patience(t)))
	must(t, ca.Hangup(patience(t)))
	expect(t, cb, sip.Ended, sip.ReasonHangup)
}

// TestPanics: a panic costs the call or the request that it happened in.
func TestPanics(t *testing.T) {
	for _, where := range []string{"incoming", "outgoing", "established", "request"} {
		t.Run(where, func(t *testing.T) {
			reports := make(chan string, 8)
			broken := false
			change := func(c *sip.Config) {
				c.Panicked = func(what string, cause any, stack []byte) {
					if cause != "broken" || len(stack) == 0 {
						t.Errorf("cause %v, stack of %d bytes", cause, len(stack))
					}
					reports <- what
				}
				owns := c.Owns
				c.Owns = func(user string) bool {
					if broken {
						panic("broken")
					}
					return owns(user)
				}
			}
			a, b := newPhone(t, userA, change), newPhone(t, userB, change)
			switch where {
			case "incoming":
				ca := a.dials(b.at())
				cb := b.isCalled()
				sip.Break(cb)
				expect(t, cb, sip.Ended, sip.ReasonFailed)
				if e := expect(t, ca, sip.Ended, sip.ReasonFailed); e.Code != 500 {
					t.Errorf("the caller is told %d", e.Code)
				}
			case "outgoing":
				ca := a.dials(b.at())
				cb := b.isCalled()
				must(t, cb.Ring())
				expect(t, ca, sip.Progress, "")
				sip.Break(ca)
				expect(t, ca, sip.Ended, sip.ReasonFailed)
				expect(t, cb, sip.Ended, sip.ReasonCancelled)
			case "established":
				ca, cb := connect(t, a, b, b.pinned())
				sip.Break(ca)
				expect(t, ca, sip.Ended, sip.ReasonFailed)
				expect(t, cb, sip.Ended, sip.ReasonHangup)
			case "request":
				broken = true
				if e := expect(t, a.dials(b.at()), sip.Ended, sip.ReasonFailed); e.Code != 500 {
					t.Errorf("answered %d", e.Code)
				}
				broken = false
			}
			want := "call"
			if where == "request" {
				want = where
			}
			if what := <-reports; what != want {
				t.Errorf("panic in %q", what)
			}
			ca, cb := connect(t, a, b, b.at()) // and the phone goes on
			must(t, cb.Hangup(patience(t)))
			expect(t, ca, sip.Ended, sip.ReasonHangup)
		})
	}
}
