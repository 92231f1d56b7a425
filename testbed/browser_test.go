package testbed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"flexphone/testbed/access"
	"flexphone/testbed/webdriver"
)

// page is a browser that has opened a link for 101.
func page(ctx context.Context, t *testing.T, bed *Bed, args ...string) *Browser {
	t.Helper()
	w, err := bed.AddBrowser(ctx, speak(t, words[1]))
	if errors.Is(err, ErrNoBrowser) {
		t.Skip(err)
	}
	must(t, err)
	link, err := bed.Server.Link(ctx, "Ada", append([]string{"--number=101"}, args...)...)
	must(t, err)
	must(t, w.Load(ctx, link))
	must(t, w.PlainVoice(ctx))
	return w
}

// callByPage calls p from the page of who has Ada's link, and has it answered.
func callByPage(ctx context.Context, t *testing.T, w *Browser, p *Phone) (took time.Duration) {
	t.Helper()
	return callByPageOf(ctx, t, "Ada", w, p)
}

// callByPageOf calls p from the page of somebody, whose name it shows, and has it answered.
func callByPageOf(ctx context.Context, t *testing.T, name string, w *Browser, p *Phone) (took time.Duration) {
	t.Helper()
	p.Mark()
	clicked := time.Now()
	for must(t, w.Click(ctx, "#dial")); ; must(t, w.Click(ctx, "#dial")) {
		state, err := w.AwaitAny(ctx, "#state", "Ringing", "No call")
		must(t, err)
		if state == "Ringing" {
			break
		}
		if text, err := w.Text(ctx, "#trouble"); err != nil || !strings.Contains(text, "Too many tries") {
			t.Fatalf("the page says %q, %v", text, err) // else it calls more often than people do, and tries again
		}
		clicked = time.Now()
	}
	rang := await(ctx, t, p, "ringing", "from", "from a browser: "+name)
	s, err := p.Status(ctx)
	must(t, err)
	if strings.Join(s.Display, "|") != "from a browser:|"+name {
		t.Errorf("the display shows %q", s.Display)
	}
	must(t, p.OffHook(ctx))
	await(ctx, t, p, "established", "security", "private")
	must(t, w.Await(ctx, "#state", "Connected"))
	return rang.Time.Sub(clicked)
}

func heardBoth(ctx context.Context, t *testing.T, w *Browser, p *Phone) {
	t.Helper()
	heard, err := p.HearBrowser(ctx, w)
	must(t, err)
	judge(t, p.Name, heard)
	heard, err = w.Hear(ctx, p.spoken)
	must(t, err)
	judge(t, "the page", heard)
}

// A page calls a real phone: it rings, says who calls, and both hear each other; either
// hangs up; and so after each of fifty moves of the phone, and on when it moves in the
// call.
func TestBrowserCalls(t *testing.T) {
	if board() != hostBoard {
		t.Skip("one real browser takes what the machine has")
	}
	ctx, bed, phones := town(t, Config{Pages: true}, 1)
	p := phones[0]
	w := page(ctx, t, bed)
	t.Logf("from the click to ringing: %v", callByPage(ctx, t, w, p))
	heardBoth(ctx, t, w, p)
	for _, key := range []string{"5", "*", "0", "#"} {
		must(t, w.Click(ctx, fmt.Sprintf(`#keys [data-key="%s"]`, key)))
	}
	for _, key := range []string{"5", "*", "0", "#"} { // in order, and each once
		if e := await(ctx, t, p, "digit"); e.Field("key") != key {
			t.Errorf("the phone is told of the key %q; want %q", e.Field("key"), key)
		}
	}

	must(t, bed.ISP.ChangePool(ctx, East, West))
	moveInCall(ctx, t, bed, p, West.Address(60))
	heardBoth(ctx, t, w, p)
	must(t, w.Click(ctx, "#hangup"))
	await(ctx, t, p, "ended", "reason", "hangup")
	must(t, w.Await(ctx, "#state", "Call ended"))
	must(t, p.OnHook(ctx))

	must(t, w.TimeCalls(ctx))
	var took, floor []time.Duration
	for i := range 50 {
		pool := East
		if i%2 == 1 {
			pool = West
		}
		move(ctx, t, bed, p, pool.Address(70+i))
		callByPage(ctx, t, w, p)
		must(t, p.Understands(ctx, 10))
		must(t, w.Hears(ctx))
		must(t, p.OnHook(ctx))
		must(t, w.Await(ctx, "#state", "Call ended"))
		call, alone, err := w.Took(ctx)
		must(t, err)
		took, floor = append(took, call), append(floor, alone)
	}
	slices.Sort(took)
	slices.Sort(floor)
	t.Logf("from the click until page and phone speak directly: %v in the middle of 50, %v at best; the page with itself, beside each: %v, %v", took[25], took[0], floor[25], floor[0])
	callByPage(ctx, t, w, p)
	heardBoth(ctx, t, w, p)
}

