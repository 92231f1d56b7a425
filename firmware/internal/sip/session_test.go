package sip_test

import (
	"testing"

	"flexphone/firmware/internal/sip"
)

const knows = "Supported: timer"

// timed brings up a call from p to b that is to expire, and returns the 200.
func timed(t *testing.T, p *peer, b *phone, lines ...string) (*sip.Call, message) {
	t.Helper()
	p.sends("INVITE", p.audio(7000), lines...)
	c := b.isCalled()
	said := answering(c)
	ok := p.expects("200")
	p.sends("ACK", "")
	must(t, <-said)
	expect(t, c, sip.Established, "")
	return c, ok
}

// TestSessionAnswers: what a caller wants of its session, and what it gets
// (RFC 4028, table 2).
func TestSessionAnswers(t *testing.T) {
	b := newPhone(t, userB)
	for i, test := range []struct {
		lines   []string
		expires string // in the 200; empty: nothing
		require string
	}{
		{[]string{knows}, "", ""},
		{[]string{"Require: timer"}, "", ""},
		{[]string{knows, "Session-Expires: 90"}, "90;refresher=uac", "timer"},
		{[]string{"Require: timer", "Session-Expires: 1800;refresher=uac"}, "1800;refresher=uac", "timer"},
		{[]string{knows, "x: 1800 ; Refresher=UAS"}, "1800;refresher=uas", ""},
		{[]string{"Session-Expires: 1800"}, "1800;refresher=uas", ""}, // of a proxy
		{[]string{"Session-Expires: 89"}, "", ""},                     // of a proxy, to whom nobody can say no
		{[]string{"Session-Expires: soon"}, "", ""},
	} {
		p := calls(t, b)
		p.callID += string(rune('a' + i))
		_, ok := timed(t, p, b, test.lines...)
		if got := ok.get("Session-Expires"); got != test.expires || ok.get("Require") != test.require {
			t.Errorf("%q: %q, requires %q", test.lines, got, ok.get("Require"))
		}
		p.sends("BYE", "")
		p.expects("200")
	}
	p := calls(t, b)
	p.callID += "-short"
	p.sends("INVITE", p.audio(7000), knows, "Session-Expires: 89")
	p.wants(p.expects("422").get("Min-SE"), "90")
	p.sends("ACK", "")
	b.isNotCalled()
}

// TestRefreshesSession: we refresh what the caller leaves to us, by UPDATE where it
// takes that and by re-INVITE else.
func TestRefreshesSession(t *testing.T) {
	for _, by := range []string{"UPDATE", "INVITE"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			b := newPhone(t, userB, sip.HurrySession)
			p := calls(t, b)
			c, _ := timed(t, p, b, "Session-Expires: 4000;refresher=uas", "Allow: INVITE, ACK, BYE, CANCEL, "+by)
			for range 3 {
				m := p.expects(by)
				if m.get("Session-Expires") != "4000;refresher=uac" {
					t.Errorf("refreshed for %q", m.get("Session-Expires"))
				}
				body := ""
				if by == "INVITE" {
					body = p.audio(7000)
				}
				p.answers(m, "200", body, "Session-Expires: 4000;refresher=uac")
				if by == "INVITE" {
					p.expects("ACK")
				}
			}
			p.sends("BYE", "")
			p.expects("200")
			e, err := c.Next(patience(t))
			if by == "INVITE" && e.Kind == sip.Changed { // what we offer is more than what we once answered
				e, err = c.Next(patience(t))
			}
			if err != nil || e.Kind != sip.Ended {
				t.Errorf("event %+v, %v", e, err)
			}
		})
	}
}

// TestSessionOfCaller: the phone that is called has us refresh, or does it itself,
// or lets the session be.
func TestSessionOfCaller(t *testing.T) {
	a := newPhone(t, userA, sip.HurrySession)
	p, c, invite := called(t, a)
	p.wants(invite.get("Supported"), "timer")
	p.answers(invite, "200", p.audio(7000), "Session-Expires: 4000;refresher=uac", "Allow: UPDATE", "Require: timer")
	p.expects("ACK")
	expect(t, c, sip.Established, "")
	m := p.expects("UPDATE")
	p.answers(m, "422", "", "Min-SE: 5000")
	m = p.expects("UPDATE") // longer, as it wants
	if m.get("Session-Expires") != "5000;refresher=uac" {
		t.Errorf("refreshed for %q", m.get("Session-Expires"))
	}
	p.answers(m, "200", "", "Session-Expires: 5000000;refresher=uac") // so that no refresh crosses what follows
	sip.Quiet(c)
	updates := func(lines ...string) {
		updated := make(chan error, 1)
		go func() { updated <- c.Update(patience(t), of(c, 6000)) }()
		m = p.expects("INVITE")
		p.answers(m, "200", p.audio(7000), lines...)
		p.expects("ACK")
		must(t, <-updated)
		expect(t, c, sip.Changed, "")
	}
	updates() // now it lets it be
	updates("Session-Expires: 90;refresher=uas")
	if m.get("Session-Expires") != "" {
		t.Errorf("still expires: %q", m.get("Session-Expires"))
	}
	p.answers(p.expects("BYE"), "200", "") // it has not refreshed it
	expect(t, c, sip.Ended, sip.ReasonUnreachable)
}

// TestSessionExpires: a session that its end is not there to refresh, or does not
// answer for, is over.
func TestSessionExpires(t *testing.T) {
	for _, refresher := range []string{"uac", "uas"} {
		t.Run(refresher, func(t *testing.T) {
			t.Parallel()
			b := newPhone(t, userB, sip.HurrySession)
			p := calls(t, b)
			c, _ := timed(t, p, b, "Session-Expires: 100;refresher="+refresher, knows, "Allow: UPDATE")
			for {
				m := p.next()
				if m.is("BYE") {
					p.answers(m, "200", "")
					break
				}
				if !m.is("UPDATE") || refresher == "uac" {
					t.Fatalf("the phone says %q", m.start)
				}
			}
			expect(t, c, sip.Ended, sip.ReasonUnreachable)
		})
	}
}
