package sip

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// A sipp is SIPp (Debian's sip-tester), which plays scenarios against a server
// that serves.
type sipp struct {
	t    *testing.T
	path string
	dir  string
	at   string // the server's UDP and TCP address
}

func newSIPp(t *testing.T, o Options, unlimited bool) (*sipp, *store.Store) {
	t.Helper()
	path, err := exec.LookPath("sipp")
	if err != nil {
		t.Skip("sipp is not installed (Debian's package sip-tester)")
	}
	o.Listen = "127.0.0.1:0"
	s, rows := serve(t, o)
	if unlimited { // all of its phones come from one address
		s.sources = trust.NewLimiter[trust.Network](1e6, 1e6)
	}
	run(t, s)
	return &sipp{t, path, t.TempDir(), s.Addrs()[0].String()}, rows
}

// scenario makes SIPp's file of steps.
func (p *sipp) scenario(steps ...string) string {
	p.t.Helper()
	name := filepath.Join(p.dir, fmt.Sprintf("%d.xml", time.Now().UnixNano()))
	text := `<?xml version="1.0" encoding="ISO-8859-1" ?><scenario name="test">` + strings.Join(steps, "\n") + `</scenario>`
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return name
}

// send is a step: a request, whose CSeq is n, with more lines.
func send(method, uri string, n int, lines ...string) string {
	retransmit := ` retrans="500"`
	if method == "ACK" {
		retransmit = ""
	}
	return `<send` + retransmit + `><![CDATA[` + "\n" + method + " " + uri + ` SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:[field0]@example.net>;tag=[call_number]
To: <sip:[field0]@example.net>
Call-ID: [call_id]
CSeq: ` + strconv.Itoa(n) + " " + method + "\n" + strings.Join(append(lines, "Content-Length: 0"), "\n") + "\n\n]]></send>"
}

// wait is a step: an answer, of which a header must match.
func wait(code int, header, match string) string {
	if header == "" {
		return fmt.Sprintf(`<recv response="%d" auth="%t"/>`, code, code == 401)
	}
	return fmt.Sprintf(`<recv response="%d"><action><ereg regexp="%s" search_in="hdr" header="%s:" check_it="true" assign_to="1"/></action></recv><Reference variables="1"/>`, code, match, header)
}

// proved is two steps and their answers: a request that is challenged, and the
// same with credentials. With those of a nonce that another call of the same user
// has overtaken, it is challenged again (stale=true), and asks again.
func proved(method, uri string, n int, answer string, lines ...string) string {
	out := send(method, uri, n, lines...) + wait(401, "", "")
	if method == "INVITE" {
		out += send("ACK", uri, n)
	}
	again := send(method, uri, n+1, append(lines, "[field1]")...)
	if method == "REGISTER" {
		again = fmt.Sprintf(`<label id="%d"/>`, n) + again + fmt.Sprintf(`<recv response="401" auth="true" optional="true" next="%d"/>`, n)
	}
	return out + again + answer
}

