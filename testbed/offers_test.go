package testbed

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// randomCalls is how many calls each way TestRandomDescriptions makes.
const randomCalls = 500

// keptOfACall bounds what a phone may keep of a call, in kB, for the half minute
// in which its last messages may come again (RFC 3261, 17), here all the calls.
// Measured are 90 with the race detector, which multiplies memory by five to ten.
const keptOfACall = 150

// seed says with which random numbers a test works: those of the environment
// (FLEXPHONE_SEED=…), or new ones. It is logged, so that a failure can be had
// again.
func seed(t testing.TB) uint64 {
	t.Helper()
	s := rand.Uint64()
	if given := os.Getenv("FLEXPHONE_SEED"); given != "" {
		var err error
		s, err = strconv.ParseUint(given, 10, 64)
		must(t, err)
	}
	t.Logf("FLEXPHONE_SEED=%d", s)
	return s
}

// TestRandomDescriptions: strangers offer and answer whatever the grammar of
// session descriptions has. Each offer with sound that a phone can take is
// answered with what fits it, each other with 488; each of the phone's own calls
// goes on or ends with a BYE; and the phone is afterwards what it was before.
func TestRandomDescriptions(t *testing.T) {
	if board() != hostBoard {
		t.Skip("the program is the same on every board, and a virtual machine too slow for so many calls")
	}
	ctx, bed, phones := town(t, Config{}, 1)
	var strangers []*Stranger // a phone takes so many calls of one host a second, and no more
	for range 5 {
		s, err := bed.AddStranger()
		must(t, err)
		strangers = append(strangers, s)
	}
	number := seed(t)
	g := &gauntlet{t: t, ctx: ctx, p: phones[0], seed: number, d: &describer{Rand: rand.New(rand.NewPCG(number, 0))}}
	g.at = netip.AddrPortFrom(addressOf(ctx, t, g.p), 5060)
	kinds := map[string]int{}
	var early footprint
	for i := range randomCalls {
		g.by(strangers[i%len(strangers)])
		g.call = fmt.Sprintf("offer %d", i)
		kinds["offers "+g.offers()]++
		g.call = fmt.Sprintf("answer %d", i)
		kinds["answers "+g.answers()]++
		if i == randomCalls/5 {
			early = footprintOf(t, g.p)
		}
		if i%100 == 99 {
			g.lives()
		}
	}
	late := footprintOf(t, g.p)
	t.Logf("%v; after a fifth of the calls %+v, after all %+v", kinds, early, late)
	for _, kind := range []string{"offers taken", "offers refused", "answers taken", "answers refused"} {
		if kinds[kind] < randomCalls/20 {
			t.Errorf("%d %s: the descriptions are not mixed", kinds[kind], kind)
		}
	}
	if late.files > early.files+10 {
		t.Errorf("%d files are open, and %d were", late.files, early.files)
	}
	if calls := 2 * (randomCalls - randomCalls/5); late.resident > early.resident+calls*keptOfACall {
		t.Errorf("%d kB are resident, and %d were %d calls before", late.resident, early.resident, calls)
	}
	if n := goroutines(ctx, t, g.p); n > randomCalls/2 {
		t.Errorf("%d goroutines after %d calls", n, 2*randomCalls)
	} else {
		t.Logf("%d goroutines at the end", n)
	}
}

// A gauntlet is a phone and what it is to stand.
type gauntlet struct {
	t    testing.TB
	ctx  context.Context
	s    *Stranger
	p    *Phone
	at   netip.AddrPort
	d    *describer
	seed uint64
	call string // that is being made
	text string // of its description
}

// by has s make the calls that follow.
func (g *gauntlet) by(s *Stranger) {
	g.s, g.d.media, g.d.port = s, s.Media.Addr().String(), int(s.Media.Port())
}