// forgeries are what somebody between may change: a fingerprint in the phone's answer, or in
// the page's offer.
var forgeries = map[string]string{"answer": "answer.answer = other(answer.answer)", "offer": "offer.offer = other(offer.offer)"}

// amid is a script that has that change made between a page and its server.
func amid(change string) string {
	return `
const real = window.fetch;
const other = text => text?.replace(/a=fingerprint:sha-256 ../, m => m.slice(0, -2) + (m.endsWith("00") ? "11" : "00"));
window.fetch = async (to, how) => {
  const offer = JSON.parse(how.body);
  let answer = {};
  ` + change + `;
  answer = await (await real(to, { ...how, body: JSON.stringify(offer) })).json();
  ` + change + `;
  return new Response(JSON.stringify(answer));
};`
}

// Who may not call, or is not believed, reads why; a phone that is busy says so, and the
// page hangs up while it rings.
func TestBrowserBarriers(t *testing.T) {
	if board() != hostBoard {
		t.Skip("one real browser takes what the machine has")
	}
	ctx, bed, phones := town(t, Config{Pages: true}, 1)
	p := phones[0]
	w := page(ctx, t, bed, "--times=4")

	// Somebody between changes the fingerprint that the phone has sent, or the page's.
	var url string
	must(t, w.Run(ctx, "return location.href", &url))
	for what, change := range forgeries {
		must(t, w.Run(ctx, amid(change), nil))
		mark := len(p.Events())
		must(t, w.Click(ctx, "#dial"))
		must(t, w.Await(ctx, "#state", "No call"))
		if text, err := w.Text(ctx, "#trouble"); err != nil || !strings.Contains(text, "not from this phone") {
			t.Errorf("another fingerprint in the %s: %q, %v", what, text, err)
		}
		silent(t, p, mark)
		must(t, w.Load(ctx, url))
	}
	// The browser, or its user, gives no microphone: the page says what to do, and the phone
	// hears nothing of it.
	mark := len(p.Events())
	for why, says := range map[string]string{"NotAllowedError": "Allow it beside the address", "NotFoundError": "Plug one in", "NotReadableError": "Close other programs"} {
		must(t, w.Run(ctx, `navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("", arguments[0]); };`, nil, why))
		must(t, w.Click(ctx, "#dial"))
		must(t, w.Await(ctx, "#state", "No call"))
		if text, err := w.Text(ctx, "#trouble"); err != nil || !strings.Contains(text, says) {
			t.Errorf("%s: the page says %q, %v; want %q", why, text, err, says)
		}
	}
	silent(t, p, mark)
	must(t, w.Load(ctx, url))

	must(t, w.Click(ctx, "#dial"))
	await(ctx, t, p, "ringing")
	must(t, w.Click(ctx, "#hangup"))
	await(ctx, t, p, "ended", "reason", "cancelled")

	must(t, p.OffHook(ctx)) // a phone whose user is about to dial
	must(t, w.Await(ctx, "#state", "Call ended"))
	must(t, w.Click(ctx, "#dial"))
	must(t, w.Await(ctx, "#state", "The phone is busy"))
	must(t, p.OnHook(ctx))

	must(t, w.Click(ctx, "#dial"))
	must(t, w.Await(ctx, "#state", "No call"))
	if text, err := w.Text(ctx, "#trouble"); err != nil || !strings.Contains(text, "used up") {
		t.Errorf("a fifth call: %q, %v", text, err)
	}
	over, err := bed.Server.Link(ctx, "Ada", "--number=101", "--valid=1s")
	must(t, err)
	other, err := bed.Server.Link(ctx, "Ada", "--number=102")
	must(t, err)
	for want, link := range map[string]string{
		"This link is used up":           url,
		"This link is not good":          url + "x",
		"This link is for other numbers": strings.Replace(other, "/102?", "/101?", 1),
		"Nobody has this number":         other,
		"Who calls?":                     Site() + "/call/101",
		"This link is over":              over,
	} {
		for end := time.Now().Add(patience); ; { // that one is over in a second
			must(t, w.Load(ctx, link))
			text, err := w.Text(ctx, "h1")
			must(t, err)
			if text == want {
				break
			}
			if link != over || time.Now().After(end) {
				t.Errorf("%s shows %q; want %q", link, text, want)
				break
			}
		}
	}

	// A page of another site has a link that is good, and may not use it.
	good, err := bed.Server.Link(ctx, "Ada", "--number=101")
	must(t, err)
	must(t, w.Load(ctx, "data:text/html,<title>another site</title>"))
	var answer string
	must(t, w.RunAsync(ctx, `
const [url, done] = arguments;
fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" }).then(r => done("status " + r.status), () => done("refused"));`, &answer, good))
	if answer != "refused" {
		t.Errorf("a page of another site gets %q", answer)
	}
}

