package sipcheck_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	gosip "github.com/emiago/sipgo/sip"

	"flexphone/internal/sipcheck"
	"flexphone/internal/sipcheck/torture"
)

// invite is an INVITE without flaws; fields replace those of the same name, and
// one that begins with "-" only takes one away.
func invite(fields ...string) string {
	lines := []string{
		"Via: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bKx;rport", "Max-Forwards: 70",
		"From: <sip:case@192.0.2.20>;tag=1", "To: <sip:101@192.0.2.1>", "Call-ID: x@192.0.2.20",
		"CSeq: 1 INVITE", "Contact: <sip:case@192.0.2.20:5060>", "Content-Length: 0",
	}
	start := "INVITE sip:101@192.0.2.1 SIP/2.0"
	for _, f := range fields {
		name, _, _ := strings.Cut(strings.TrimPrefix(f, "-"), ":")
		var rest []string
		for _, l := range lines {
			if is, _, _ := strings.Cut(l, ":"); !strings.EqualFold(is, strings.TrimRight(name, " \t")) {
				rest = append(rest, l)
			}
		}
		lines = rest
		switch {
		case strings.HasPrefix(f, "-"):
		case strings.HasPrefix(f, "start:"):
			start = strings.TrimPrefix(f, "start:")
		default:
			lines = append(lines, f)
		}
	}
	return start + "\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// TestForms: what is odd in form and sound in meaning is taken.
func TestForms(t *testing.T) {
	for _, fields := range [][]string{
		{`From: "a <b@c>" <sip:case@192.0.2.20>;tag=1`}, {`To: "a <b@c>, \"d\"; e" <sip:101@192.0.2.1>`},
		{`From: "old" <sip:case@192.0.2.20>`}, {"From: <sip:case@192.0.2.20>;TAG=1"}, {"From: <sip:case@192.0.2.20> ; Tag = 1 ;x"},
		{"From: sip:case@192.0.2.20;tag=1"}, {"From: SIP:case@192.0.2.20;tag=1"}, {"From: <tel:+49891234>;tag=1"}, {"From: <sips:case@192.0.2.20>;tag=1"},
		{"From: J\u00f6rg M\u00fcller <sip:case@192.0.2.20>;tag=1"}, {"From: <sip:192.0.2.20>;tag=1"}, {"f:<sip:case@192.0.2.20>;tag=1", "-From"},
		{"Record-Route: <sip:192.0.2.30:5070;LR>"}, {"Record-Route: <sip:192.0.2.30;lr>,<sip:192.0.2.31;Lr=on>"},
		{"start:INVITE sip:%3101@192.0.2.1 SIP/2.0"}, {"start:INVITE sip:101;phone-context=example.com@192.0.2.1;user=phone SIP/2.0"},
		{"start:INVITE sip:101@192.0.2.1 sip/2.0"}, {"start:INVITE SIP:101@192.0.2.1;Transport=TCP SIP/2.0"}, {"start:INVITE sip:101@[2001:db8::1]:5060 SIP/2.0"},
		{"start:INVITE sips:101@192.0.2.1 SIP/2.0"}, {"start:INVITE sip:192.0.2.1 SIP/2.0"}, {"start:INVITE sip:101:secret@192.0.2.1 SIP/2.0"},
		{"Via: SIP / 2.0 / UDP 192.0.2.20:5060 ;branch=z9hG4bKx"}, {"Via: SIP/2.0/UDP 192.0.2.20 : 5060 ; BRANCH = z9hG4bKx;"},
		{"Via: SIP/2.0/UDP 192.0.2.20;branch=z9hG4bKx, SIP/2.0/TCP proxy.example.com;branch=z9hG4bKy"}, {"Via: SIP/2.0/UDP [2001:db8::20]:5062;branch=z9hG4bKx"},
		{"Via: SIP/2.0/UDP\r\n\t192.0.2.20\r\n ;branch=z9hG4bKx"}, {"v: SIP/2.0/UDP 192.0.2.20;branch=z9hG4bKx", "-Via"}, {"Via: SIP/2.0/UDP 192.0.2.20"},
		{"Via: SIP/2.0/UDP 192.0.2.20;branch=390skdjuw"}, {"Via: SIP/2.0/UDP a_b.example.com;branch=z9hG4bKx"},
		{"CSeq: 0009\t INVITE"}, {"CSeq: 2147483647 INVITE"}, {"Max-Forwards: 0068"}, {"Max-Forwards: 0"}, {"-Max-Forwards"},
		{"-Content-Length"}, {"Content-Length: 000"}, {"l:0", "-Content-Length"}, {"Content-Encoding: identity"}, {"e: identity"},
		{`Contact: "x, y" <sip:case@192.0.2.20>;+sip.instance="<urn:uuid:0>";q=0.5;expires=60`}, {"m: sip:case@192.0.2.20", "-Contact"},
		{"Contact: <sip:case@192.0.2.20;ob;transport=tcp>"}, {"Contact: <sip:case@192.0.2.20?x=y>"}, {"Subject:"}, {"s :"}, {"X-Anything: ;;,,;;,;"},
		{"Expires: soon"}, {"Date: Sat, 13 Nov 2010 23:29:00 GMT"}, {"Route: <sip:192.0.2.1;lr>"}, {"Route:"}, {"Supported: \t"}, {"Call-ID: a"},
		{`Call-ID: word%ZK-!.*_+'@word` + "`" + `~)(><:\/"][?}{`},
	} {
		t.Run(strings.Join(fields, " "), func(t *testing.T) {
			for _, text := range []string{invite(fields...), "\r\n\r\n" + invite(fields...), strings.ReplaceAll(invite(fields...), "\r\n", "\n")} {
				if got, what := verdict(t, []byte(text)); got != 0 {
					t.Errorf("%d: %s", got, what)
				}
			}
		})
	}
}

// TestFlaws: what breaks the rules is refused by the status that says so.
func TestFlaws(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for _, test := range []struct {
		code   int
		fields []string
	}{
		{505, []string{"start:INVITE sip:101@192.0.2.1 SIP/7.0"}}, {505, []string{"start:INVITE sip:101@192.0.2.1 SIP/7.0", "Via: SIP/7.0/UDP 192.0.2.20;branch=z9hG4bKx"}},
		{505, []string{"start:INVITE sip:101@192.0.2.1 SIP/1.0"}}, {505, []string{"start:INVITE sip:101@192.0.2.1 SIP/2.1"}}, {505, []string{"start:INVITE sip:101@192.0.2.1 SIP/3.0", "-From", "-To"}},
		{400, []string{"start:INVITE sip:101@192.0.2.1 SIP/two"}}, {400, []string{"start:INVITE sip:101@192.0.2.1 SIP/"}}, {400, []string{"start:INV(TE sip:101@192.0.2.1 SIP/2.0"}},
		{416, []string{"start:INVITE tel:101 SIP/2.0"}}, {416, []string{"start:INVITE http://192.0.2.1 SIP/2.0"}}, {416, []string{"start:INVITE mailto:a@b SIP/2.0"}},
		{400, []string{"start:INVITE 101@192.0.2.1 SIP/2.0"}}, {400, []string{"start:INVITE <sip:101@192.0.2.1> SIP/2.0"}}, {400, []string{"start:INVITE * SIP/2.0"}},
		{400, []string{"start:INVITE sip:101@ SIP/2.0"}}, {400, []string{"start:INVITE sip:@192.0.2.1 SIP/2.0"}}, {400, []string{"start:INVITE sip:1%zz@192.0.2.1 SIP/2.0"}}, {400, []string{"start:INVITE sip:1%3@192.0.2.1 SIP/2.0"}},
		{400, []string{"start:INVITE sip:101@192.0.2.1:0 SIP/2.0"}}, {400, []string{"start:INVITE sip:101@192.0.2.1:65536 SIP/2.0"}}, {400, []string{"start:INVITE sip:101@[2001:db8::zz] SIP/2.0"}}, {400, []string{"start:INVITE sip:101@[2001:db8::1 SIP/2.0"}},
		{400, []string{"start:INVITE sip:101@192.0.2.1?Subject=x SIP/2.0"}}, {400, []string{"start:INVITE  sip:101@192.0.2.1 SIP/2.0"}}, {400, []string{"start:INVITE sip:101@192.0.2.1  SIP/2.0"}}, {400, []string{"start:INVITE sip:101@192.0.2.1 SIP/2.0 "}},
		{400, []string{"no colon here"}}, {400, []string{"in valid: x"}}, {400, []string{"X: \x00"}}, {400, []string{"X: a\rb"}}, {400, []string{"X: a\x7f"}},
		{400, []string{"-From"}}, {400, []string{"-To"}}, {400, []string{"-Call-ID"}}, {400, []string{"-CSeq"}}, {dropped, []string{"-Via"}}, {dropped, []string{"Via:"}},
		{400, []string{"From: <sip:a@192.0.2.20>;tag=1\r\nF: <sip:b@192.0.2.20>;tag=2"}}, {400, []string{"Call-ID: a\r\ni: b"}}, {400, []string{"CSeq: 1 INVITE\r\nCSeq: 2 INVITE"}},
		{400, []string{"Max-Forwards: 70\r\nMax-Forwards: 70"}}, {400, []string{"Content-Length: 0\r\nl: 0"}}, {400, []string{"Content-Type: a/b\r\nc: a/b"}},
		{400, []string{"Via: SIP/2.0/UDP 192.0.2.15;;,;,,"}}, {400, []string{"Via: SIP/2.0/UDP"}}, {400, []string{"Via: SIP/2.0 192.0.2.20"}}, {400, []string{"Via: HTTP/2.0/UDP 192.0.2.20;branch=z9hG4bKx"}}, {400, []string{"Via: SIP/3.0/UDP 192.0.2.20;branch=z9hG4bKx"}},
		{400, []string{"Via: SIP/2.0/UDP 192.0.2.20:x;branch=z9hG4bKx"}}, {400, []string{"Via: SIP/2.0/UDP 192.0.2.20;branch=z9hG4bK"}}, {400, []string{"Via: SIP/2.0/UDP 192.0.2.20;branch=z9hG4bKx,"}},
		{400, []string{`From: "open <sip:a@192.0.2.20>;tag=1`}}, {400, []string{"From: <sip:a@192.0.2.20;tag=1"}}, {400, []string{"From: sip:a@192.0.2.20>;tag=1"}}, {400, []string{"From: Bell, A <sip:a@192.0.2.20>;tag=1"}},
		{400, []string{"From: < sip:a@192.0.2.20 >;tag=1"}}, {400, []string{"From: <http://x>;tag=1"}}, {400, []string{"From: <sip:a@192.0.2.20>;tag="}}, {400, []string{"From: <sip:a@192.0.2.20>;tag=" + long}}, {400, []string{"From: <sip:a@192.0.2.20>tag=1"}},
		{400, []string{"From: sip:a@192.0.2.20?x=y;tag=1"}}, {400, []string{`From: "a" "b" <sip:a@192.0.2.20>;tag=1`}}, {400, []string{"To: nobody"}}, {400, []string{"To: <sip:101@192.0.2.1>;tag=a b"}},
		{400, []string{"Call-ID: a b"}}, {400, []string{"Call-ID: " + long}}, {400, []string{"Call-ID:"}},
		{400, []string{"CSeq: 1 ACK"}}, {400, []string{"CSeq: 1 invite"}}, {400, []string{"CSeq: 2147483648 INVITE"}}, {400, []string{"CSeq: -1 INVITE"}}, {400, []string{"CSeq: 1"}}, {400, []string{"CSeq: INVITE"}}, {400, []string{"CSeq: 1INVITE"}},
		{400, []string{"Content-Length: 1"}}, {400, []string{"Content-Length: -1"}}, {400, []string{"Content-Length: 4294967296"}}, {400, []string{"Content-Length: x"}}, {400, []string{"Content-Length:"}},
		{400, []string{"Max-Forwards: 256"}}, {400, []string{"Max-Forwards: -1"}}, {400, []string{"Max-Forwards: many"}}, {400, []string{"Date: Fri, 01 Jan 2010 16:00:00 EST"}},
		{400, []string{"Contact: nowhere"}}, {400, []string{"Contact: <sip:>"}}, {400, []string{"Route: <sip:192.0.2.1;lr"}}, {400, []string{"Record-Route: x"}}, {400, []string{`Contact: "Joe" <sip:joe@example.org>;;;;`}},
	} {
		t.Run(fmt.Sprint(test.code, strings.Join(test.fields, " ")), func(t *testing.T) {
			if got, what := verdict(t, []byte(invite(test.fields...))); got != test.code {
				t.Errorf("%d (%s), want %d", got, what, test.code)
			}
		})
	}
}

// TestSense: the plain form says what the odd one did.
func TestSense(t *testing.T) {
	m, err := sipcheck.Read([]byte(invite(
		"start:INVITE SIP:%3101@192.0.2.1;Transport=TCP SIP/2.0", `From: "a <b@c>" <sip:case@192.0.2.20>;TAG=f`, "Record-Route: <sip:192.0.2.30:5070;LR>, <sip:192.0.2.31>",
		"Via: SIP / 2.0 / UDP 192.0.2.20:5060 ;Branch = z9hG4bKx, SIP/2.0/TCP h.example.com:5070;branch=z9hG4bKy", `m: "x" <sip:case@192.0.2.21;LR>;+sip.instance="<urn:uuid:0>"`, "-Contact",
		"CSeq: 0009 \t INVITE", "Content-Length: 2") + "abcdef"))
	if err != nil || m.Check() != (sipcheck.Flaw{}) {
		t.Fatal(err, m.Check())
	}
	parsed, err := gosip.ParseMessage(m.Tidy())
	if err != nil {
		t.Fatal(err)
	}
	req := parsed.(*gosip.Request)
	tag, _ := req.From().Params.Get("tag")
	branch, _ := req.Via().Params.Get("branch")
	route, _ := req.GetHeaders("Record-Route")[0].(*gosip.RecordRouteHeader)
	for what, pair := range map[string][2]any{
		"user": {req.Recipient.User, "%3101"}, "name": {req.From().DisplayName, "a <b@c>"}, "tag": {tag, "f"}, "branch": {branch, "z9hG4bKx"},
		"vias": {len(req.GetHeaders("Via")), 2}, "routes": {len(req.GetHeaders("Record-Route")), 2}, "lr": {route.Address.UriParams.Has("lr"), true},
		"contact": {req.Contact().Address.Host, "192.0.2.21"}, "seq": {req.CSeq().SeqNo, uint32(9)}, "body": {string(req.Body()), "ab"}, "transport": {req.Recipient.UriParams.Has("transport"), true},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %v, want %v\n%s", what, pair[0], pair[1], m.Tidy())
		}
	}
	if m.Tag("From") != "f" || m.Tag("To") != "" {
		t.Errorf("tags %q and %q", m.Tag("From"), m.Tag("To"))
	}
}