// offers calls the phone with a made-up offer, and says what became of it.
func (g *gauntlet) offers() string {
	o := g.d.describe()
	g.text = o.text
	id := fmt.Sprintf("%s-%d", strings.ReplaceAll(g.call, " ", "-"), g.seed)
	seq := 1
	request := func(method, tag, lines, body string) {
		to := fmt.Sprintf("<sip:%s>", g.at.Addr())
		if tag != "" {
			to += ";tag=" + tag
		}
		must(g.t, g.s.Say(g.at, fmt.Sprintf("%s sip:%s@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;rport;branch=z9hG4bK%s%s%d\r\nMax-Forwards: 70\r\n"+
			"From: <sip:stranger@%s>;tag=s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\nContact: <sip:stranger@%s>\r\n%sContent-Length: %d\r\n\r\n%s",
			method, g.p.MAC.Hex(), g.at, g.s.Addr, id, method, seq, g.s.Addr.Addr(), to, id, seq, method, g.s.Addr, lines, len(body), body)))
	}
	g.p.Mark()
	request("INVITE", "", o.header+"\r\n", o.body)
	first := g.next(id, func(m Said) bool { return m.Status() > 100 })
	for first.Status() == 503 { // calls come too fast: it says when to come again
		request("ACK", first.Tag("To"), "", "")
		g.later(first.Header("Retry-After"))
		seq++
		request("INVITE", "", o.header+"\r\n", o.body)
		first = g.next(id, func(m Said) bool { return m.Status() > 100 && m.Header("CSeq") == fmt.Sprintf("%d INVITE", seq) })
	}
	if o.usable < 0 {
		request("ACK", first.Tag("To"), "", "")
		if first.Status() != 488 {
			g.fail("%d to an offer without sound that it can take", first.Status())
		}
		return "refused"
	}
	if first.Status() != 180 {
		g.fail("%d to an offer with sound in line %d", first.Status(), o.usable)
	}
	g.do("answer")
	ok := g.next(id, func(m Said) bool { return m.Status() >= 200 })
	if err := o.fits(ok.Body()); ok.Status() != 200 || err != nil {
		g.fail("%d: %v\n%s", ok.Status(), err, ok.Body())
	}
	g.sounds(ok.Body())
	request("ACK", ok.Tag("To"), "", "")
	g.established()
	seq++
	request("BYE", ok.Tag("To"), "", "")
	if m := g.next(id, func(m Said) bool { return m.Status() >= 200 && m.Method() == "BYE" }); m.Status() != 200 {
		g.fail("%d to BYE", m.Status())
	}
	g.standby()
	return "taken"
}

// later waits for as many seconds as a phone asks for.
func (g *gauntlet) later(seconds string) {
	n, err := strconv.Atoi(seconds)
	if err != nil || n < 1 || n > 10 {
		g.fail("come again after %q s", seconds)
	}
	wait := time.NewTimer(time.Duration(n) * time.Second)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-g.ctx.Done():
		g.fail("%v", g.ctx.Err())
	}
}

var anAudioLine = regexp.MustCompile(`m=audio ([1-9][0-9]*) `)

// sounds sends a few packets to where a description of the phone's says.
func (g *gauntlet) sounds(description string) {
	found := anAudioLine.FindStringSubmatch(description)
	if found == nil {
		return
	}
	port, _ := strconv.ParseUint(found[1], 10, 16)
	for i := range g.d.IntN(4) {
		packet := append([]byte{0x80, byte(g.d.IntN(256)), 0, byte(i), 0, 0, byte(i), 0, 0, 0, 0, 1}, make([]byte, g.d.IntN(200))...)
		_ = g.s.Sound(netip.AddrPortFrom(g.at.Addr(), uint16(port)), packet) // nobody need hear it
	}
}

// answers has the phone call the stranger, which answers with what it makes up:
// at once, or after a description that came early.
func (g *gauntlet) answers() string {
	g.p.Mark()
	g.do("dial", DialledAddr(g.s.Addr.Addr()))
	invite, err := g.s.Next(g.ctx, func(m Said) bool { return m.Method() == "INVITE" && m.Status() == 0 })
	if err != nil {
		g.fail("%v", err)
	}
	id := invite.Header("Call-ID")
	contact := fmt.Sprintf("Contact: <sip:stranger@%s>", g.s.Addr)
	g.sounds(invite.Body())
	say := func(status int, o madeOffer) {
		lines := []string{contact}
		if o.text != "" {
			lines = append(lines, o.header)
		}
		must(g.t, g.s.Say(invite.From, invite.Response(status, "s", o.body, lines...)))
	}
	usable := false
	var last madeOffer
	if g.d.chance(30) {
		for range 1 + g.d.IntN(2) {
			o := g.d.describe()
			g.text += o.text
			say(180+3*g.d.IntN(2), o)
			usable = usable || o.usable >= 0
		}
	}
	if !usable || g.d.chance(50) {
		last = g.d.describe()
		usable = usable || last.usable >= 0
	}
	g.text = last.text
	say(200, last)
	g.next(id, func(m Said) bool { return m.Method() == "ACK" })
	kind := "refused"
	if usable {
		g.established()
		g.sounds(invite.Body())
		g.do("hangup")
		kind = "taken"
	}
	bye := g.next(id, func(m Said) bool { return m.Status() == 0 && m.Method() != "ACK" && m.Method() != "INVITE" })
	if bye.Method() != "BYE" {
		g.fail("%s instead of BYE", bye.Method())
	}
	must(g.t, g.s.Say(bye.From, bye.Response(200, "", "")))
	reason := await(g.ctx, g.t, g.p, "ended").Field("reason")
	if want := map[bool]string{true: "hangup", false: "no common codec"}[usable]; reason != want {
		g.fail("ended for %q, want %q", reason, want)
	}
	g.standby()
	return kind
}

