package sip

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"flexphone/internal/sipcheck"
	"flexphone/internal/sipcheck/torture"
	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

var from = netip.MustParseAddrPort("198.51.100.7:40000")

// serve returns a server of real rows; it listens only if o says so.
func serve(t testing.TB, o Options) (*Server, *store.Store) {
	t.Helper()
	rows, err := store.Open(t.Context(), store.Options{
		Dir: t.TempDir(), Numbers: store.Numbers{First: 101, Last: 999}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rows.Close)
	o.Rows = rows
	s, err := Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s, rows
}

// run has a server that listens serve until the test ends.
func run(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	})
}

func add(t testing.TB, rows *store.Store, user, password string) string {
	t.Helper()
	m, s := Secrets(user, password)
	number, err := rows.AddPhone(t.Context(), store.Phone{User: user, MD5: m, SHA256: s})
	if err != nil {
		t.Fatal(err)
	}
	return number
}

// A client is a standard phone, as text.
type client struct {
	t         testing.TB
	s         *Server
	user      string
	password  string
	algorithm string
	callID    string
	cseq      int
	nonce     string
	nc        int
	from      netip.AddrPort
}

func (c *client) request(method, uri string, lines ...string) string {
	c.cseq++
	text := fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7:5070;branch=z9hG4bK%s%d;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:%s@example.net>;tag=a1\r\nTo: <sip:%s@example.net>\r\nCall-ID: %s\r\nCSeq: %d %s\r\n",
		method, uri, c.callID, c.cseq, c.user, c.user, c.callID, c.cseq, method)
	for _, l := range lines {
		text += l + "\r\n"
	}
	return text + "Content-Length: 0\r\n\r\n"
}

// credentials answer the last challenge.
func (c *client) credentials(method, uri string) string {
	c.nc++
	sum := func(s string) string { h := md5.Sum([]byte(s)); return hex.EncodeToString(h[:]) }
	if c.algorithm == "SHA-256" {
		sum = func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }
	}
	nc := fmt.Sprintf("%08x", c.nc)
	response := sum(strings.Join([]string{sum(c.user + ":" + Realm + ":" + c.password), c.nonce, nc, "c0", "auth", sum(method + ":" + uri)}, ":"))
	return fmt.Sprintf(`Authorization: Digest username="%s", realm="%s", nonce="%s", uri="%s", response="%s", algorithm=%s, cnonce="c0", qop=auth, nc=%s`,
		c.user, Realm, c.nonce, uri, response, c.algorithm, nc)
}

var nonceOf = regexp.MustCompile(`nonce="([^"]+)"`)

// send gives text to the server, and returns what it answers.
func (c *client) send(text string) string {
	c.t.Helper()
	out, _ := c.s.answer(context.Background(), []byte(text), c.from)
	if m := nonceOf.FindStringSubmatch(string(out)); m != nil {
		c.nonce, c.nc = m[1], 0
	}
	return string(out)
}

// ask sends a request, and again with credentials if it is challenged.
func (c *client) ask(method, uri string, lines ...string) string {
	c.t.Helper()
	if c.nonce != "" {
		lines = append(lines, c.credentials(method, uri))
	}
	out := c.send(c.request(method, uri, lines...))
	if code(out) != 401 {
		return out
	}
	if n := len(lines); n > 0 && strings.HasPrefix(lines[n-1], "Authorization") {
		lines = lines[:n-1]
	}
	return c.send(c.request(method, uri, append(lines, c.credentials(method, uri))...))
}

func (c *client) register(contact string, lines ...string) string {
	c.t.Helper()
	if contact != "" {
		lines = append(lines, "Contact: "+contact)
	}
	return c.ask("REGISTER", "sip:example.net", lines...)
}

func code(out string) (n int) {
	fmt.Sscanf(out, "SIP/2.0 %d", &n)
	return n
}

func wants(t *testing.T, what, out string, n int, texts ...string) {
	t.Helper()
	if code(out) != n {
		t.Errorf("%s: answered %q; want %d", what, out, n)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("%s: no %q in %q", what, text, out)
		}
	}
}

func newClient(t testing.TB, s *Server, user, password string) *client {
	return &client{t: t, s: s, user: user, password: password, algorithm: "SHA-256", callID: "one", from: from}
}

