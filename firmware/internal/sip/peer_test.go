package sip_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A peer is the other end of a test, and does what the test's lines say: it
// sends SIP as text and expects SIP as text, and nothing in it knows SIP but
// the header lines that every message of a dialog has.
type peer struct {
	t         testing.TB
	transport string // "UDP", "TCP" or "TLS": how it sends requests
	at        netip.AddrPort
	phone     netip.AddrPort // where it sends them
	user      string         // of the phone
	out       func([]byte) error
	leaves    func() // closes its UDP port
	came      chan message
	seen      map[string]bool // retransmissions are shown only if it is repeating
	repeats   bool

	callID, tag, otherTag string
	seq, inviteSeq        int
	branches              int
	branch                string // of the last request; what ACK to a refusal and CANCEL repeat
}

// A message is what the phone has sent.
type message struct {
	start, body string
	header      map[string][]string // by lower-case name
	over        string
	reply       func([]byte) error
}

func (m message) get(name string) string { return strings.Join(m.header[strings.ToLower(name)], ", ") }

func (m message) tag(name string) string {
	_, tag, _ := strings.Cut(m.get(name), ";tag=")
	tag, _, _ = strings.Cut(tag, ";")
	return tag
}

// is reports whether m is a request of that method, or a response of that
// status.
func (m message) is(what string) bool {
	return strings.HasPrefix(m.start, what+" ") || strings.HasPrefix(m.start, "SIP/2.0 "+what+" ")
}

// newPeer makes a peer that listens on UDP and TCP of one port of host.
func newPeer(t testing.TB, transport, host string) *peer {
	t.Helper()
	udp, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	must(t, err)
	p := &peer{t: t, transport: transport, at: netip.MustParseAddrPort(udp.LocalAddr().String()),
		came: make(chan message, 1024), seen: make(map[string]bool), callID: "call-" + t.Name(), tag: "peer"}
	p.leaves = func() { udp.Close() }
	t.Cleanup(p.leaves)
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			p.take(bufio.NewReader(strings.NewReader(string(b[:n]))), "UDP", func(b []byte) error {
				_, err := udp.WriteTo(b, from)
				return err
			})
		}
	}()
	p.out = func(b []byte) error {
		_, err := udp.WriteTo(b, net.UDPAddrFromAddrPort(p.phone))
		return err
	}
	return p
}

// listens takes TCP connections too.
func (p *peer) listens() *peer {
	p.t.Helper()
	l, err := net.Listen("tcp", p.at.String())
	must(p.t, err)
	p.accepts(l, "TCP")
	return p
}

func (p *peer) accepts(l net.Listener, transport string) {
	p.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.reads(c, transport)
		}
	}()
}

// reads takes messages from a connection until it ends.
func (p *peer) reads(c net.Conn, transport string) {
	p.t.Cleanup(func() { c.Close() })
	write := func(b []byte) error { _, err := c.Write(b); return err }
	go func() {
		r := bufio.NewReader(c)
		for p.take(r, transport, write) == nil {
		}
	}()
}

// connects sends what follows by TCP, or by TLS if it has an identity.
func (p *peer) connects(id *tls.Certificate) net.Conn {
	p.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: p.at.Addr().AsSlice()}}
	c, err := d.DialContext(patience(p.t), "tcp", p.phone.String())
	must(p.t, err)
	if id != nil {
		s := tls.Client(c, &tls.Config{Certificates: []tls.Certificate{*id}, InsecureSkipVerify: true})
		must(p.t, s.Handshake())
		c = s
	}
	p.out = func(b []byte) error { _, err := c.Write(b); return err }
	p.reads(c, p.transport)
	return c
}

// take reads one message.
func (p *peer) take(r *bufio.Reader, over string, reply func([]byte) error) error {
	m := message{header: make(map[string][]string), over: over, reply: reply}
	raw := ""
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		raw += line
		switch line = strings.TrimSpace(line); {
		case line == "" && m.start != "":
			n, _ := strconv.Atoi(m.get("Content-Length")) // none: 0
			body := make([]byte, n)
			if _, err := io.ReadFull(r, body); err != nil {
				return err
			}
			m.body = string(body)
			p.came <- m
			return nil
		case m.start == "":
			m.start = line
		default:
			name, value, _ := strings.Cut(line, ":")
			name = strings.ToLower(name)
			m.header[name] = append(m.header[name], strings.TrimSpace(value))
		}
	}
}

// next is the next message that is no retransmission and not 100 Trying.
func (p *peer) next() message {
	p.t.Helper()
	ctx := patience(p.t)
	for {
		select {
		case m := <-p.came:
			key := m.start + m.get("Via") + m.get("CSeq") + m.tag("To")
			again := p.seen[key]
			p.seen[key] = true
			if m.is("100") || again && !p.repeats {
				continue
			}
			return m
		case <-ctx.Done():
			p.t.Fatal("the phone is silent")
		}
	}
}

