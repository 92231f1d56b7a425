package sip_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"flexphone/firmware/internal/sip"
)

// TestEarlyMedia: a description in a 180 or 183 is heard at once, and is the
// answer where the 200 has none (RFC 3261, 13.2.1).
func TestEarlyMedia(t *testing.T) {
	for _, status := range []string{"180", "183"} {
		for _, final := range []string{"none", "same", "other", "unusable", "malformed"} {
			t.Run(status+"/"+final, func(t *testing.T) {
				a := newPhone(t, userA)
				p, c, invite := called(t, a)
				p.answers(invite, status, p.audio(7000))
				expect(t, c, sip.Progress, "")
				early := expect(t, c, sip.Early, "")
				if early.Media.Remote.Port() != 7000 || !early.Media.Send || !early.Media.Recv {
					t.Errorf("early media %+v", early.Media)
				}
				p.answers(invite, "180", "") // rings on, and says nothing new
				expect(t, c, sip.Progress, "")
				body, port := "", uint16(7000)
				switch final {
				case "same":
					body = p.audio(7000)
				case "other": // forbidden, and done by gateways
					body, port = p.audio(7100), 7100
				case "unusable":
					body = strings.ReplaceAll(p.audio(7100), "RTP/AVP 111 0 102", "RTP/AVP 18")
				case "malformed":
					body = "hello"
				}
				p.answers(invite, "200", body)
				p.expects("ACK")
				e, err := c.Next(patience(t))
				must(t, err)
				if e.Kind != sip.Established || e.Media.Remote.Port() != port {
					t.Errorf("event %+v, want the call with port %d", e, port)
				}
				if same := e.Media.Equal(early.Media); same != (port == 7000) {
					t.Errorf("established with %+v", e.Media)
				}
				p.sends("BYE", "")
				p.expects("200")
			})
		}
	}
}

// TestEarlyMediaChanges: what is described again is told again only if it is
// new, and what cannot be used is not told at all.
func TestEarlyMediaChanges(t *testing.T) {
	a := newPhone(t, userA)
	p, c, invite := called(t, a)
	for _, port := range []int{7000, 7000, 7002} {
		p.answers(invite, "183", p.audio(port, fmt.Sprintf("a=ptime:%d", 20)))
	}
	p.answers(invite, "183", "hello")
	p.answers(invite, "183", p.audio(7002, "a=inactive"))
	var ports []uint16
	for len(ports) < 3 {
		ports = append(ports, expectEarly(t, c).Remote.Port())
	}
	if fmt.Sprint(ports) != "[7000 7002 7002]" {
		t.Errorf("early media at ports %v", ports)
	}
	p.answers(invite, "486", "")
	p.expects("ACK")
	expect(t, c, sip.Ended, sip.ReasonBusy)
}

func expectEarly(t testing.TB, c *sip.Call) sip.Media {
	t.Helper()
	for {
		e, err := c.Next(patience(t))
		must(t, err)
		if e.Kind == sip.Early {
			return e.Media
		}
	}
}

// TestForksDescribeThemselves: two phones describe themselves early, each for
// itself; who answers without a description means its own, and one that has
// never described itself has not answered.
func TestForksDescribeThemselves(t *testing.T) {
	for winner, port := range map[string]uint16{"one": 7000, "two": 7100, "three": 0} {
		t.Run(winner, func(t *testing.T) {
			a := newPhone(t, userA)
			p, c, invite := called(t, a)
			as := func(tag, status, body string) {
				p.tag = tag
				p.answers(invite, status, body)
			}
			as("one", "183", p.audio(7000))
			as("two", "183", p.audio(7100))
			as("three", "180", "")
			as("one", "180", "")
			as(winner, "200", "")
			p.expects("ACK")
			for {
				e, err := c.Next(patience(t))
				must(t, err)
				if e.Kind == sip.Progress || e.Kind == sip.Early {
					continue
				}
				if port == 0 {
					p.answers(p.expects("BYE"), "200", "")
					if e.Kind != sip.Ended || e.Reason != sip.ReasonNoCodec {
						t.Errorf("event %+v", e)
					}
					return
				}
				if e.Kind != sip.Established || e.Media.Remote.Port() != port {
					t.Errorf("event %+v, want port %d", e, port)
				}
				return
			}
		})
	}
}

// TestAnswererSpeaksAtOnce: its media are there when the 200 has left, before
// the ACK (RFC 3264, 6); with the offer in the 200 they cannot be.
func TestAnswererSpeaksAtOnce(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	p.sends("INVITE", p.audio(7000))
	c := b.isCalled()
	said := answering(c)
	p.expects("200")
	if m := expect(t, c, sip.Early, "").Media; m.Remote.Port() != 7000 || !m.Send {
		t.Errorf("early media %+v", m)
	}
	select {
	case err := <-said:
		t.Errorf("answered before the ACK: %v", err)
	default:
	}
	p.sends("ACK", "")
	must(t, <-said)
	if e, err := c.Next(patience(t)); err != nil || e.Kind != sip.Established || e.Media.Remote.Port() != 7000 {
		t.Errorf("event %+v, %v", e, err)
	}
	p.sends("BYE", "")
	p.expects("200")

	p = calls(t, b)
	p.callID += "-late"
	p.sends("INVITE", "")
	c = b.isCalled()
	said = answering(c)
	p.expects("200")
	p.sends("ACK", p.audio(7000))
	must(t, <-said)
	if e, err := c.Next(patience(t)); err != nil || e.Kind != sip.Established {
		t.Errorf("first event of a late offer %+v, %v", e, err)
	}

	p = calls(t, b) // hung up before the ACK
	p.callID += "-gone"
	p.sends("INVITE", p.audio(7000))
	c = b.isCalled()
	said = answering(c)
	p.expects("200")
	expect(t, c, sip.Early, "")
	hung := hangsUp(t, c)
	expect(t, c, sip.Ended, sip.ReasonHangup)
	p.sends("ACK", "")
	p.answers(p.expects("BYE"), "200", "")
	must(t, <-hung)
	if err := <-said; !errors.Is(err, sip.ErrEnded) {
		t.Errorf("answered: %v", err)
	}
}