// play runs a scenario so many times, for each of the users in turn, and says
// how it ended. transport is u1, one UDP socket, or t1, one connection.
func (p *sipp) play(scenario, transport string, users []string, calls, rate int) error {
	p.t.Helper()
	inf := filepath.Join(p.dir, "users.csv")
	text := "SEQUENTIAL\n"
	for i, u := range users {
		text += fmt.Sprintf("%s;[authentication username=%s password=secret];192.0.2.%d:50%02d\n", u, u, i%250+1, i%100)
	}
	if err := os.WriteFile(inf, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.CommandContext(p.t.Context(), p.path, p.at, "-sf", scenario, "-inf", inf, "-t", transport, "-i", "127.0.0.1", // at any port that is free
		"-m", strconv.Itoa(calls), "-r", strconv.Itoa(rate), "-l", strconv.Itoa(max(100, rate)), "-timeout", "100s", "-timeout_error", "-nostdin", "-trace_err", "-error_file", filepath.Join(p.dir, "errors"))
	cmd.Dir = p.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		text, _ := os.ReadFile(filepath.Join(p.dir, "errors")) // it may have written none
		return fmt.Errorf("%w: %s\n%s", err, lastLines(string(text), 12), lastLines(string(out), 40))
	}
	return nil
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Many phones of another make register, call and ask, under load, by UDP and
// TCP.
func TestSIPp(t *testing.T) {
	p, rows := newSIPp(t, Options{Policy: trust.Policy{Resolve: trust.ResolveEnrolled}}, true)
	var users []string
	for i := range 50 {
		u := fmt.Sprintf("phone%d", i)
		m, _ := Secrets(u, "secret")
		if _, err := rows.AddPhone(t.Context(), store.Phone{User: u, MD5: m}); err != nil { // SIPp 3.6 knows MD5 alone
			t.Fatal(err)
		}
		users = append(users, u)
	}
	const uri = "sip:example.net"
	// SIPp puts no fields into what it expects: whose place it is, the rows say below.
	const place = `sip:phone[0-9]+@192.0.2.[0-9]+:50[0-9]+`
	register := p.scenario(proved("REGISTER", uri, 1, wait(200, "Contact", place), "Contact: <sip:[field0]@[field2]>", "Expires: 300"))
	invite := p.scenario(proved("INVITE", "sip:[field0]@example.net", 1, wait(302, "Contact", place), "Contact: <sip:x@192.0.2.1>") + send("ACK", "sip:[field0]@example.net", 2))
	ask := p.scenario(send("OPTIONS", uri, 1) + wait(200, "Allow", "INVITE"))
	for _, transport := range []string{"u1", "t1"} {
		for i, scenario := range []string{register, invite, ask} {
			if err := p.play(scenario, transport, users, 400, 200); err != nil {
				t.Errorf("%s over %s: %v", []string{"REGISTER", "INVITE", "OPTIONS"}[i], transport, err)
			}
		}
	}
	for i, u := range users {
		row, ok := rows.Resolve(wire.Query{MAC: store.UserMAC(u)})
		if !ok || row.State != wire.Online || row.Addrs[0].String() != fmt.Sprintf("192.0.2.%d", i%250+1) || int(row.Ports.SIP) != 5000+i%100 {
			t.Errorf("%s is %+v, %v", u, row, ok)
		}
	}
}

// A registration of SIPp's that was overtaken changes nothing: one with a lower
// CSeq, and one of another Call-ID that was held up on its way.
func TestSIPpStale(t *testing.T) {
	p, rows := newSIPp(t, Options{Policy: trust.Policy{Resolve: trust.ResolveAnyone}}, false)
	m, _ := Secrets("lobby", "secret")
	if _, err := rows.AddPhone(t.Context(), store.Phone{User: "lobby", MD5: m}); err != nil {
		t.Fatal(err)
	}
	const uri, to = "sip:example.net", "sip:lobby@example.net"
	users := []string{"lobby"}
	contact := func(addr string) string { return "Contact: <sip:lobby@" + addr + ">" }
	called := func(addr string, n int) string {
		return send("INVITE", to, n) + wait(302, "Contact", addr) + send("ACK", to, n)
	}
	held := newClient(t, nil, "lobby", "secret")
	held.algorithm, held.callID = "MD5", "held"
	conn, err := net.Dial("udp", p.at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	exchange := func(text string) string {
		t.Helper()
		buf := make([]byte, 4096)
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	challenge := exchange(held.request("REGISTER", uri))
	held.nonce = regexp.MustCompile(`nonce="([^"]+)"`).FindStringSubmatch(challenge)[1]
	delayed := held.request("REGISTER", uri, contact("192.0.2.66"), held.credentials("REGISTER", uri))

	steps := proved("REGISTER", uri, 10, wait(200, "Contact", "192.0.2.1"), contact("192.0.2.1")) +
		proved("REGISTER", uri, 20, wait(200, "Contact", "192.0.2.2"), contact("192.0.2.2")) +
		proved("REGISTER", uri, 15, wait(500, "Retry-After", "1"), contact("192.0.2.65")) +
		called("192.0.2.2", 30)
	if err := p.play(p.scenario(steps), "u1", users, 1, 1); err != nil {
		t.Errorf("lower CSeq: %v", err)
	}
	wants(t, "of another Call-ID, held up", exchange(delayed), 401, "stale=true")
	if err := p.play(p.scenario(called("192.0.2.2", 1)), "t1", users, 1, 1); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// Loops and floods are refused, and others do not feel them.
func TestSIPpLoopsAndFloods(t *testing.T) {
	p, rows := newSIPp(t, Options{Policy: trust.Policy{Resolve: trust.ResolveAnyone}}, false)
	add(t, rows, "lobby", "secret")
	users := []string{"lobby"}
	const to = "sip:lobby@example.net"
	via := "Via: SIP/2.0/UDP 192.0.2.50;branch=z9hG4bKa"
	round := send("INVITE", to, 1, via, "Via: SIP/2.0/UDP 192.0.2.51;branch=z9hG4bKb", via) + wait(482, "CSeq", "1 INVITE") + send("ACK", to, 1)
	worn := strings.Replace(send("INVITE", to, 2)+wait(483, "CSeq", "2 INVITE")+send("ACK", to, 2), "Max-Forwards: 70", "Max-Forwards: 0", 1)
	if err := p.play(p.scenario(round+worn), "u1", users, 1, 1); err != nil {
		t.Errorf("loops: %v", err)
	}
	// SIPp's flood is more than one network may ask: most of it is not answered,
	// and SIPp says so. Another network is answered all the while.
	flood := p.scenario(strings.ReplaceAll(send("OPTIONS", "sip:example.net", 1), ` retrans="500"`, "") + `<recv response="200" timeout="2000"/>`)
	if err := p.play(flood, "u1", users, 2000, 2000); err == nil {
		t.Error("a flood is answered as a whole")
	}
	other, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("udp", p.at)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	mine, err := net.Dial("udp", p.at)
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	c := newClient(t, nil, "lobby", "secret")
	answered := 0
	for range 1000 {
		if _, err := mine.Write([]byte(c.request("OPTIONS", "sip:example.net"))); err != nil {
			t.Fatal(err)
		}
	}
	// A flood may fill the kernel's queue: whoever asks by UDP asks again
	// (RFC 3261, section 17.1.2.2).
	buf, n := make([]byte, 4096), 0
	ask := c.request("OPTIONS", "sip:example.net")
	for again := 500 * time.Millisecond; again <= 4*time.Second; again *= 2 {
		if _, err = other.Write([]byte(ask)); err != nil {
			t.Fatal(err)
		}
		if err = other.SetReadDeadline(time.Now().Add(again)); err != nil {
			t.Fatal(err)
		}
		if n, err = other.Read(buf); err == nil {
			break
		}
	}
	if err != nil || code(string(buf[:n])) != 200 {
		t.Errorf("the other network: %q, %v", buf[:n], err)
	}
	for {
		if err := mine.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := mine.Read(buf); err != nil {
			break
		}
		answered++
	}
	if answered > perSourceBurst+10*perSource {
		t.Errorf("of a flood of 1000, %d were answered; want %d at once, and then %d a second", answered, perSourceBurst, perSource)
	}
}
