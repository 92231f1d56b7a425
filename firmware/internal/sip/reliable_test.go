package sip_test

import (
	"fmt"
	"strings"
	"testing"

	"flexphone/firmware/internal/sip"
)

const reliably = "Require: 100rel"

// TestRingsReliably: a caller that requires it hears reliably that it rings
// (RFC 3262, 3): again and again until it says that it has.
func TestRingsReliably(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	p.repeats = true
	p.sends("INVITE", p.audio(7000), reliably, "Supported: 100rel")
	c := b.isCalled()
	must(t, c.Ring())
	ringing := p.expects("180")
	p.wants(ringing.get("Require"), "100rel")
	if again := p.expects("180"); again.get("RSeq") != ringing.get("RSeq") || again.get("RSeq") == "" {
		t.Errorf("RSeq %q, and then %q", ringing.get("RSeq"), again.get("RSeq"))
	}
	must(t, c.Ring()) // nothing more before it is acknowledged
	p.repeats = false
	for _, rack := range []string{ringing.get("RSeq") + " 2 INVITE", ringing.get("RSeq") + " 1 UPDATE", "0 1 INVITE", "nonsense", ""} {
		p.sends("PRACK", "", "RAck: "+rack)
		p.expects("481")
	}
	o := p.beside("127.0.0.2") // nor does anybody else acknowledge it
	o.sends("PRACK", "", "RAck: "+ringing.get("RSeq")+" 1 INVITE")
	o.expects("403")
	p.sends("PRACK", "", "RAck: "+ringing.get("RSeq")+" 1 INVITE")
	p.expects("200")
	p.sends("PRACK", "", "RAck: "+ringing.get("RSeq")+" 1 INVITE")
	p.expects("481")
	must(t, c.Ring())
	p.repeats = true // as both look, but for their numbers
	second := p.expects("180")
	for second.get("RSeq") == ringing.get("RSeq") {
		second = p.expects("180")
	}
	var one, two int
	if _, err := fmt.Sscan(ringing.get("RSeq"), &one); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(second.get("RSeq"), &two); err != nil || two != one+1 {
		t.Errorf("RSeq %d after %d, %v", two, one, err)
	}
	p.repeats = false
	said := answering(c) // without waiting: it has no description (RFC 3262, 3)
	p.wants(p.expects("200").body, "m=audio 5000")
	p.sends("PRACK", "", "RAck: "+second.get("RSeq")+" 1 INVITE")
	p.expects("200")
	p.sends("ACK", "")
	must(t, <-said)
	expect(t, c, sip.Established, "")
	p.sends("PRACK", "", "RAck: "+second.get("RSeq")+" 1 INVITE")
	p.expects("481")
}

// TestRingsInVain: who never acknowledges it is refused.
func TestRingsInVain(t *testing.T) {
	b := newPhone(t, userB, sip.HurryAnswered)
	p := calls(t, b)
	p.sends("INVITE", p.audio(7000), reliably)
	c := b.isCalled()
	must(t, c.Ring())
	p.expects("180")
	p.expects("504")
	p.sends("ACK", "")
	expect(t, c, sip.Ended, sip.ReasonUnreachable)
}

// TestRingsWithoutOffer: the offer would have to be in the first reliable response,
// so that there is none before the 200 brings it (RFC 3262, 5).
func TestRingsWithoutOffer(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	p.sends("INVITE", "", reliably)
	c := b.isCalled()
	must(t, c.Ring())
	said := answering(c)
	p.wants(p.expects("200").body, "m=audio 5000")
	p.sends("ACK", p.audio(7000))
	must(t, <-said)
	expect(t, c, sip.Established, "")
}

// prack is what acknowledges a response of p's to invite.
func (p *peer) prack(rseq int) message {
	p.t.Helper()
	m := p.expects("PRACK")
	if want := fmt.Sprintf("%d 1 INVITE", rseq); m.get("RAck") != want {
		p.t.Errorf("RAck %q, want %q", m.get("RAck"), want)
	}
	return m
}

