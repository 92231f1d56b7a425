package sip_test

import (
	"errors"
	"strings"
	"testing"

	"flexphone/firmware/internal/media"
	"flexphone/firmware/internal/sip"
)

// calls makes the peer one that calls b.
func calls(t testing.TB, b *phone) *peer {
	t.Helper()
	p := newPeer(t, "UDP", b.SIPAddr().Addr().String())
	p.phone, p.user = b.SIPAddr(), b.user
	return p
}

// answering takes the call and reports what Answer says.
func answering(c *sip.Call) <-chan error {
	said := make(chan error, 1)
	go func() { said <- c.Answer(of(c, 5000)) }()
	return said
}

// established brings up a call from p to b.
func established(t testing.TB, p *peer, b *phone) *sip.Call {
	t.Helper()
	p.sends("INVITE", p.audio(7000))
	c := b.isCalled()
	said := answering(c)
	p.expects("200")
	p.sends("ACK", "")
	must(t, <-said)
	expect(t, c, sip.Established, "")
	return c
}

func TestPeerCalls(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	p.sends("INVITE", p.audio(7000))
	c := b.isCalled()
	must(t, c.Ring())
	ringing := p.expects("180")
	said := answering(c)
	ok := p.expects("200")
	if ok.tag("To") != ringing.tag("To") {
		t.Error("180 and 200 have different tags")
	}
	p.wants(ok.get("Contact"), b.SIPAddr().String())
	p.wants(ok.body, "m=audio 5000 RTP/AVP 111 102")
	p.sends("ACK", "")
	must(t, <-said)
	if e := expect(t, c, sip.Established, ""); e.Media.Remote.Port() != 7000 || e.Media.Terms.(media.RTP).DTMF != 102 {
		t.Errorf("media %+v", e.Media)
	}
	p.sends("OPTIONS", "")
	p.wants(p.expects("200").get("Allow"), "UPDATE")
	p.sends("INFO", "Signal=1")
	p.expects("415")
	p.sends("MESSAGE", "")
	p.expects("405")
	p.sends("FROB", "")
	p.expects("501")
	p.sends("BYE", "")
	p.expects("200")
	expect(t, c, sip.Ended, sip.ReasonHangup)
}

// TestLateOffer: the INVITE has no offer, so the 200 has, and the ACK answers.
func TestLateOffer(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	p.sends("INVITE", "")
	c := b.isCalled()
	said := answering(c)
	p.wants(p.expects("200").body, "m=audio 5000 RTP/AVP 111 0 8 101 102")
	p.sends("ACK", p.audio(7000, "a=recvonly"))
	must(t, <-said)
	if e := expect(t, c, sip.Established, ""); e.Media.Remote.Port() != 7000 || !e.Media.Send || e.Media.Recv {
		t.Errorf("media %+v, want one way to port 7000", e.Media)
	}

	p.sends("INVITE", "") // the same again in the call
	p.expects("200")
	p.sends("ACK", p.audio(7002))
	if e := expect(t, c, sip.Changed, ""); e.Media.Remote.Port() != 7002 || !e.Media.Recv {
		t.Errorf("media %+v, want both ways with port 7002", e.Media)
	}
}

func TestLateOfferUnanswered(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	p.sends("INVITE", "")
	c := b.isCalled()
	said := answering(c)
	p.expects("200")
	p.sends("ACK", "")
	if err := <-said; !errors.Is(err, sip.ErrEnded) {
		t.Errorf("answered: %v", err)
	}
	expect(t, c, sip.Ended, sip.ReasonNoCodec)
	p.answers(p.expects("BYE"), "200", "")
}