// TestOldBranch: a request without a branch, its retransmission, its CANCEL and
// its ACK get the same one; another call gets another.
func TestOldBranch(t *testing.T) {
	branch := func(fields ...string) string {
		m, err := sipcheck.Read([]byte(invite(append([]string{"Via: SIP/2.0/UDP 192.0.2.20"}, fields...)...)))
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := gosip.ParseMessage(m.Tidy())
		if err != nil {
			t.Fatal(err)
		}
		b, _ := parsed.Via().Params.Get("branch")
		return b
	}
	first := branch()
	for _, same := range [][]string{{}, {"start:CANCEL sip:101@192.0.2.1 SIP/2.0", "CSeq: 1 CANCEL"}, {"start:ACK sip:101@192.0.2.1 SIP/2.0", "CSeq: 1 ACK", "To: <sip:101@192.0.2.1>;tag=2"}} {
		if got := branch(same...); got != first {
			t.Errorf("%v: %q, want %q", same, got, first)
		}
	}
	for _, other := range []string{"Call-ID: y", "CSeq: 2 INVITE", "From: <sip:case@192.0.2.20>;tag=9"} {
		if branch(other) == first {
			t.Errorf("%s: the same branch", other)
		}
	}
}

// TestAnswerRepeats: whoever repeats a request gets the same answer, at the place
// that RFC 3261 and 3581 name, and says where it was seen.
func TestAnswerRepeats(t *testing.T) {
	for _, test := range []struct{ via, answered, way string }{
		{"SIP/2.0/UDP 192.0.2.200:5080;branch=z9hG4bKx", "SIP/2.0/UDP 192.0.2.200:5080;branch=z9hG4bKx", "192.0.2.200:5080"},
		{"SIP/2.0/UDP 192.0.2.200;branch=z9hG4bKx", "SIP/2.0/UDP 192.0.2.200;branch=z9hG4bKx", "192.0.2.200:5060"},
		{"SIP/2.0/UDP 10.0.0.1:5080;branch=z9hG4bKx", "SIP/2.0/UDP 10.0.0.1:5080;branch=z9hG4bKx;received=192.0.2.200", "192.0.2.200:5080"},
		{"SIP/2.0/UDP 10.0.0.1:5080;rport;branch=z9hG4bKx", "SIP/2.0/UDP 10.0.0.1:5080;rport=5070;branch=z9hG4bKx;received=192.0.2.200", "192.0.2.200:5070"},
		{"SIP/2.0/UDP h.example.com;rport;received=1.2.3.4;branch=z9hG4bKx", "SIP/2.0/UDP h.example.com;rport=5070;branch=z9hG4bKx;received=192.0.2.200", "192.0.2.200:5070"},
		{"SIP/2.0/UDP 10.0.0.1;maddr=203.0.113.9;branch=z9hG4bKx", "SIP/2.0/UDP 10.0.0.1;maddr=203.0.113.9;branch=z9hG4bKx;received=192.0.2.200", "192.0.2.200:5060"},
	} {
		m, err := sipcheck.Read([]byte(invite("Via: " + test.via)))
		if err != nil {
			t.Fatal(err)
		}
		a := string(m.Answer(source, 486, "Busy Here"))
		if !strings.Contains(a, "\r\nVia: "+test.answered+"\r\n") || a != string(m.Answer(source, 486, "Busy Here")) {
			t.Errorf("%s: \n%s", test.via, a)
		}
		if got := m.Way(source).String(); got != test.way {
			t.Errorf("%s: to %s, want %s", test.via, got, test.way)
		}
	}
}

