package sip_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"flexphone/firmware/internal/sip"
)

// from dials at from one of many addresses of this machine.
func from(t *testing.T, i int, at netip.AddrPort) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(1+i%200))}}
	c, err := d.DialContext(patience(t), "tcp", at.String())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// unmoved wants the call between a and b to go on, another phone of ours to get
// through to b, and little to be kept of all the others.
func unmoved(t *testing.T, b *phone, calls ...*sip.Call) {
	t.Helper()
	for _, c := range calls {
		must(t, c.Probe(patience(t)))
	}
	third := newPhone(t, userC)
	ca, cb := connect(t, third, b, b.pinned())
	must(t, ca.Hangup(patience(t)))
	expect(t, cb, sip.Ended, sip.ReasonHangup)
	if n := sip.Streams(b.Agent); n > 2*128 {
		t.Errorf("%d connections are open", n)
	}
	if n := sip.Held(b.Agent); n > 1<<20 {
		t.Errorf("%d bytes of unfinished messages are kept", n)
	}
}

// TestHalfOpenTLS: five hundred handshakes that are begun and not finished, from a
// few hosts and from many, neither end a call nor keep one of our phones out.
func TestHalfOpenTLS(t *testing.T) {
	hello := []byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3} // the first bytes of a ClientHello
	for _, hosts := range []int{5, 200} {
		t.Run(fmt.Sprint(hosts), func(t *testing.T) {
			t.Parallel()
			a, b := newPhone(t, userA), newPhone(t, userB)
			ca, cb := connect(t, a, b, b.pinned())
			for i := range 500 {
				_, _ = from(t, i%hosts, b.SIPSAddr()).Write(hello) // it may have been turned out already
			}
			unmoved(t, b, ca, cb)
		})
	}
}

// TestInviteFlood: calls of strangers, as many as come, ring at most where there is
// room for strangers, and a call that goes on and one of ours do not feel them.
func TestInviteFlood(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	ca, cb := connect(t, a, b, b.pinned())
	to := net.UDPAddrFromAddrPort(b.SIPAddr())
	for host := range 8 {
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 4, byte(1+host))}, to)
		must(t, err)
		defer c.Close()
		me := c.LocalAddr().String()
		for i := range 500 {
			text := fmt.Sprintf("INVITE sip:%s@%v SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%d;rport\r\nFrom: <sip:x@%s>;tag=%d\r\nTo: <sip:%s@%v>\r\n"+
				"Call-ID: flood-%d-%d\r\nCSeq: 1 INVITE\r\nContact: <sip:x@%s>\r\nContent-Length: 0\r\n\r\n", userB, to, me, i, me, i, userB, to, host, i, me)
			_, _ = c.Write([]byte(text)) // what does not fit is lost, as it may be
		}
	}
	must(t, ca.Probe(patience(t)))
	must(t, cb.Probe(patience(t)))
	if n := sip.Waiting(b.Agent); n > 8 {
		t.Errorf("%d strangers ring", n)
	}
	for sip.Waiting(b.Agent) > 0 { // they are told that they do not get through
		must(t, b.isCalled().Reject(486))
	}
	if n := sip.Kept(b.Agent); n > mostKept {
		t.Errorf("%d transactions are kept", n)
	}
	third := newPhone(t, userC)
	cc := third.dials(b.pinned())
	for c := b.isCalled(); ; c = b.isCalled() {
		if !c.Peer().Secure { // of the flood, late
			must(t, c.Reject(486))
			continue
		}
		must(t, c.Ring())
		break
	}
	expect(t, cc, sip.Progress, "")
}

// TestSlowSenders: connections in which long messages begin and do not end, over
// TCP and, with keys that anybody can make, over TLS, fill no memory.
func TestSlowSenders(t *testing.T) {
	a, b := newPhone(t, userA), newPhone(t, userB)
	ca, cb := connect(t, a, b, b.pinned())
	text := []byte("INVITE sip:" + userB + "@127.0.0.1 SIP/2.0\r\nSubject: " + strings.Repeat("x", 40_000))
	id, _ := identity(t, userC)
	for i := range 100 {
		_, _ = from(t, i, b.SIPAddr()).Write(text)
		c := tls.Client(from(t, i, b.SIPSAddr()), &tls.Config{Certificates: []tls.Certificate{id}, InsecureSkipVerify: true})
		_, _ = c.Write(text)
	}
	coming := time.NewTicker(time.Millisecond)
	defer coming.Stop()
	for ctx := patience(t); sip.Held(b.Agent) == 0; <-coming.C {
		if ctx.Err() != nil {
			t.Fatal("nothing has come")
		}
	}
	unmoved(t, b, ca, cb)
	p := calls(t, b) // a message in two parts is still one
	p.transport = "TCP"
	p.connects(nil)
	whole := p.out
	p.out = func(text []byte) error {
		for _, part := range [][]byte{text[:100], text[100:]} {
			if err := whole(part); err != nil {
				return err
			}
		}
		return nil
	}
	c := established(t, p, b)
	p.sends("BYE", "")
	p.expects("200")
	expect(t, c, sip.Ended, sip.ReasonHangup)
}

// TestKnownPhonesGetThrough: strangers with certificates of their own, who ring from
// everywhere, take the room of those who have any key; a phone that has been called
// by its key, or was vouched for, has another.
func TestKnownPhonesGetThrough(t *testing.T) {
	for _, how := range []string{"called", "vouched", "never met"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			a, b := newPhone(t, userA), newPhone(t, userB)
			switch how {
			case "called":
				cb, ca := connect(t, b, a, a.pinned())
				must(t, cb.Hangup(patience(t)))
				expect(t, ca, sip.Ended, sip.ReasonHangup)
			case "vouched":
				ca, cb := connect(t, a, b, b.pinned())
				cb.Vouch()
				must(t, ca.Hangup(patience(t)))
				expect(t, cb, sip.Ended, sip.ReasonHangup)
			}
			for i := range 8 {
				p := newPeer(t, "TLS", fmt.Sprintf("127.0.3.%d", 1+i/4))
				id, _ := identity(t, userA) // says that it is a's, and is not
				p.phone, p.user, p.callID, p.tag = b.SIPSAddr(), userB, fmt.Sprint("stranger-", i), fmt.Sprint("t", i)
				p.connects(&id)
				p.sends("INVITE", p.audio(7000))
				if c := b.isCalled(); c.Peer().Known {
					t.Error("a stranger is known")
				}
			}
			ca := a.dials(b.pinned())
			if how == "never met" {
				expect(t, ca, sip.Ended, sip.ReasonBusy)
				return
			}
			cb := b.isCalled()
			if !cb.Peer().Known {
				t.Error("it is not known")
			}
			must(t, cb.Ring())
			expect(t, ca, sip.Progress, "")
			must(t, ca.Hangup(patience(t)))
			expect(t, cb, sip.Ended, sip.ReasonCancelled)
		})
	}
}