// TestPeerChanges: hold, another port and another address, by re-INVITE and by
// UPDATE.
func TestPeerChanges(t *testing.T) {
	for _, method := range []string{"INVITE", "UPDATE"} {
		t.Run(method, func(t *testing.T) {
			b := newPhone(t, userB)
			p := calls(t, b)
			c := established(t, p, b)
			change := func(body string, lines ...string) message {
				t.Helper()
				p.sends(method, body, lines...)
				ok := p.expects("200")
				if method == "INVITE" {
					p.sends("ACK", "")
				}
				return ok
			}
			p.wants(change(p.audio(7000, "a=sendonly")).body, "a=recvonly")
			if e := expect(t, c, sip.Changed, ""); e.Media.Send || !e.Media.Recv {
				t.Errorf("held: %+v", e.Media)
			}
			p.wants(change(p.audio(7000, "a=inactive")).body, "a=inactive")
			if e := expect(t, c, sip.Changed, ""); e.Media.Send || e.Media.Recv {
				t.Errorf("held both ways: %+v", e.Media)
			}
			p.wants(change(p.audio(7100)).body, "a=sendrecv")
			if e := expect(t, c, sip.Changed, ""); e.Media.Remote.Port() != 7100 || !e.Media.Send || !e.Media.Recv {
				t.Errorf("back at another port: %+v", e.Media)
			}
			change(strings.ReplaceAll(p.audio(7100), "c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0")) // as RFC 2543 had it
			if e := expect(t, c, sip.Changed, ""); e.Media.Send {
				t.Errorf("held in the old way: %+v", e.Media)
			}
			change(p.audio(7100))
			if e := expect(t, c, sip.Changed, ""); e.Media.Remote.Port() != 7100 || !e.Media.Send || !e.Media.Recv {
				t.Errorf("back at another port: %+v", e.Media)
			}

			moved := calls(t, b) // the same peer at another port
			moved.callID, moved.otherTag, moved.seq, moved.branches = p.callID, p.otherTag, p.seq, p.branches
			p = moved
			change(p.audio(7200))
			if e := expect(t, c, sip.Changed, ""); e.Media.Remote.Port() != 7200 || c.Peer().Addr != p.at {
				t.Errorf("moved: %+v, peer at %v, want %v", e.Media, c.Peer().Addr, p.at)
			}

			p.sends(method, "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 18\r\n")
			p.expects("488")
			if method == "INVITE" {
				p.sends("ACK", "")
			}
			ended := make(chan error, 1)
			go func() { ended <- c.Hangup(patience(t)) }()
			p.answers(p.expects("BYE"), "200", "") // where it is now
			must(t, <-ended)
			expect(t, c, sip.Ended, sip.ReasonHangup)
		})
	}
}

// TestUpdateBeforeAnswer: an early UPDATE may move the target, but not the
// media that nobody has agreed upon yet.
func TestUpdateBeforeAnswer(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	p.sends("INVITE", p.audio(7000))
	c := b.isCalled()
	must(t, c.Ring())
	p.expects("180")
	p.sends("UPDATE", p.audio(7100))
	p.wants(p.expects("500").get("Retry-After"), "1")
	p.sends("UPDATE", "", "Contact: <sip:peer@127.0.0.1:9>")
	p.expects("200")
	said := answering(c)
	p.expects("200")
	p.sends("UPDATE", "", "Contact: <sip:peer@127.0.0.1:9>") // overtakes the ACK
	p.expects("200")
	must(t, <-said)
	if e := expect(t, c, sip.Established, ""); e.Media.Remote.Port() != 7000 {
		t.Errorf("media %+v", e.Media)
	}
	if c.Peer().Addr.Port() != 9 {
		t.Errorf("peer at %v", c.Peer().Addr)
	}
}

// TestOvertakenACK: a later request proves that the peer has our 200.
func TestOvertakenACK(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	p.sends("INVITE", p.audio(7000))
	c := b.isCalled()
	said := answering(c)
	p.expects("200")
	first := p.inviteSeq
	p.sends("INVITE", p.audio(7100))
	p.expects("200")
	must(t, <-said)
	second := p.inviteSeq
	p.inviteSeq = first
	p.sends("ACK", "")
	p.inviteSeq = second
	p.sends("ACK", "")
	for { // one event or two, as the reader is slow or quick
		e, err := c.Next(patience(t))
		must(t, err)
		if e.Media.Remote.Port() == 7100 {
			break
		}
		if e.Kind != sip.Early && e.Kind != sip.Established {
			t.Fatalf("event %+v", e)
		}
	}
	p.sends("INVITE", p.audio(7200)) // and a BYE overtakes this one's
	p.expects("200")
	p.sends("BYE", "")
	p.expects("200")
	for {
		e, err := c.Next(patience(t))
		must(t, err)
		if e.Kind == sip.Ended {
			break
		}
	}
}