// A page remembers the key of whom it has called by a number. When that has another one
// it says so, in each visit and call, until its user says that the phone is new, or the
// old key is back.
func TestBrowserSeesANewKey(t *testing.T) {
	if board() != hostBoard {
		t.Skip("one real browser takes what the machine has")
	}
	ctx, bed, phones := town(t, Config{Pages: true}, 2)
	old, next := phones[0], phones[1]
	w := page(ctx, t, bed)
	var url string
	must(t, w.Run(ctx, "return location.href", &url))
	shows := func(when string, want bool) {
		t.Helper()
		var is bool
		must(t, w.Run(ctx, `return document.getElementById("new-key").checkVisibility()`, &is))
		if is != want {
			t.Errorf("%s: it says that the key is new: %v; want %v", when, is, want)
		}
	}
	call := func(p *Phone) {
		t.Helper()
		callByPage(ctx, t, w, p)
		must(t, w.Click(ctx, "#hangup"))
		await(ctx, t, p, "ended", "reason", "hangup")
		must(t, w.Await(ctx, "#state", "Call ended"))
		must(t, p.OnHook(ctx))
	}
	// give gives the number 101 of one phone to the other.
	spare := 103
	give := func(to, from *Phone) {
		t.Helper()
		must(t, bed.Server.SetNumber(ctx, from.MAC, fmt.Sprint(spare)))
		spare++
		must(t, bed.Server.FreeNumber(ctx, "101"))
		must(t, bed.Server.SetNumber(ctx, to.MAC, "101"))
		must(t, w.Load(ctx, url))
		must(t, w.PlainVoice(ctx))
	}
	shows("before the first call", false)
	call(old)
	must(t, w.Load(ctx, url))
	shows("the same phone", false)
	give(next, old)
	shows("another phone", true)
	call(next)
	shows("after a call", true)
	must(t, w.Load(ctx, url))
	shows("another visit", true)
	give(old, next)
	shows("the old phone again", false)
	give(next, old)
	shows("the other phone again", true)
	must(t, w.Click(ctx, "#accept"))
	shows("accepted", false)
	must(t, w.Load(ctx, url))
	shows("accepted before", false)
}

// The page can be used in each of its states, on a wide screen and on one of 320 px, light
// and dark (package access says by which rules), and by the keyboard alone, which calls
// and hangs up.
func TestBrowserPage(t *testing.T) {
	if board() != hostBoard {
		t.Skip("one real browser takes what the machine has")
	}
	ctx, bed, phones := town(t, Config{Pages: true}, 1)
	p := phones[0]
	w := page(ctx, t, bed)
	check := func(state string) {
		t.Helper()
		for _, width := range []int{1100, 320} {
			for _, scheme := range []string{"light", "dark"} {
				must(t, w.Screen(ctx, width, 640, width == 320, scheme))
				r, err := access.Check(ctx, w.Browser)
				must(t, err)
				for _, what := range r.Wrong {
					t.Errorf("%s, %d px, %s: %s", state, width, scheme, what)
				}
				if r.Texts < 4 || r.Named < 2 {
					t.Errorf("%s: of the page %d texts and %d controls were looked at", state, r.Texts, r.Named)
				}
			}
		}
	}
	walk := func(state string) {
		t.Helper()
		wrong, steps, err := access.Walk(ctx, w.Browser)
		must(t, err)
		for _, what := range wrong {
			t.Errorf("%s: %s", state, what)
		}
		t.Logf("%s: %d controls by the keyboard", state, steps)
	}
	check("ready")
	walk("ready")
	must(t, w.Run(ctx, "document.activeElement.blur()", nil))
	press := func(key string) { t.Helper(); must(t, w.Press(ctx, key)) }
	for focus := ""; focus != "dial"; {
		press(webdriver.Tab)
		must(t, w.Run(ctx, "return document.activeElement.id", &focus))
	}
	p.Mark()
	press(webdriver.Enter)
	await(ctx, t, p, "ringing")
	must(t, w.Await(ctx, "#state", "Ringing"))
	check("ringing")
	must(t, p.OffHook(ctx))
	must(t, w.Await(ctx, "#state", "Connected"))
	check("connected")
	press("7") // a digit, wherever the focus is
	await(ctx, t, p, "digit", "key", "7")
	press(webdriver.Enter)
	await(ctx, t, p, "ended", "reason", "hangup")
	must(t, w.Await(ctx, "#state", "Call ended"))
	must(t, p.OnHook(ctx))
	check("ended")

	callByPage(ctx, t, w, p)
	walk("connected")
	_, err := p.Ctl(ctx, "hold")
	must(t, err)
	must(t, w.Await(ctx, "#state", "On hold"))
	check("on hold")
	must(t, p.OnHook(ctx))
	must(t, w.Await(ctx, "#state", "Call ended"))
	must(t, p.PowerOff()) // nobody answers
	must(t, w.Run(ctx, `localStorage.setItem("key of 101", "0".repeat(64)); location.reload();`, nil))
	must(t, w.Await(ctx, "#state", "Ready to call"))
	must(t, w.Click(ctx, "#dial"))
	must(t, w.Await(ctx, "#state", "No call"))
	check("no call, and a new key")
	walk("no call, and a new key")
	must(t, w.Load(ctx, Site()+"/call/101"))
	check("not let")
	walk("not let")
}
