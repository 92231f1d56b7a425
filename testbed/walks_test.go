package testbed

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	walks = 24 // dialogs each way with each phone that are walked from end to end
	// walkPatience is how long an answer is waited for that a mangled message may have
	// made impossible. Nothing is judged by it.
	walkPatience = 3 * time.Second
)

// walked is how far whole dialogs have come.
type walked struct{ rang, answered, inside, cancelled, hungUp, dialled, reached, replied int }

// walkDialogs walks through dialogs with p from end to end: calls to it that are
// answered or cancelled, changed and ended, and calls of its own, whose answers are as
// odd as what is said in them. What is right comes among what is not, so that the
// next step is reached.
func walkDialogs(ctx context.Context, t *testing.T, r *rand.Rand, p *Phone, s *Crowd, from []netip.Addr, user string) (w walked) {
	phone := netip.AddrPortFrom(addressOf(ctx, t, p), 5060)
	for i := range walks {
		at := from[i%len(from)]
		conn, err := s.Listen(netip.AddrPortFrom(at, 5060))
		must(t, err)
		c := &walker{Rand: r, conn: conn, phone: phone, user: user, id: fmt.Sprintf("walk-%x", r.Uint64())}
		c.called(ctx, t, p, &w)
		quiet(ctx, t, p)
		c = &walker{Rand: r, conn: conn, phone: phone, user: user}
		c.calls(ctx, t, p, &w)
		quiet(ctx, t, p)
		conn.Close()
	}
	return w
}

// A walker is a stranger in one dialog.
type walker struct {
	*rand.Rand
	conn  *net.UDPConn
	phone netip.AddrPort
	user  string

	id, tag string // Call-ID and the phone's tag
	ours    string // our own tag
	seq     int
}

// called calls p and goes on from there.
func (c *walker) called(ctx context.Context, t *testing.T, p *Phone, w *walked) {
	c.ours = "walker"
	branch := c.branch()
	c.seq++
	c.send(c.request("INVITE", branch, c.seq, goodDescription))
	first := c.await(ctx, func(m string) bool { return isAnswer(m, c.id, "INVITE") && !strings.HasPrefix(m, "SIP/2.0 100") })
	if !strings.HasPrefix(first, "SIP/2.0 180") {
		return
	}
	w.rang++
	end := c.IntN(3)
	if end == 0 {
		seq := c.seq
		c.tag = "" // CANCEL and what belongs to it name the request, not the dialog
		for range c.IntN(3) {
			c.send(mangle(c.Rand, c.request([]string{"CANCEL", "ACK", "INVITE"}[c.IntN(3)], branch, seq, ""), 1+c.IntN(2)))
		}
		c.send(c.request("CANCEL", branch, seq, ""))
		if final := c.await(ctx, func(m string) bool { return isAnswer(m, c.id, "INVITE") && isFinal(m) }); final != "" {
			w.cancelled++
			c.send(c.request("ACK", branch, seq, ""))
		}
		return
	}
	must(t, p.OffHook(ctx))
	if ok := c.await(ctx, func(m string) bool { return isAnswer(m, c.id, "INVITE") && isFinal(m) }); !strings.HasPrefix(ok, "SIP/2.0 200") {
		return
	}
	w.answered++
	c.send(c.request("ACK", c.branch(), c.seq, ""))
	c.changes(ctx, w)
	if end == 1 {
		c.seq++
		c.send(mangle(c.Rand, c.request("BYE", c.branch(), c.seq, ""), 1+c.IntN(3)))
		c.seq++
		c.send(c.request("BYE", c.branch(), c.seq, ""))
		c.await(ctx, func(m string) bool { return isAnswer(m, c.id, "BYE") && isFinal(m) })
		return
	}
	c.hungUp(ctx, t, p, w)
}

// changes says in the call what is odd, and after it what is not and has an answer.
func (c *walker) changes(ctx context.Context, w *walked) {
	for range 2 + c.IntN(3) {
		for range c.IntN(4) {
			c.seq++
			method := []string{"INVITE", "UPDATE", "ACK", "INFO", "OPTIONS", "REFER", "PRACK", "CANCEL"}[c.IntN(8)]
			body := ""
			if c.IntN(2) == 0 {
				body = someDescription(c.Rand)
			}
			c.send(mangle(c.Rand, c.request(method, c.branch(), c.seq, body), 1+c.IntN(2)))
		}
		method := []string{"INVITE", "UPDATE", "OPTIONS", "INFO"}[c.IntN(4)]
		body := ""
		if method == "INVITE" || method == "UPDATE" {
			body = goodDescription
		}
		c.seq++
		seq, branch := c.seq, c.branch()
		c.send(c.request(method, branch, seq, body))
		answer := c.await(ctx, func(m string) bool {
			return isAnswer(m, c.id, method) && isFinal(m) && strings.Contains(m, fmt.Sprintf("CSeq: %d ", seq))
		})
		if answer != "" {
			w.inside++
		}
		if method == "INVITE" && answer != "" {
			if strings.HasPrefix(answer, "SIP/2.0 2") {
				branch = c.branch()
			}
			c.send(c.request("ACK", branch, seq, ""))
		}
	}
}

// hungUp waits for p to hang up, and answers that in several ways.
func (c *walker) hungUp(ctx context.Context, t *testing.T, p *Phone, w *walked) {
	must(t, p.OnHook(ctx))
	if bye := c.await(ctx, func(m string) bool { return strings.HasPrefix(m, "BYE ") }); bye != "" {
		w.hungUp++
		c.answer(bye, "200", "", 2)
		c.answer(bye, "200", "", 0)
	}
}