func TestRefusedRequests(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	p.sends("INVITE", p.audio(7000), "Require: 100rel, replaces")
	refused := p.expects("420")
	if got := refused.get("Unsupported"); got != "replaces" {
		t.Errorf("unsupported: %q", got)
	}
	p.sends("ACK", "")
	p.otherTag = ""
	c := established(t, p, b)

	p.seq -= 2 // below the INVITE's
	p.sends("OPTIONS", "")
	p.expects("500")
	p.seq += 2
	p.sends("INFO", "", "Require: teleportation")
	p.expects("420")
	p.seq = 1000 // a gap is allowed
	p.sends("INFO", "")
	p.expects("200")

	for _, unknown := range []string{"BYE", "UPDATE", "INVITE", "INFO", "CANCEL"} {
		stranger := calls(t, b)
		stranger.otherTag, stranger.inviteSeq = "nobody", 1
		stranger.sends(unknown, "")
		stranger.expects("481")
	}
	thief := calls(t, b) // knows our tag, but not the caller's
	thief.callID, thief.otherTag, thief.tag, thief.seq = p.callID, p.otherTag, "thief", 2000
	thief.sends("BYE", "")
	thief.expects("481")
	p.sends("BYE", "")
	p.expects("200")
	expect(t, c, sip.Ended, sip.ReasonHangup)
}

// TestDigitsInINFO: digits are taken in both of their forms, and what is none of
// them is refused.
func TestDigitsInINFO(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	established(t, p, b)
	for _, test := range []struct{ kind, body, status string }{
		{"application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", "200"},
		{"Application/DTMF-Relay; charset=utf-8", "Signal= #\r\n", "200"},
		{"application/dtmf", "5", "200"},
		{"application/dtmf", "", "200"},
		{"text/plain", "5", "415"},
		{"application/media_control+xml", "<x/>", "415"},
	} {
		p.sends("INFO", test.body, "Content-Type: "+test.kind)
		p.expects(test.status)
	}
}

// TestMerged: an INVITE that comes by two ways is one call.
func TestMerged(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	p.sends("INVITE", p.audio(7000))
	c := b.isCalled()
	p.seq-- // the same request with another branch
	p.sends("INVITE", p.audio(7000))
	p.expects("482")
	must(t, c.Reject(486))
	p.expects("486")
	b.isNotCalled()
}

// TestUnacknowledged: the 200 is repeated until the ACK comes; without one the
// call ends.
func TestUnacknowledged(t *testing.T) {
	t.Parallel() // it waits most of the time
	b := newPhone(t, userB)
	p := calls(t, b)
	p.repeats = true
	p.sends("INVITE", p.audio(7000))
	c := b.isCalled()
	said := answering(c)
	for range 3 {
		p.expects("200")
	}
	p.sends("ACK", "")
	must(t, <-said)
	expect(t, c, sip.Established, "")
	p.sends("OPTIONS", "") // after the ACK only what had left before it comes
	for p.next().get("CSeq") != "2 OPTIONS" {
	}
	p.sends("BYE", "")
	p.expects("200")
	expect(t, c, sip.Ended, sip.ReasonHangup)

	b = newPhone(t, userB, sip.HurryAnswered)
	p = calls(t, b)
	p.callID += "-again"
	p.sends("INVITE", p.audio(7000))
	c = b.isCalled()
	said = answering(c)
	p.expects("200")
	p.answers(p.expects("BYE"), "200", "")
	if err := <-said; !errors.Is(err, sip.ErrEnded) {
		t.Errorf("answered: %v", err)
	}
	expect(t, c, sip.Ended, sip.ReasonUnreachable)
}

// TestGlareWithPeer: both ends change the call at the same time.
func TestGlareWithPeer(t *testing.T) {
	b := newPhone(t, userB, sip.HurryGlare)
	p := calls(t, b)
	c := established(t, p, b)
	updated := make(chan error, 1)
	go func() { updated <- c.Update(patience(t), of(c, 6000)) }()
	ours := p.expects("INVITE")
	p.sends("INVITE", p.audio(7100))
	p.expects("491")
	p.sends("ACK", "")
	p.sends("UPDATE", p.audio(7100))
	p.expects("491")
	p.sends("UPDATE", "") // only a refresh: no glare
	p.expects("200")
	p.answers(ours, "491", "")
	p.expects("ACK")
	ours = p.expects("INVITE")
	p.wants(ours.body, "m=audio 6000")
	p.answers(ours, "200", p.audio(7000))
	p.expects("ACK")
	must(t, <-updated)
	expect(t, c, sip.Changed, "")
}

