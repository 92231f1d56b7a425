package testbed

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	dialogs      = 10_000
	strangeHosts = 60                   // addresses that they come from: one is listened to less than all
	dialogPace   = 2 * time.Millisecond // of rest for a phone after what it may answer
	// dialogGrowth is by how much memory may grow from the first quarter of them to
	// the end, by when whatever is kept of each would be there many times, beside a
	// third of what it was: the race detector multiplies all of it.
	dialogGrowth = 24 << 10 // kB
)

// Ten thousand dialogs, in each of which something is not as it should be, go
// through two real phones: first some that are walked from end to end, then the others,
// by UDP and by TCP, while somebody lifts the handset
// again and again and dials the strangers as well. Afterwards the phones are the
// same processes, in standby, of the same size, and call each other. It begins before all
// others that run beside each other, since it takes longest.
func TestMutatedDialogs(t *testing.T) {
	if board() != hostBoard {
		t.Skip("takes too long on an emulated machine")
	}
	seed := seed(t)
	ctx, bed, phones := town(t, Config{}, 2)
	strangers, err := bed.AddCrowd(strangeHosts)
	must(t, err)
	t.Run("walks", func(t *testing.T) {
		for i, p := range phones {
			t.Run(p.Name, func(t *testing.T) {
				t.Parallel()
				from := strangers.Addrs[i*strangeHosts/2 : (i+1)*strangeHosts/2]
				w := walkDialogs(ctx, t, rand.New(rand.NewPCG(seed, uint64(200+i))), p, strangers, from, fmt.Sprint(101+i))
				t.Logf("%d dialogs each way: %+v", walks, w)
				if w.answered < walks/3 || w.inside < walks || w.cancelled == 0 || w.hungUp == 0 || w.reached != walks || w.replied < walks/3 {
					t.Errorf("%d dialogs each way came only so far: %+v", walks, w)
				}
			})
		}
	})
	settled := make([]footprint, len(phones))
	var sending sync.WaitGroup
	for i, p := range phones {
		at := addressOf(ctx, t, p)
		working, rest := context.WithCancel(ctx)
		var user sync.WaitGroup
		user.Go(func() { useAtRandom(working, rand.New(rand.NewPCG(seed, uint64(100+i))), p, strangers) })
		half := strangers.Addrs[i*strangeHosts/2 : (i+1)*strangeHosts/2]
		sending.Go(func() {
			defer user.Wait()
			defer rest()
			m := &mangler{
				Rand: rand.New(rand.NewPCG(seed, uint64(i))), strangers: strangers, from: half,
				user: fmt.Sprint(101 + i), phone: at,
			}
			if err := m.run(ctx, dialogs/len(phones), func() { settled[i] = footprintOf(t, p) }); err != nil {
				t.Error(err)
			}
			t.Logf("%s: %d messages, %d responses and %d requests came back, %d calls were answered",
				p.Name, m.sent, m.responses.Load(), m.requests.Load(), m.answered.Load())
			if m.answered.Load() == 0 || m.responses.Load() < dialogs/10 {
				t.Errorf("%s hardly listened", p.Name)
			}
		})
	}
	sending.Wait()
	for i, p := range phones {
		quiet(ctx, t, p)
		now := footprintOf(t, p)
		t.Logf("%s: %+v after a quarter, %+v at the end", p.Name, settled[i], now)
		if now.resident > settled[i].resident*4/3+dialogGrowth || now.files > settled[i].files+32 {
			t.Errorf("%s: %+v after a quarter, %+v at the end", p.Name, settled[i], now)
		}
		p.Mark()
	}
	callWithSound(ctx, t, phones[0], phones[1], "102", addressOf(ctx, t, phones[1]))
	callWithSound(ctx, t, phones[1], phones[0], "101", addressOf(ctx, t, phones[0]))
}

