package sip

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"flexphone/storing-server/internal/trust"
)

// A request that is malformed is answered with 400 when it can be,
// by UDP and by TCP, and what is no request is not.
func TestMalformedRequests(t *testing.T) {
	s, _ := serve(t, Options{Listen: "127.0.0.1:0", Policy: trust.Policy{Resolve: trust.ResolveAnyone}})
	run(t, s)
	c := &client{t: t, s: s, user: "lobby", callID: "m1", from: from}
	with := func(method, line string) string { return c.request(method, "sip:example.net", line) }
	folded := strings.Replace(with("REGISTER", "Contact: <sip:x@"), "CSeq: ", "CSeq:\r\n ", 1)
	for name, tt := range map[string]struct {
		text string
		want string // the beginning of the answer; empty: none
	}{
		"Contact without an end":     {with("REGISTER", "Contact: <sip:x@192.0.2.1"), "SIP/2.0 400 "},
		"Contact that is no URI":     {with("REGISTER", "Contact: <:::>"), "SIP/2.0 400 "},
		"Contact of an INVITE":       {with("INVITE", "Contact: <sip:x@192.0.2.1"), "SIP/2.0 400 "},
		"a short Contact":            {with("REGISTER", "m: <sip:x@192.0.2.1"), "SIP/2.0 400 "},
		"Expires is no number":       {with("REGISTER", "Max-Forwards: many"), "SIP/2.0 400 "},
		"a header without a colon":   {with("REGISTER", "nonsense"), "SIP/2.0 400 "},
		"with a header on two lines": {folded, "SIP/2.0 400 "},
		"an ACK":                     {with("ACK", "Contact: <sip:x@192.0.2.1"), ""},
		"no Via":                     {"REGISTER sip:example.net SIP/2.0\r\nContact: <sip:\r\n\r\n", ""},
		"no From":                    {strings.Replace(with("REGISTER", "Contact: <sip:x@192.0.2.1"), "From: ", "X: ", 1), "SIP/2.0 400 "},
		"a response":                 {strings.Replace(with("REGISTER", "Contact: <sip:x@192.0.2.1"), "REGISTER sip:example.net SIP/2.0", "SIP/2.0 200 OK", 1), ""},
		"no SIP":                     {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""},
	} {
		got := c.send(tt.text)
		if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%s: answered %q; want %q", name, got, tt.want)
		}
		if tt.want != "" && (!strings.Contains(got, "Call-ID: m1\r\n") || strings.Count(got, "Via: ") != 1) {
			t.Errorf("%s: answered %q", name, got)
		}
		conn, err := net.Dial("tcp", s.streams[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		for _, piece := range []string{tt.text[:len(tt.text)/2], tt.text[len(tt.text)/2:]} {
			if _, err := io.WriteString(conn, piece); err != nil {
				break // it has closed already
			}
		}
		_ = conn.(*net.TCPConn).CloseWrite()
		all, _ := io.ReadAll(conn)
		conn.Close()
		if tt.want != "" && !strings.HasPrefix(string(all), tt.want) {
			t.Errorf("%s by TCP: answered %q; want %q", name, all, tt.want)
		}
	}
}

// A user part may be escaped, wherever it names somebody (RFC 3261, section
// 19.1.4).
func TestEscapedUser(t *testing.T) {
	s, rows := serve(t, Options{Policy: trust.Policy{Resolve: trust.ResolveEnrolled}})
	number := add(t, rows, "lobby", "secret of the lobby")
	c := &client{t: t, s: s, user: "%6Cobby", password: "secret of the lobby", algorithm: "MD5", callID: "e1", from: from}
	escaped := *c
	escaped.user = "lobby"
	signed := func(method, uri string, lines ...string) string {
		c.send(c.request(method, uri, lines...))
		escaped.nonce, escaped.nc = c.nonce, 0
		return c.send(c.request(method, uri, append(lines, escaped.credentials(method, uri))...))
	}
	if got := signed("REGISTER", "sip:example.net", "Contact: <sip:lobby@192.0.2.9:5062>"); !strings.HasPrefix(got, "SIP/2.0 200 ") {
		t.Errorf("registered as %s: %q", c.user, got)
	}
	if number != "101" {
		t.Fatalf("the number is %s", number)
	}
	for callee, want := range map[string]string{
		"101": "302", "%31%30%31": "302", "1%301": "302", "lobb%79": "302", "%6c%6f%62%62%79": "302",
		"%31%30": "404", "10%00": "404", "101%20": "404", "%": "400", "%3": "400", "%zz": "400",
	} {
		if got := signed("INVITE", "sip:"+callee+"@example.net"); !strings.HasPrefix(got, "SIP/2.0 "+want+" ") {
			t.Errorf("call to %s: %.40q; want %s", callee, got, want)
		}
	}
}

// A network that is exempt is answered as often as it asks; others are not, and
// neither guesses without end.
func TestExempt(t *testing.T) {
	e, err := trust.ParseExempt([]string{"127.0.0.2"})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := serve(t, Options{Policy: trust.Policy{Exempt: e}})
	n := func(host byte) (answered int) {
		at := trust.NetworkOf(from.Addr())
		if host == 2 {
			at = trust.NetworkOf(e[0].Addr())
		}
		for range 1000 {
			if s.allow(at) {
				answered++
			}
		}
		return answered
	}
	if got := n(2); got != 1000 {
		t.Errorf("%d of 1000 messages of an exempt network are answered", got)
	}
	if got := n(1); got < perSourceBurst || got > perSourceBurst+perSource {
		t.Errorf("%d of 1000 messages of another are answered; want %d", got, perSourceBurst)
	}
}