// A standard phone registers with each algorithm, and another is sent to it.
func TestRegisterAndRedirect(t *testing.T) {
	s, rows := serve(t, Options{Policy: trust.Policy{Resolve: trust.ResolveEnrolled}})
	number := add(t, rows, "lobby", "secret")
	add(t, rows, "02005e005302", "geheim")
	lobby := newClient(t, s, "lobby", "secret")

	out := lobby.send(lobby.request("REGISTER", "sip:example.net", "Contact: <sip:lobby@192.0.2.8>"))
	wants(t, "without credentials", out, 401, "algorithm=SHA-256", "algorithm=MD5", `realm="flexphone"`, "received=198.51.100.7", "rport=40000")
	if strings.Index(out, "SHA-256") > strings.Index(out, "MD5,") {
		t.Error("the weaker algorithm stands first")
	}
	wants(t, "register", lobby.register("<sip:lobby-0x1@192.0.2.8:5062;transport=tcp>", "Expires: 600"), 200, "Contact: <sip:lobby-0x1@192.0.2.8:5062;transport=tcp>;expires=600", "Date: ")
	row, ok := rows.Resolve(wire.Query{Number: number})
	if !ok || row.State != wire.Online || row.Addrs[0] != netip.MustParseAddr("192.0.2.8") || row.Ports != (wire.Ports{SIP: 5062}) || row.Fingerprint != (wire.Fingerprint{}) {
		t.Errorf("row = %+v, %v; want it online at 192.0.2.8:5062, without a key", row, ok)
	}

	other := newClient(t, s, "02005e005302", "geheim")
	other.algorithm, other.callID = "MD5", "two"
	wants(t, "register by MD5", other.register("<sip:x@192.0.2.9>"), 200)
	for _, user := range []string{number, "lobby"} {
		uri := "sip:" + user + "@example.net"
		wants(t, "invite "+user, other.ask("INVITE", uri), 302, "Contact: <sip:lobby-0x1@192.0.2.8:5062;transport=tcp>;q=1.0")
	}
	wants(t, "invite by 15 digits", lobby.ask("INVITE", "sip:002200600335106@example.net"), 302, "Contact: <sip:x@192.0.2.9>")
	wants(t, "invite nobody", lobby.ask("INVITE", "sip:555@example.net"), 404)
	wants(t, "the list", lobby.register(""), 200, "lobby-0x1@192.0.2.8")

	// A phone with a key is called by its MAC.
	ours := wire.Registration{MAC: wire.MAC{2, 0, 0x5e, 0, 0x53, 7}, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.70"), netip.MustParseAddr("2001:db8::70")},
		Ports: wire.Ports{SIP: 5060, SIPS: 5061}, Sequence: 1, Lifetime: time.Hour}
	if _, _, err := rows.Register(t.Context(), wire.Fingerprint{1}, ours); err != nil {
		t.Fatal(err)
	}
	wants(t, "invite ours", lobby.ask("INVITE", "sip:02005e005307@example.net"), 302,
		"Contact: <sip:02005e005307@192.0.2.70:5060>;q=1.0", "Contact: <sip:02005e005307@[2001:db8::70]:5060>;q=0.9")

	page, err := rows.OpenPage(t.Context(), store.PageHash{1}, nil, "operator", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, "invite a browser", lobby.ask("INVITE", "sip:"+page.Number+"@example.net"), 480)

	wants(t, "withdraw", lobby.register("*", "Expires: 0"), 200)
	wants(t, "invite who is off", other.ask("INVITE", "sip:lobby@example.net"), 480)
}