// quiet refuses whoever still calls p, until it is in standby.
func quiet(ctx context.Context, t testing.TB, p *Phone) {
	t.Helper()
	for {
		must(t, p.OnHook(ctx))
		status, err := p.Status(ctx)
		must(t, err)
		if status.State == "standby" && status.Registered {
			return
		}
		_, _ = p.Ctl(ctx, "hangup") // there may be nothing to refuse by now
	}
}

// useAtRandom lifts and replaces the handset until ctx is done, and now and then
// dials one of the strangers.
func useAtRandom(ctx context.Context, r *rand.Rand, p *Phone, s *Crowd) {
	pause := time.NewTicker(300 * time.Millisecond)
	defer pause.Stop()
	for ctx.Err() == nil {
		switch _ = p.OffHook(ctx); r.IntN(4) { // a phone that does not answer is found at the end
		case 0:
			_ = p.Press(ctx, DialledAddr(s.Addrs[r.IntN(len(s.Addrs))])+"#")
		case 1:
			_ = p.Press(ctx, fmt.Sprint(r.IntN(1000)))
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
		_ = p.OnHook(ctx)
	}
}

// A mangler sends dialogs that are not as they should be to one phone.
type mangler struct {
	*rand.Rand
	strangers *Crowd
	from      []netip.Addr
	user      string
	phone     netip.Addr

	sent                          int
	responses, requests, answered atomic.Int64

	mu      sync.Mutex
	tags    map[string]string // of the phone, by Call-ID
	up      map[string]bool   // which have had a final answer
	order   []string          // of the Call-IDs, for the oldest to be forgotten
	callees *rand.Rand        // guarded by mu: what is drawn for answers
}

func (m *mangler) run(ctx context.Context, n int, quarter func()) error {
	m.tags, m.up = make(map[string]string), make(map[string]bool)
	m.callees = rand.New(rand.NewPCG(m.Uint64(), m.Uint64()))
	var readers sync.WaitGroup
	defer readers.Wait()
	sockets := make([]*net.UDPConn, len(m.from))
	for i, a := range m.from {
		conn, err := m.strangers.Listen(netip.AddrPortFrom(a, 5060))
		if err != nil {
			return err
		}
		defer conn.Close()
		sockets[i] = conn
		readers.Go(func() { m.listen(conn) })
	}
	pace := time.NewTicker(dialogPace)
	defer pace.Stop()
	for i := range n {
		if i == n/4 {
			quarter()
		}
		conn := sockets[m.IntN(len(sockets))]
		send := func(b []byte) { _, _ = conn.WriteToUDPAddrPort(b, netip.AddrPortFrom(m.phone, 5060)) } // lost like any packet may be
		var stream net.Conn
		if m.IntN(8) == 0 {
			var err error
			if stream, err = m.strangers.Dial(ctx, m.from[m.IntN(len(m.from))], netip.AddrPortFrom(m.phone, 5060)); err != nil {
				return err // the phone no longer listens
			}
			send = func(b []byte) { _, _ = stream.Write(b) } // the phone may have closed it
			readers.Go(func() { m.listen(stream) })
		}
		m.dialog(ctx, conn.LocalAddr().String(), stream != nil, send, pace.C)
		if stream != nil {
			stream.Close()
		}
	}
	return nil
}

// listen takes what the phone says, and answers its requests, until conn is
// closed.
func (m *mangler) listen(conn net.Conn) {
	buf := make([]byte, 65536)
	for {
		var n int
		var from netip.AddrPort
		var err error
		udp, packets := conn.(*net.UDPConn)
		if packets {
			n, from, err = udp.ReadFromUDPAddrPort(buf)
		} else {
			n, err = conn.Read(buf)
		}
		if err != nil {
			return
		}
		for _, text := range splitMessages(string(buf[:n])) {
			if out := m.heard(conn.LocalAddr().String(), text); out != nil {
				if packets {
					_, _ = udp.WriteToUDPAddrPort(out, from)
				} else {
					_, _ = conn.Write(out)
				}
			}
		}
	}
}

func splitMessages(text string) []string {
	at := startOfMessage.FindAllStringIndex(text, -1)
	var out []string
	for i, begin := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		out = append(out, text[begin[0]:end])
	}
	return out
}