// expects waits for a message and wants it to be a request of that method, or
// a response of that status.
func (p *peer) expects(what string) message {
	p.t.Helper()
	m := p.next()
	if !m.is(what) {
		p.t.Fatalf("the phone says %q, want %s", m.start, what)
	}
	if tag := m.tag("To"); strings.HasPrefix(m.start, "SIP/2.0") && tag != "" {
		p.otherTag = tag
	}
	return m
}

// sends sends a request in its dialog, with a body unless that is empty. The
// header lines given replace those of the same name.
func (p *peer) sends(method, body string, lines ...string) {
	p.t.Helper()
	switch method {
	case "ACK", "CANCEL":
	default:
		p.seq++
		if method == "INVITE" {
			p.inviteSeq = p.seq
		}
	}
	seq := p.seq
	if method == "ACK" || method == "CANCEL" {
		seq = p.inviteSeq
	}
	if method != "CANCEL" {
		p.branches++
		p.branch = fmt.Sprintf("z9hG4bK%s%d", p.tag, p.branches)
	}
	to := fmt.Sprintf("<sip:%s@%s>", p.user, host(p.phone))
	if p.otherTag != "" && method != "CANCEL" {
		to += ";tag=" + p.otherTag
	}
	text := compose(fmt.Sprintf("%s sip:%s@%v SIP/2.0", method, p.user, p.phone), body, []string{
		fmt.Sprintf("Via: SIP/2.0/%s %v;branch=%s;rport", p.transport, p.at, p.branch),
		"Max-Forwards: 70",
		fmt.Sprintf("From: <sip:peer@%s>;tag=%s", host(p.at), p.tag),
		"To: " + to,
		"Call-ID: " + p.callID,
		fmt.Sprintf("CSeq: %d %s", seq, method),
		fmt.Sprintf("Contact: <sip:peer@%v;transport=%s>", p.at, strings.ToLower(p.transport)),
	}, lines)
	must(p.t, p.out(text))
}

// host is an address as URIs write it.
func host(at netip.AddrPort) string {
	if at.Addr().Is6() {
		return "[" + at.Addr().String() + "]"
	}
	return at.Addr().String()
}

// answers responds to m, in the dialog whose tag is p.tag.
func (p *peer) answers(m message, status, body string, lines ...string) {
	p.t.Helper()
	to := m.get("To")
	if !strings.Contains(to, ";tag=") {
		to += ";tag=" + p.tag
	}
	var head []string
	for _, v := range m.header["via"] {
		head = append(head, "Via: "+v)
	}
	p.otherTag, p.callID = m.tag("From"), m.get("Call-ID")
	text := compose("SIP/2.0 "+status+" Whatever", body, append(head,
		"From: "+m.get("From"), "To: "+to, "Call-ID: "+m.get("Call-ID"), "CSeq: "+m.get("CSeq"),
		fmt.Sprintf("Contact: <sip:peer@%v;transport=%s>", p.at, strings.ToLower(m.over))), lines)
	must(p.t, m.reply(text))
}

// compose joins a message; lines replace those of head that have their names,
// and a line without a value only takes one away.
func compose(start, body string, head, lines []string) []byte {
	text := start + "\r\n"
	for _, h := range head {
		name, _, _ := strings.Cut(h, ":")
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+":") }) {
			text += h + "\r\n"
		}
	}
	for _, l := range lines {
		if !strings.HasSuffix(l, ":") {
			text += l + "\r\n"
		}
	}
	typed := slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "Content-Type:") || strings.HasPrefix(l, "c:") })
	if body != "" && !typed {
		text += "Content-Type: application/sdp\r\n"
	}
	return fmt.Appendf(nil, "%sContent-Length: %d\r\n\r\n%s", text, len(body), body)
}

// audioAt is the peer's session description: Opus and PCMU at that port.
func audioAt(addr netip.Addr, port int, lines ...string) string {
	kind := "IP4"
	if addr.Is6() {
		kind = "IP6"
	}
	body := fmt.Sprintf("v=0\r\no=peer 1 %d IN %s %s\r\ns=-\r\nc=IN %s %s\r\nt=0 0\r\n"+
		"m=audio %d RTP/AVP 111 0 102\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:102 telephone-event/48000\r\n",
		port, kind, addr, kind, addr, port)
	for _, l := range lines {
		body += l + "\r\n"
	}
	return body
}

func (p *peer) audio(port int, lines ...string) string { return audioAt(p.at.Addr(), port, lines...) }

// wants wants text to hold a line.
func (p *peer) wants(text, line string) {
	p.t.Helper()
	if !strings.Contains(text, line) {
		p.t.Errorf("no %q in\n%s", line, text)
	}
}