// TestHangUpBeforeACK: the BYE waits for the ACK, the user does not.
func TestHangUpBeforeACK(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	p.sends("INVITE", p.audio(7000))
	c := b.isCalled()
	said := answering(c)
	p.expects("200")
	hung := hangsUp(t, c)
	expect(t, c, sip.Ended, sip.ReasonHangup)
	p.sends("OPTIONS", "")
	p.expects("481") // and no BYE before
	p.sends("ACK", "")
	p.answers(p.expects("BYE"), "200", "")
	must(t, <-hung)
	if err := <-said; !errors.Is(err, sip.ErrEnded) {
		t.Errorf("answered: %v", err)
	}
}

// TestUpdateRefused: a change that the peer refuses leaves the call as it is;
// a peer that knows nothing of the call ends it.
func TestUpdateRefused(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	c := established(t, p, b)
	updated := make(chan error, 1)
	update := func() { updated <- c.Update(patience(t), of(c, 6000)) }
	go update()
	p.answers(p.expects("INVITE"), "488", "")
	p.expects("ACK")
	if err := <-updated; !errors.Is(err, sip.ErrRefused) {
		t.Errorf("after 488: %v", err)
	}
	go update()
	p.answers(p.expects("INVITE"), "481", "")
	p.expects("ACK")
	p.answers(p.expects("BYE"), "481", "")
	if err := <-updated; !errors.Is(err, sip.ErrEnded) {
		t.Errorf("after 481: %v", err)
	}
	expect(t, c, sip.Ended, sip.ReasonUnreachable)
}

// parts is a body of several parts, and the header line that says so.
func parts(kind, description string) (header, body string) {
	return "Content-Type: multipart/" + kind + ";boundary=b1",
		"--b1\r\nContent-Type: application/sdp\r\nContent-Disposition: session;handling=required\r\n\r\n" + description +
			"\r\n--b1\r\nContent-Type: application/isup;version=itu-t92+\r\nContent-Disposition: signal;handling=optional\r\n\r\nxx\r\n--b1--\r\n"
}

// TestParts: descriptions in bodies of several parts, in each message that may
// have one.
func TestParts(t *testing.T) {
	for _, kind := range []string{"mixed", "alternative", "related"} {
		t.Run(kind, func(t *testing.T) {
			b := newPhone(t, userB)
			p := calls(t, b)
			header, body := parts(kind, p.audio(7000))
			p.sends("INVITE", body, header)
			c := b.isCalled()
			said := answering(c)
			p.wants(p.expects("200").body, "m=audio 5000")
			p.sends("ACK", "")
			must(t, <-said)
			if e := expect(t, c, sip.Established, ""); e.Media.Remote.Port() != 7000 {
				t.Errorf("INVITE: %+v", e.Media)
			}
			header, body = parts(kind, p.audio(7100))
			p.sends("UPDATE", body, header)
			p.expects("200")
			if e := expect(t, c, sip.Changed, ""); e.Media.Remote.Port() != 7100 {
				t.Errorf("UPDATE: %+v", e.Media)
			}
			p.sends("INVITE", "") // the answer comes in the ACK
			p.expects("200")
			header, body = parts(kind, p.audio(7200))
			p.sends("ACK", body, header)
			if e := expect(t, c, sip.Changed, ""); e.Media.Remote.Port() != 7200 {
				t.Errorf("ACK: %+v", e.Media)
			}
			updated := make(chan error, 1)
			go func() { updated <- c.Update(patience(t), of(c, 6000)) }()
			invite := p.expects("INVITE")
			header, body = parts(kind, p.audio(7300))
			p.answers(invite, "200", body, header)
			p.expects("ACK")
			must(t, <-updated)
			if e := expect(t, c, sip.Changed, ""); e.Media.Remote.Port() != 7300 {
				t.Errorf("200: %+v", e.Media)
			}
			p.sends("BYE", "")
			p.expects("200")
		})
	}
}