var (
	startOfMessage = regexp.MustCompile(`(?m)^(SIP/2\.0 [0-9]|[A-Z]+ sip:)`)
	fromTag        = regexp.MustCompile(`(?mi)^From:.*;tag=([^;\r\n]+)`)
	toTag          = regexp.MustCompile(`(?mi)^To:.*;tag=([^;\r\n]+)`)
	callIDLine     = regexp.MustCompile(`(?mi)^Call-ID: *([^\r\n]+)`)
	cseqLine       = regexp.MustCompile(`(?mi)^CSeq: *[0-9]+ ([A-Z]+)`)
)

// heard notes what a response says, and answers a request in some way.
func (m *mangler) heard(me, text string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := callIDLine.FindStringSubmatch(text)
	method := cseqLine.FindStringSubmatch(text)
	if id == nil || method == nil {
		return nil
	}
	if strings.HasPrefix(text, "SIP/2.0 ") {
		m.responses.Add(1)
		if tag := toTag.FindStringSubmatch(text); tag != nil {
			if m.tags[id[1]] == "" {
				m.order = append(m.order, id[1])
			}
			m.tags[id[1]] = tag[1]
			for len(m.order) > 200 {
				delete(m.tags, m.order[0])
				delete(m.up, m.order[0])
				m.order = m.order[1:]
			}
		}
		if !strings.HasPrefix(text, "SIP/2.0 1") && m.tags[id[1]] != "" {
			m.up[id[1]] = true
		}
		if strings.HasPrefix(text, "SIP/2.0 200") && method[1] == "INVITE" {
			m.answered.Add(1)
		}
		return nil
	}
	m.requests.Add(1)
	if method[1] == "ACK" {
		return nil
	}
	r := m.callees
	code := []string{"100", "180", "183", "200", "200", "200", "202", "302", "404", "408", "415", "481", "486", "487", "488", "491", "500", "600", "603", "699"}[r.IntN(20)]
	if method[1] == "BYE" && r.IntN(4) > 0 {
		code = "200"
	}
	var lines []string
	for _, line := range strings.Split(text, "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		if slices.Contains([]string{"Via", "From", "To", "Call-ID", "CSeq", "Record-Route"}, name) {
			if name == "To" && !strings.Contains(line, ";tag=") {
				line += fmt.Sprintf(";tag=s%d", r.IntN(3)) // now and then a fork
			}
			lines = append(lines, line)
		}
	}
	lines = append(lines, fmt.Sprintf("Contact: <sip:stranger@%s>", me))
	body := ""
	if method[1] == "INVITE" && r.IntN(8) > 0 {
		body = someDescription(r)
	}
	return mangle(r, assemble("SIP/2.0 "+code+" Whatever", lines, body), 2)
}