// A registration that was overtaken changes nothing.
func TestStaleRegister(t *testing.T) {
	s, rows := serve(t, Options{})
	add(t, rows, "lobby", "secret")
	phone := newClient(t, s, "lobby", "secret")
	where := func(what, want string) {
		t.Helper()
		if row, _ := rows.Resolve(wire.Query{MAC: store.UserMAC("lobby")}); len(row.Addrs) != 1 || row.Addrs[0].String() != want || row.State != wire.Online {
			t.Errorf("%s: the row says %v %v; want %s", what, row.Addrs, row.State, want)
		}
	}
	register := func(addr string) string {
		return phone.request("REGISTER", "sip:example.net", "Contact: <sip:lobby@"+addr+">", phone.credentials("REGISTER", "sip:example.net"))
	}
	wants(t, "first", phone.register("<sip:lobby@192.0.2.1>"), 200)
	delayed := register("192.0.2.66") // sent, and held up on the way
	newer := register("192.0.2.2")
	wants(t, "newer", phone.send(newer), 200)
	wants(t, "delayed", phone.send(delayed), 500)
	where("lower CSeq", "192.0.2.2")
	wants(t, "repeated", phone.send(newer), 200, "192.0.2.2")

	held := register("192.0.2.67") // of this Call-ID, before the phone is started anew
	again := newClient(t, s, "lobby", "secret")
	again.callID = "after-the-restart"
	wants(t, "restarted", again.register("<sip:lobby@192.0.2.3>"), 200)
	out := phone.send(held)
	wants(t, "of another Call-ID", out, 401, "stale=true")
	where("another Call-ID, older nonce", "192.0.2.3")
	wants(t, "withdrawal of another Call-ID", phone.send(strings.Replace(held, "Contact: <sip:lobby@192.0.2.67>", "Contact: *\r\nExpires: 0", 1)), 401, "stale=true")
	where("delayed withdrawal", "192.0.2.3")

	// Whoever records a registration and sends it with another Contact, since
	// the digest does not cover that, gets nowhere either.
	stolen := newClient(t, s, "lobby", "secret")
	stolen.callID, stolen.cseq, stolen.nonce, stolen.nc = "after-the-restart", 1000, again.nonce, again.nc-1
	wants(t, "replayed", stolen.send(stolen.request("REGISTER", "sip:example.net", "Contact: <sip:lobby@192.0.2.68>", stolen.credentials("REGISTER", "sip:example.net"))), 401, "stale=true")
	where("replayed", "192.0.2.3")
}

// Two devices of one user ask at the same time, and the one whose nonce was issued
// first comes last: its registration may be an old one that was held up, so it is
// asked again, and with the new nonce it is taken.
func TestRegisterTwiceAtOnce(t *testing.T) {
	s, rows := serve(t, Options{})
	add(t, rows, "lobby", "secret")
	const uri = "sip:example.net"
	first, second := newClient(t, s, "lobby", "secret"), newClient(t, s, "lobby", "secret")
	second.callID = "two"
	proves := func(p *client, addr string) string {
		return p.send(p.request("REGISTER", uri, "Contact: <sip:lobby@"+addr+">", p.credentials("REGISTER", uri)))
	}
	for _, p := range []*client{first, second} {
		wants(t, p.callID, p.send(p.request("REGISTER", uri)), 401)
	}
	wants(t, "the second", proves(second, "192.0.2.2"), 200)
	wants(t, "the first, overtaken", proves(first, "192.0.2.1"), 401, "stale=true")
	wants(t, "the first, again", proves(first, "192.0.2.1"), 200, "192.0.2.1")
}

// TestTorture: of RFC 4475's messages a registrar that knows nobody says what is
// wrong with them by their syntax, and otherwise what it says to each other
// request of that method. A response has no answer.
func TestTorture(t *testing.T) {
	s, _ := serve(t, Options{Policy: trust.Policy{Resolve: trust.ResolveEnrolled}})
	mine := map[string]int{"INVITE": 401, "REGISTER": 401, "OPTIONS": 200, "MESSAGE": 405, "BYE": 405}
	own := map[string]int{"valid/esc02": 501, "valid/intmeth": 501, "valid/wsinv": 481, "valid/escnull": 404, "valid/longreq": 403, "valid/esc01": 403,
		"invalid/bext01": 420, "invalid/zeromf": 200, "invalid/regescrt": 401}
	for name, text := range torture.Messages(t) {
		out, _ := s.answer(t.Context(), text, from)
		m, err := sipcheck.Read(text)
		want := 0
		if err == nil && m.IsRequest() {
			want = mine[m.Method]
			if flaw := m.Check(); flaw.Code != 0 {
				want = flaw.Code
			} else if code := own[name]; code != 0 {
				want = code
			}
		}
		if got := code(string(out)); got != want {
			t.Errorf("%s: answered %d; want %d", name, got, want)
		}
	}
}

// A phone registers again after a restart of the server, whose nonces are then
// worth nothing.
func TestNonceOfAnotherServer(t *testing.T) {
	s, rows := serve(t, Options{})
	add(t, rows, "lobby", "secret")
	phone := newClient(t, s, "lobby", "secret")
	wants(t, "first", phone.register("<sip:lobby@192.0.2.1>"), 200)
	s.sign = newSigner()
	out := phone.send(phone.request("REGISTER", "sip:example.net", "Contact: <sip:lobby@192.0.2.2>", phone.credentials("REGISTER", "sip:example.net")))
	wants(t, "old nonce", out, 401, "stale=true")
	wants(t, "again", phone.register("<sip:lobby@192.0.2.2>"), 200)

	s.sign.begun = s.sign.begun.Add(-nonceLife - time.Second) // as if so much time had gone by
	out = phone.send(phone.request("REGISTER", "sip:example.net", "Contact: <sip:lobby@192.0.2.3>", phone.credentials("REGISTER", "sip:example.net")))
	wants(t, "a nonce that has aged", out, 401, "stale=true")
	wants(t, "once more", phone.register("<sip:lobby@192.0.2.3>"), 200)
}