// TestRefusedBodies: what cannot be taken is refused with what could be.
func TestRefusedBodies(t *testing.T) {
	b := newPhone(t, userB)
	for i, c := range []struct {
		lines  []string
		body   string
		status string
		want   [2]string // a header and what it holds
	}{
		{[]string{"Content-Type: text/plain"}, "hi", "415", [2]string{"Accept", "multipart/mixed"}},
		{[]string{"c: application/sdp", "e: gzip"}, "zz", "415", [2]string{"Accept-Encoding", "identity"}},
		{[]string{"Content-Type: multipart/mixed;boundary=b"}, "--b\r\nContent-Type: x/y\r\nContent-Disposition: x;handling=required\r\n\r\nx\r\n--b--\r\n", "415", [2]string{"Accept", "application/sdp"}},
		{[]string{"Content-Type: multipart/mixed"}, "--b--\r\n", "400", [2]string{}},
		{[]string{"c: application/sdp"}, "hello", "400", [2]string{}},
		{[]string{"c: application/sdp"}, "v=0\r\nm=audio 5000 RTP/SAVP 0\r\n", "488", [2]string{}},
		{[]string{"c: application/sdp"}, "v=0\r\n", "488", [2]string{}},
	} {
		p := calls(t, b)
		p.callID += string(rune('a' + i))
		p.sends("INVITE", c.body, c.lines...)
		m := p.expects(c.status)
		if c.want[0] != "" {
			p.wants(m.get(c.want[0]), c.want[1])
		}
		p.sends("ACK", "")
		b.isNotCalled()
	}
}

// TestUnknownStreams: a call with a fax line, and one whose description has a
// name for an address and no end of its last line; what we offer in the call has
// the peer's lines.
func TestUnknownStreams(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	p.sends("INVITE", "v=0\r\no=- 1 1 IN IP4 host.example\r\ns=-\r\nc=IN IP4 host.example\r\nt=0 0\r\ny=1\r\nb=FOO:64\r\nm=image 5022 udptl t38\r\nm=audio 7000 RTP/AVP 0\r\na=sendrecv")
	c := b.isCalled()
	said := answering(c)
	p.wants(p.expects("200").body, "m=image 0 udptl t38\r\nm=audio 5000 RTP/AVP 0\r\n")
	p.sends("ACK", "")
	must(t, <-said)
	if e := expect(t, c, sip.Established, ""); e.Media.Remote.Port() != 7000 || e.Media.Remote.Addr() != p.at.Addr() {
		t.Errorf("media %+v", e.Media)
	}
	updated := make(chan error, 1)
	go func() { updated <- c.Update(patience(t), of(c, 6000)) }()
	invite := p.expects("INVITE")
	p.wants(invite.body, "m=image 0 udptl t38\r\nm=audio 6000 RTP/AVP 111 0 8")
	p.answers(invite, "200", "v=0\r\nm=image 0 udptl t38\r\nm=audio 7100 RTP/AVP 0\r\n")
	p.expects("ACK")
	must(t, <-updated)
	if e := expect(t, c, sip.Changed, ""); e.Media.Remote.Port() != 7100 || e.Media.Remote.Addr() != p.at.Addr() {
		t.Errorf("media %+v", e.Media)
	}
}

// TestFirstNumberAgain: a request in the dialog that has the number of the one
// that began it is out of order, and begins nothing.
func TestFirstNumberAgain(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	c := established(t, p, b)
	for _, method := range []string{"INVITE", "BYE", "UPDATE", "OPTIONS"} {
		p.seq = 0
		p.sends(method, "")
		p.expects("500")
	}
	p.seq = 1
	p.sends("BYE", "")
	p.expects("200")
	expect(t, c, sip.Ended, sip.ReasonHangup)
	p.seq = 0
	p.sends("INVITE", p.audio(7000))
	p.expects("500")
	b.isNotCalled()
}

// TestSessionTimer: a peer may refresh its session (RFC 4028), and refusing to
// keep a timer ourselves is no reason to refuse it the call.
func TestSessionTimer(t *testing.T) {
	b := newPhone(t, userB)
	p := calls(t, b)
	const timer, supported = "Session-Expires: 90;refresher=uac", "Supported: timer"
	p.sends("INVITE", p.audio(7000), timer, supported)
	c := b.isCalled()
	said := answering(c)
	p.expects("200")
	p.sends("ACK", "")
	must(t, <-said)
	expect(t, c, sip.Established, "")
	for range 3 {
		p.sends("INVITE", p.audio(7000), "x: 90;refresher=uac", "k: timer")
		p.expects("200")
		p.sends("ACK", "")
		p.sends("UPDATE", "", timer, supported)
		p.expects("200")
	}
	p.sends("BYE", "")
	p.expects("200")
	expect(t, c, sip.Ended, sip.ReasonHangup) // and nothing has Changed
}