// calls has p call us.
func (c *walker) calls(ctx context.Context, t *testing.T, p *Phone, w *walked) {
	must(t, p.OffHook(ctx))
	must(t, p.Press(ctx, DialledAddr(c.conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr())+"#"))
	w.dialled++
	invite := c.await(ctx, func(m string) bool { return strings.HasPrefix(m, "INVITE ") })
	if invite == "" {
		return
	}
	w.reached++
	c.id, c.ours, c.seq = callIDLine.FindStringSubmatch(invite)[1], "callee", 100
	if tag := fromTag.FindStringSubmatch(invite); tag != nil {
		c.tag = tag[1]
	}
	for range 1 + c.IntN(4) {
		code := []string{"100", "180", "183", "183", "200", "200", "202", "302", "404", "488", "491", "500", "603", "699"}[c.IntN(14)]
		body := ""
		if c.IntN(4) > 0 {
			body = someDescription(c.Rand)
		}
		c.answer(invite, code, body, 1+c.IntN(2))
	}
	if c.IntN(3) > 0 {
		c.answer(invite, "200", goodDescription, 0)
		if ack := c.await(ctx, func(m string) bool { return strings.HasPrefix(m, "ACK ") }); ack != "" {
			w.replied++
			c.changes(ctx, w)
		}
		c.hungUp(ctx, t, p, w)
		return
	}
	c.answer(invite, "180", "", 0)
	must(t, p.OnHook(ctx))
	if cancel := c.await(ctx, func(m string) bool { return strings.HasPrefix(m, "CANCEL ") || strings.HasPrefix(m, "BYE ") }); cancel != "" {
		w.replied++
		c.answer(cancel, "200", "", 1)
		c.answer(cancel, "200", "", 0)
		c.answer(invite, "487", "", 0)
	}
}

func (c *walker) branch() string { return fmt.Sprintf("z9hG4bK%x", c.Uint64()) }

func (c *walker) send(b []byte) { _, _ = c.conn.WriteToUDPAddrPort(b, c.phone) } // lost like any packet may be

// request is one in the dialog, as it should be.
func (c *walker) request(method, branch string, seq int, body string) []byte {
	me := c.conn.LocalAddr().String()
	to := fmt.Sprintf("To: <sip:%s@%v>", c.user, c.phone.Addr())
	if c.tag != "" {
		to += ";tag=" + c.tag
	}
	return assemble(fmt.Sprintf("%s sip:%s@%v SIP/2.0", method, c.user, c.phone), []string{
		fmt.Sprintf("Via: SIP/2.0/UDP %s;branch=%s;rport", me, branch), "Max-Forwards: 70",
		fmt.Sprintf("From: \"a stranger\" <sip:stranger@%s>;tag=%s", me, c.ours), to,
		"Call-ID: " + c.id, fmt.Sprintf("CSeq: %d %s", seq, method), fmt.Sprintf("Contact: <sip:stranger@%s>", me),
	}, body)
}

// answer answers a request of the phone's, mangled n times.
func (c *walker) answer(request, code, body string, n int) {
	var lines []string
	for line := range strings.SplitSeq(request, "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		if slices.Contains([]string{"Via", "From", "To", "Call-ID", "CSeq"}, name) {
			if name == "To" && !strings.Contains(line, ";tag=") {
				line += ";tag=" + c.ours
			}
			lines = append(lines, line)
		}
	}
	lines = append(lines, fmt.Sprintf("Contact: <sip:stranger@%s>", c.conn.LocalAddr()))
	c.send(mangle(c.Rand, assemble("SIP/2.0 "+code+" Whatever", lines, body), n))
}

// await reads until a message comes that is the one; "": it does not come. What the
// phone asks meanwhile is answered, and its tag is noted.
func (c *walker) await(ctx context.Context, is func(string) bool) string {
	buf := make([]byte, 65536)
	_ = c.conn.SetReadDeadline(time.Now().Add(walkPatience))
	for ctx.Err() == nil {
		n, err := c.conn.Read(buf)
		if err != nil {
			return ""
		}
		text := string(buf[:n])
		if tag := toTag.FindStringSubmatch(text); tag != nil && isAnswer(text, c.id, "INVITE") {
			c.tag = tag[1]
		}
		if is(text) {
			return text
		}
		if method, _, _ := strings.Cut(text, " "); method == "OPTIONS" || method == "BYE" || method == "INVITE" && toTag.MatchString(text) {
			c.answer(text, []string{"200", "404", "481", "500"}[c.IntN(4)], "", c.IntN(3))
			c.answer(text, "200", "", 0)
		}
	}
	return ""
}

// isAnswer reports whether m answers a request of that method and Call-ID.
func isAnswer(m, id, method string) bool {
	i, q := callIDLine.FindStringSubmatch(m), cseqLine.FindStringSubmatch(m)
	return strings.HasPrefix(m, "SIP/2.0 ") && i != nil && i[1] == id && q != nil && q[1] == method
}

func isFinal(m string) bool { return !strings.HasPrefix(m, "SIP/2.0 1") }

// goodDescription is what every phone can answer.
const goodDescription = "v=0\r\no=- 7 7 IN IP4 203.0.113.20\r\ns=-\r\nc=IN IP4 203.0.113.20\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 8\r\na=sendrecv\r\n"