// A phone that registered while the clock was ahead registers again once it is
// right, and is overtaken by nothing that it sent before.
func TestClockPutBack(t *testing.T) {
	s, rows := serve(t, Options{})
	add(t, rows, "lobby", "secret")
	ahead := store.Binding{Nonce: time.Now().AddDate(1, 0, 0).UnixMicro(), CallID: []byte("ahead"), CSeq: 7, Contact: "sip:lobby@192.0.2.1", Addr: netip.MustParseAddr("192.0.2.1"), Port: 5060}
	if _, err := rows.Bind(t.Context(), store.UserMAC("lobby"), ahead, time.Hour); err != nil {
		t.Fatal(err)
	}
	phone := newClient(t, s, "lobby", "secret")
	wants(t, "the clock is right again", phone.register("<sip:lobby@192.0.2.2>"), 200, "192.0.2.2")
	again := newClient(t, s, "lobby", "secret")
	again.callID = "after-a-restart"
	wants(t, "restarted", again.register("<sip:lobby@192.0.2.3>"), 200, "192.0.2.3")
	wants(t, "overtaken", phone.send(phone.request("REGISTER", "sip:example.net", "Contact: <sip:lobby@192.0.2.66>", phone.credentials("REGISTER", "sip:example.net"))), 401, "stale=true")
	wants(t, "the list", again.register(""), 200, "192.0.2.3")
}

func TestRefusals(t *testing.T) {
	s, rows := serve(t, Options{Policy: trust.Policy{Resolve: trust.ResolveAnyone}})
	s.sources = trust.NewLimiter[trust.Network](1e6, 1e6)
	add(t, rows, "lobby", "secret")
	phone := func() *client { return newClient(t, s, "lobby", "secret") }
	for contact, want := range map[string]int{
		"<sip:lobby@phone.example.net>":                    400, // no name is looked up
		"<sip:lobby@127.0.0.1>":                            400,
		"<sip:lobby@255.255.255.255>":                      400,
		"<sip:lobby@192.0.2.1;maddr=192.0.2.2>":            400,
		"<sips:lobby@192.0.2.1>":                           400,
		"<tel:+123>":                                       400,
		"<sip:lobby@192.0.2.1:70000>":                      400,
		"<sip:lobby@192.0.2.1?X=y>":                        400,
		"<sip:" + strings.Repeat("a", 300) + "@192.0.2.1>": 400,
		"*":                                   400, // without Expires: 0
		"<sip:lobby@192.0.2.1>;expires=59":    423,
		"<sip:lobby@192.0.2.1>;expires=0":     200, // was not there
		"<sip:lobby@[2001:db8::1]:5070>":      200,
		"<sip:lobby@192.0.2.1;transport=tls>": 200,
	} {
		p := phone()
		p.callID = fmt.Sprintf("%x", md5.Sum([]byte(contact)))
		wants(t, contact, p.register(contact), want)
	}
	wrong := newClient(t, s, "lobby", "guess")
	wants(t, "wrong password", wrong.register("<sip:lobby@192.0.2.66>"), 403)
	stranger := newClient(t, s, "nobody", "secret")
	wants(t, "unknown user", stranger.register("<sip:nobody@192.0.2.66>"), 403)
	for i := range 20 {
		if out := wrong.register("<sip:lobby@192.0.2.66>"); i > 10 && out != "" {
			t.Errorf("guess %d is answered: %q", i, out)
		}
	}
	p := phone()
	wants(t, "extension", p.ask("OPTIONS", "sip:example.net", "Require: path"), 420, "Unsupported: path")
	wants(t, "options", p.ask("OPTIONS", "sip:example.net"), 200, "Allow: INVITE")
	wants(t, "subscribe", p.ask("SUBSCRIBE", "sip:lobby@example.net"), 405, "Allow: ")
	wants(t, "nonsense", p.ask("FROBNICATE", "sip:lobby@example.net"), 501)
	wants(t, "no hops left", p.send(strings.Replace(p.request("INVITE", "sip:lobby@example.net"), "Max-Forwards: 70", "Max-Forwards: 0", 1)), 483)
	wants(t, "the same place twice", p.send(strings.Replace(p.request("INVITE", "sip:lobby@example.net"), "Max-Forwards",
		"Via: SIP/2.0/UDP 192.0.2.50;branch=z9hG4bKa\r\nVia: SIP/2.0/UDP 192.0.2.51;branch=z9hG4bKb\r\nVia: SIP/2.0/UDP 192.0.2.50;branch=z9hG4bKa\r\nMax-Forwards", 1)), 482)
	if out := p.ask("ACK", "sip:lobby@example.net"); out != "" {
		t.Errorf("ACK is answered: %q", out)
	}
	s.policy.Resolve = trust.ResolveNobody
	wants(t, "nobody may ask", p.ask("INVITE", "sip:lobby@example.net"), 403)
}