// established waits until the call is, which must not end before.
func (g *gauntlet) established() {
	for {
		switch e := await(g.ctx, g.t, g.p, ""); e.Name {
		case "established":
			return
		case "ended":
			g.fail("%v instead of established", e)
		}
	}
}

// next is the next message of a call.
func (g *gauntlet) next(id string, ok func(Said) bool) Said {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.ctx, time.Minute)
	defer cancel()
	m, err := g.s.Next(ctx, func(m Said) bool { return m.Header("Call-ID") == id && ok(m) })
	if err != nil {
		g.fail("%v", err)
	}
	return m
}

func (g *gauntlet) do(command string, arguments ...string) {
	g.t.Helper()
	if err := g.p.Do(g.ctx, command, arguments...); err != nil {
		g.fail("%s: %v", command, err)
	}
}

func (g *gauntlet) standby() {
	g.t.Helper()
	if _, err := g.p.Await(g.ctx, "state", "state", "standby"); err != nil {
		g.fail("%v", err)
	}
}

// lives asks the phone by SIP and by its control socket whether it is there.
func (g *gauntlet) lives() {
	g.t.Helper()
	id := fmt.Sprintf("lives-%d", g.d.Uint64())
	must(g.t, g.s.Say(g.at, fmt.Sprintf("OPTIONS sip:%s@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;rport;branch=z9hG4bK%s\r\nMax-Forwards: 70\r\n"+
		"From: <sip:stranger@%s>;tag=s\r\nTo: <sip:%s>\r\nCall-ID: %s\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
		g.p.MAC.Hex(), g.at, g.s.Addr, id, g.s.Addr.Addr(), g.at.Addr(), id)))
	if m := g.next(id, func(m Said) bool { return m.Status() >= 200 }); m.Status() != 200 {
		g.fail("%d to OPTIONS", m.Status())
	}
	if status, err := g.p.Status(g.ctx); err != nil || status.State != "standby" || !g.p.on() {
		g.fail("%+v, %v", status, err)
	}
}

func (g *gauntlet) fail(format string, a ...any) {
	g.t.Helper()
	g.t.Fatalf("%s of FLEXPHONE_SEED=%d: %s\nits description:\n%s", g.call, g.seed, fmt.Sprintf(format, a...), g.text)
}

// A footprint is what the kernel knows of a phone's program.
type footprint struct{ files, threads, resident int } // resident in kB

// grown reports whether more memory is in use than before by what is no chance.
func (f footprint) grown(before footprint) bool { return f.resident > before.resident*4/3 }

func footprintOf(t testing.TB, p *Phone) footprint {
	t.Helper()
	proc := filepath.Join("/proc", strconv.Itoa(p.proc.cmd.Process.Pid))
	files, err := os.ReadDir(filepath.Join(proc, "fd"))
	must(t, err)
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	must(t, err)
	f := footprint{files: len(files)}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		switch name {
		case "Threads":
			f.threads = n
		case "VmRSS":
			f.resident = n
		}
	}
	return f
}

// goroutines has the phone's program end as Go programs do on SIGQUIT, with a
// trace of all its goroutines, and counts them.
func goroutines(ctx context.Context, t testing.TB, p *Phone) int {
	t.Helper()
	from := p.proc.log.length()
	must(t, p.proc.cmd.Process.Signal(syscall.SIGQUIT))
	select {
	case <-p.proc.done:
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
	n := 0
	for _, line := range p.proc.log.since(from) {
		if strings.HasPrefix(line, "goroutine ") {
			n++
		}
	}
	if n == 0 {
		t.Error("the program told of no goroutine")
	}
	return n
}