// dialog sends the messages of one dialog, some of which are mangled.
func (m *mangler) dialog(ctx context.Context, me string, stream bool, send func([]byte), pace <-chan time.Time) {
	id := fmt.Sprintf("strange-%x", m.Uint64())
	branch := func() string { return fmt.Sprintf("z9hG4bK%x", m.Uint64()) }
	transport := "UDP"
	if stream {
		transport = "TCP"
	}
	first, seq := branch(), 1+m.IntN(3)
	request := func(method, branch string, n int, inside bool, body string) []byte {
		to := fmt.Sprintf("To: <sip:%s@%v>", m.user, m.phone)
		m.mu.Lock()
		tag := m.tags[id]
		m.mu.Unlock()
		if inside && tag != "" {
			to += ";tag=" + tag
		}
		return assemble(fmt.Sprintf("%s sip:%s@%v SIP/2.0", method, m.user, m.phone), []string{
			fmt.Sprintf("Via: SIP/2.0/%s %s;branch=%s;rport", transport, me, branch), "Max-Forwards: 70",
			fmt.Sprintf("From: \"a stranger\" <sip:stranger@%s>;tag=t%d", me, len(id)), to,
			"Call-ID: " + id, fmt.Sprintf("CSeq: %d %s", n, method), fmt.Sprintf("Contact: <sip:stranger@%s>", me),
		}, body)
	}
	story := []string{"INVITE"}
	if m.IntN(2) == 0 {
		story = append(story, "ACK")
	}
	for range 1 + m.IntN(7) {
		story = append(story, []string{"ACK", "ACK", "INVITE", "UPDATE", "BYE", "CANCEL", "OPTIONS", "INFO", "REFER", "PRACK", "SUBSCRIBE", "MESSAGE"}[m.IntN(12)])
	}
	if m.IntN(3) > 0 { // most end in some way, so that others are heard as well
		story = append(story, "CANCEL", "BYE")
	}
	wrong := 0
	if m.IntN(5) > 0 {
		wrong = 1 + m.IntN(3)
	}
	for i, method := range story {
		body, b := "", first
		if method == "INVITE" || method == "UPDATE" || method == "ACK" && m.IntN(4) == 0 {
			body = someDescription(m.Rand)
		}
		if method != "CANCEL" && i > 0 {
			b = branch()
		}
		if method != "ACK" && method != "CANCEL" {
			seq++
		}
		text := request(method, b, seq, i > 0, body)
		if i > 0 || m.IntN(3) == 0 { // an INVITE that nobody takes leads no further
			text = mangle(m.Rand, text, wrong)
		}
		send(text)
		m.sent++
		if i == 0 || m.IntN(4) == 0 { // time for an answer, which brings the tag
			select {
			case <-pace:
			case <-ctx.Done():
				return
			}
		}
		if i == 0 && m.IntN(120) == 0 { // and for somebody to lift the handset
			m.awaitAnswer(ctx, id)
		}
	}
}