// TestAcknowledgesRinging: what rings reliably hears that we have heard it, once
// and in order (RFC 3262, 4).
func TestAcknowledgesRinging(t *testing.T) {
	a := newPhone(t, userA)
	p, c, invite := called(t, a)
	p.wants(invite.get("Supported"), "100rel")
	p.answers(invite, "180", "", reliably, "RSeq: 7")
	first := p.prack(7)
	if first.tag("To") != p.tag || first.get("CSeq") != "2 PRACK" {
		t.Errorf("PRACK %s to %s", first.get("CSeq"), first.get("To"))
	}
	p.answers(first, "200", "")
	expect(t, c, sip.Progress, "")
	p.answers(invite, "180", "", reliably, "RSeq: 7")            // again
	p.answers(invite, "183", p.audio(7100), reliably, "RSeq: 9") // too early
	p.answers(invite, "181", "", reliably, "RSeq: 8")            // of any kind
	p.answers(p.prack(8), "200", "")                             // and nothing before it
	p.answers(invite, "183", p.audio(7000), reliably, "RSeq: 9") // now
	p.answers(p.prack(9), "200", "")
	expect(t, c, sip.Progress, "")
	if m := expectEarly(t, c); m.Remote.Port() != 7000 {
		t.Errorf("early media %+v", m)
	}
	p.answers(invite, "200", p.audio(7100)) // not an answer any more
	p.expects("ACK")
	if e := expect(t, c, sip.Established, ""); e.Media.Remote.Port() != 7000 {
		t.Errorf("media %+v", e.Media)
	}
	hung := hangsUp(t, c)
	bye := p.expects("BYE")
	if bye.get("CSeq") != "5 BYE" {
		t.Errorf("BYE has %s", bye.get("CSeq"))
	}
	p.answers(bye, "200", "")
	must(t, <-hung)
}

// TestAcknowledgesForks: each phone that an INVITE reaches counts for itself, and
// hears its PRACK where it is.
func TestAcknowledgesForks(t *testing.T) {
	a := newPhone(t, userA)
	p, c, invite := called(t, a)
	other := newPeer(t, "UDP", "127.0.0.1")
	p.answers(invite, "180", "", reliably, "RSeq: 5")
	p.answers(p.prack(5), "200", "")
	p.answers(invite, "180", "", reliably, "RSeq: 5", "To: "+invite.get("To")+";tag=other", fmt.Sprintf("Contact: <sip:other@%v>", other.at))
	theirs := other.prack(5)
	if theirs.tag("To") != "other" {
		t.Errorf("PRACK to %s", theirs.get("To"))
	}
	other.answers(theirs, "200", "")
	p.answers(invite, "180", "", reliably, "RSeq: 6")
	p.answers(p.prack(6), "200", "")
	p.answers(invite, "200", p.audio(7000))
	p.expects("ACK")
	for {
		e, err := c.Next(patience(t))
		must(t, err)
		if e.Kind == sip.Established {
			break
		}
	}
}

// TestEarlyUpdate: once its answer has come reliably, the phone that is called may
// change it before anybody has lifted the handset (RFC 3311, 5.2).
func TestEarlyUpdate(t *testing.T) {
	a := newPhone(t, userA)
	p, c, invite := called(t, a)
	p.answers(invite, "183", p.audio(7000)) // not reliably: nothing is agreed yet
	if m := expectEarly(t, c); m.Remote.Port() != 7000 {
		t.Errorf("early media %+v", m)
	}
	p.sends("UPDATE", p.audio(7100))
	p.expects("491")
	p.answers(invite, "183", p.audio(7000), reliably, "RSeq: 1")
	p.answers(p.prack(1), "200", "")
	p.sends("UPDATE", p.audio(7100))
	m := p.next()
	for ; m.is("491"); m = p.next() { // it came before the answer to the PRACK was taken
		p.sends("UPDATE", p.audio(7100))
	}
	if !m.is("200") {
		t.Fatalf("the phone says %q, want 200", m.start)
	}
	p.wants(m.body, "m=audio 4000")
	if m := expectEarly(t, c); m.Remote.Port() != 7100 {
		t.Errorf("changed early media %+v", m)
	}
	p.sends("UPDATE", strings.ReplaceAll(p.audio(7200), "RTP/AVP 111 0 102", "RTP/AVP 18"))
	p.expects("488")
	p.answers(invite, "200", "")
	p.expects("ACK")
	if e := expect(t, c, sip.Established, ""); e.Media.Remote.Port() != 7100 {
		t.Errorf("media %+v", e.Media)
	}
}