// A contact that is this server itself would send calls round for ever.
func TestOwnAddress(t *testing.T) {
	one, other := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.1")
	for listen, all := range map[string]bool{"127.0.0.1:0": false, "0.0.0.0:0": true, "[::]:0": true} {
		s, _ := serve(t, Options{Listen: listen})
		defer s.shut()
		port := s.at[0].Port()
		s.at = append(s.at, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), port+1)) // not where the first is
		for at, want := range map[netip.AddrPort]bool{
			netip.AddrPortFrom(one, port): true, netip.AddrPortFrom(one, port+1): false, netip.AddrPortFrom(other, port): false,
			netip.AddrPortFrom(netip.IPv6Loopback(), port): all,
		} {
			if got := s.ours(at); got != want {
				t.Errorf("listening on %s: %v is the server's: %t; want %t", listen, at, got, want)
			}
		}
	}
}

// The lookups of each who asks are limited.
func TestInviteRate(t *testing.T) {
	s, _ := serve(t, Options{Policy: trust.Policy{Resolve: trust.ResolveAnyone, Lookups: trust.NewLookups(0.001, nil)}})
	p := newClient(t, s, "anybody", "")
	counts := map[int]int{}
	for i := range 100 {
		counts[code(p.ask("INVITE", fmt.Sprintf("sip:%d@example.net", 100+i)))]++
	}
	if counts[404] != 20 || counts[503] != 80 {
		t.Errorf("answers = %v; want 20 of 404 and 80 of 503", counts)
	}
}

// FuzzMessage: whatever comes, what is answered is one whole message.
func FuzzMessage(f *testing.F) {
	s, rows := serve(f, Options{Policy: trust.Policy{Resolve: trust.ResolveAnyone}})
	s.guesses = trust.NewLimiter[trust.Network](1e9, 1e9)
	add(f, rows, "lobby", "secret")
	c := newClient(f, s, "lobby", "secret")
	f.Add([]byte(c.request("REGISTER", "sip:example.net", "Contact: <sip:lobby@192.0.2.1>;expires=60;q=0.5")))
	c.send(c.request("REGISTER", "sip:example.net"))
	f.Add([]byte(c.request("REGISTER", "sip:example.net", "Contact: *", "Expires: 0", c.credentials("REGISTER", "sip:example.net"))))
	f.Add([]byte(c.request("INVITE", "sip:lobby@example.net", "Route: <sip:192.0.2.1;lr>")))
	f.Add([]byte(c.request("OPTIONS", "sip:example.net", "Require: a, b")))
	f.Fuzz(func(t *testing.T, b []byte) {
		out, to := s.answer(context.Background(), b, from)
		if out == nil {
			return
		}
		if !strings.HasPrefix(string(out), "SIP/2.0 ") || strings.Count(string(out), "\r\n\r\n") != 1 || !strings.HasSuffix(string(out), "\r\n\r\n") {
			t.Errorf("%q is answered with %q", b, out)
		}
		if strings.Contains(strings.ReplaceAll(string(out), "\r\n", ""), "\n") {
			t.Errorf("%q is answered with a line that is none: %q", b, out)
		}
		asked, err := sipcheck.Read(b)
		if err != nil {
			t.Fatalf("%q is answered with %q: %v", b, out, err)
		}
		said, err := sipcheck.Read(out)
		if err != nil || said.IsRequest() {
			t.Fatalf("%q is answered with %q: %v", b, out, err)
		}
		// A response repeats what is broken in its request, and all of its Vias.
		if flaw := said.Check(); asked.Check().Code == 0 && len(said.Values("Via")) == 1 && flaw.Code != 0 {
			t.Errorf("%q is taken, and answered with %q: %s", b, out, flaw.What)
		}
		if to.Addr() != from.Addr() {
			t.Errorf("%q is answered to %v", b, to)
		}
	})
}