// awaitAnswer waits until the call has been answered, or for as long as the
// handset may take.
func (m *mangler) awaitAnswer(ctx context.Context, id string) {
	late := time.NewTimer(700 * time.Millisecond)
	defer late.Stop()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			m.mu.Lock()
			done := m.up[id]
			m.mu.Unlock()
			if done {
				return
			}
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// assemble writes a message.
func assemble(start string, lines []string, body string) []byte {
	if body != "" {
		lines = append(slices.Clone(lines), "Content-Type: application/sdp")
	}
	return fmt.Appendf(nil, "%s\r\n%s\r\nContent-Length: %d\r\n\r\n%s", start, strings.Join(lines, "\r\n"), len(body), body)
}

// someDescription is a session description, grammatical more often than not.
func someDescription(r *rand.Rand) string {
	lines := []string{
		"v=0", fmt.Sprintf("o=- %d %d IN IP4 203.0.113.20", r.Uint32(), r.Uint32()), "s=-", "c=IN IP4 203.0.113.20", "t=0 0",
		"m=audio " + fmt.Sprint(r.IntN(65536)) + " RTP/AVP " + []string{"0", "8", "111", "0 8 111 101", "96", "3 4 18"}[r.IntN(6)],
		"a=rtpmap:111 opus/48000/2", "a=rtpmap:101 telephone-event/8000", "a=ptime:" + fmt.Sprint(r.IntN(130)),
		"a=" + []string{"sendrecv", "sendonly", "recvonly", "inactive"}[r.IntN(4)], "a=rtcp-mux", "m=video 0 RTP/AVP 31",
	}
	for range r.IntN(3) {
		i := r.IntN(len(lines))
		switch r.IntN(3) {
		case 0:
			lines = slices.Delete(lines, i, i+1)
		case 1:
			lines = slices.Insert(lines, i, lines[r.IntN(len(lines))])
		case 2:
			lines[i] = string(flip(r, []byte(lines[i])))
		}
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

// oddValues stand where something else should.
var oddValues = []string{
	"", " ", "*", "0", "-1", "4294967296", "99999999999999999999", "sip:", "<sip:>", "<sip:a@[::1>", "<sip:[2001:db8::1]:5060>;tag=x", "sip:a@b;tag=",
	`"<" <sip:a@203.0.113.21>;tag="x`, "<tel:+1>;tag=1", "<sip:a@203.0.113.250:1;transport=tls;lr;maddr=224.0.0.1>", "SIP / 2.0 / TCP  [::]:0 ;branch=z9hG4bK;rport",
	"SIP/2.0/UDP 255.255.255.255;branch=z9hG4bKx", "1 INVITE", "2147483648 BYE", "text/plain", "multipart/mixed;boundary=", "application/sdp;x=\"", "timer, 100rel",
	"<sip:127.0.0.1:5060;transport=udp>", "<sip:0.0.0.0>", "\x00", "\xff\xfe", "%00%zz", strings.Repeat("x", 3000), strings.Repeat("a,", 300), strings.Repeat(`"`, 99),
}

var oddNames = []string{
	"Via", "From", "To", "Call-ID", "CSeq", "Contact", "Max-Forwards", "Content-Length", "Content-Type", "Route", "Record-Route", "Require", "Supported", "Expires",
	"Session-Expires", "RAck", "Replaces", "Refer-To", "Accept", "Content-Encoding", "Date", "Allow", "v", "f", "t", "i", "m", "l", "c", "k", "x", "Warning", "Retry-After",
}

// mangle spoils a message in n ways: of grammar, or of bytes.
func mangle(r *rand.Rand, text []byte, n int) []byte {
	for range n {
		if r.IntN(4) == 0 {
			text = flip(r, text)
			continue
		}
		head, body, _ := strings.Cut(string(text), "\r\n\r\n")
		lines := strings.Split(head, "\r\n")
		i := r.IntN(len(lines))
		name, value, _ := strings.Cut(lines[i], ":")
		switch r.IntN(10) {
		case 0:
			lines = slices.Delete(lines, i, i+1)
		case 1:
			lines = slices.Insert(lines, i, lines[r.IntN(len(lines))])
		case 2:
			lines[i] = name + ":" + oddValues[r.IntN(len(oddValues))]
		case 3:
			lines = append(lines, oddNames[r.IntN(len(oddNames))]+": "+oddValues[r.IntN(len(oddValues))])
		case 4:
			lines[i] = strings.ToUpper(name) + " \t:" + strings.ReplaceAll(value, ";", "\r\n ; ")
		case 5:
			lines[i] = strings.ReplaceAll(lines[i], ";tag=", ";TAG = ")
		case 6:
			lines[0] = strings.Replace(lines[0], "SIP/2.0", []string{"SIP/7.0", "SIP/", "sip/2.0", "HTTP/1.1", "SIP/2.0 "}[r.IntN(5)], 1)
		case 7:
			method, rest, _ := strings.Cut(lines[0], " ")
			lines[0] = []string{strings.ToLower(method), "ACK", "CANCEL", "BYE", "INVITE", "X", ""}[r.IntN(7)] + " " + rest
		case 8:
			lines[i] = name + ":" + value + "," + value
		case 9:
			lines[i] = name + ":" + string(flip(r, []byte(value)))
		}
		text = []byte(strings.Join(lines, "\r\n") + "\r\n\r\n" + body)
	}
	return text
}

// flip changes bytes: one is another, some are gone, or there twice.
func flip(r *rand.Rand, b []byte) []byte {
	if len(b) == 0 {
		return b
	}
	b = slices.Clone(b)
	i := r.IntN(len(b))
	j := min(len(b), i+r.IntN(20))
	switch r.IntN(5) {
	case 0:
		b[i] = byte(r.Uint32())
	case 1:
		b[i] ^= 1 << r.IntN(8)
	case 2:
		b = slices.Delete(b, i, j)
	case 3:
		b = slices.Insert(b, i, b[i:j]...)
	case 4:
		b = b[:i]
	}
	return b
}