// TestStream: messages are told from each other in a stream, in whatever pieces
// it comes.
func TestStream(t *testing.T) {
	one, two := invite("Content-Length: 3")+"abc", invite("l:0", "-Content-Length")
	stream := "\r\n\r\n" + one + "\r\n" + two
	for size := 1; size < 40; size++ {
		var buffer []byte
		var got []string
		for rest := stream; rest != ""; {
			n := min(size, len(rest))
			buffer, rest = append(buffer, rest[:n]...), rest[n:]
			for {
				n, err := sipcheck.Next(buffer)
				if err != nil {
					t.Fatal(err)
				}
				if n == 0 {
					break
				}
				got = append(got, strings.Trim(string(buffer[:n]), "\r\n"))
				buffer = buffer[n:]
			}
		}
		if len(got) != 2 || got[0] != one || got[1] != strings.Trim(two, "\r\n") {
			t.Fatalf("in pieces of %d: %q", size, got)
		}
	}
	for text, want := range map[string]error{
		invite("-Content-Length"): sipcheck.ErrNoEnd, invite("Content-Length: -1"): sipcheck.ErrNoEnd, invite("Content-Length: 0\r\nl: 5"): sipcheck.ErrNoEnd,
		invite("Content-Length: 99999999999"): sipcheck.ErrNoEnd, invite("Content-Length: 70000"): sipcheck.ErrTooLong, "X: " + strings.Repeat("x", 70000): sipcheck.ErrTooLong,
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n": sipcheck.ErrNoMessage,
	} {
		if _, err := sipcheck.Next([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%.40q: %v, want %v", text, err, want)
		}
	}
}

// FuzzRead: whatever comes, what is taken is read by a parser as what it is and is
// in plain form already when it is read again; what is refused is answered.
func FuzzRead(f *testing.F) {
	for _, b := range torture.Messages(f) {
		f.Add(b)
	}
	f.Add([]byte(invite()))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := sipcheck.Next(b)
		if n < 0 || n > len(b) || n > 0 && err != nil && !errors.Is(err, sipcheck.ErrNoEnd) {
			t.Fatalf("%d of %d bytes, %v", n, len(b), err)
		}
		if code, _ := verdict(t, b); code != 0 {
			return
		}
		m, err := sipcheck.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		tidy := m.Tidy()
		again, err := sipcheck.Read(tidy)
		if err != nil || again.Check() != (sipcheck.Flaw{}) {
			t.Fatalf("the plain form has a flaw: %v, %v\n%s", err, again.Check(), tidy)
		}
		if second := again.Tidy(); string(second) != string(tidy) {
			t.Fatalf("the plain form is not plain:\n%s\n%s", tidy, second)
		}
		if again.Method != m.Method || again.Tag("From") != m.Tag("From") || again.Tag("To") != m.Tag("To") || again.Get("Call-ID") != m.Get("Call-ID") {
			t.Fatalf("another message:\n%s", tidy)
		}
		if utf8.Valid(b) && !utf8.Valid(tidy) {
			t.Fatal("a letter was cut")
		}
	})
}
