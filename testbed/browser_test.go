package testbed

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
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
	must(t, w.Open(ctx, link))
	must(t, w.PlainVoice(ctx))
	return w
}

// callByPage calls p from a page, and has it answered.
func callByPage(ctx context.Context, t *testing.T, w *Browser, p *Phone) (took time.Duration) {
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
	rang := await(ctx, t, p, "ringing", "from", "from a browser: Ada")
	s, err := p.Status(ctx)
	must(t, err)
	if strings.Join(s.Display, "|") != "from a browser:|Ada" {
		t.Errorf("the display shows %q", s.Display)
	}
	must(t, p.OffHook(ctx))
	await(ctx, t, p, "established", "security", "private")
	must(t, w.Await(ctx, "#state", "Connected"))
	return rang.Time.Sub(clicked)
}

func heardBoth(ctx context.Context, t *testing.T, w *Browser, p *Phone) {
	t.Helper()
	heard, err := p.HearSpeech(ctx, w.speech)
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
	must(t, w.Click(ctx, `#keys [data-key="5"]`))
	for left := "?"; left != ""; {
		must(t, w.Run(ctx, "return call.sender.dtmf.toneBuffer", &left))
	}

	must(t, bed.ISP.ChangePool(ctx, East, West))
	moveInCall(ctx, t, bed, p, West.Address(60))
	heardBoth(ctx, t, w, p)
	must(t, w.Click(ctx, "#hangup"))
	await(ctx, t, p, "ended", "reason", "hangup")
	must(t, w.Await(ctx, "#state", "Call ended"))
	must(t, p.OnHook(ctx))

	for i := range 50 {
		pool := East
		if i%2 == 1 {
			pool = West
		}
		move(ctx, t, bed, p, pool.Address(70+i))
		callByPage(ctx, t, w, p)
		must(t, p.OnHook(ctx))
		must(t, w.Await(ctx, "#state", "Call ended"))
	}
	callByPage(ctx, t, w, p)
	heardBoth(ctx, t, w, p)
}

// Who may not call, or is not believed, reads why; a phone that is busy says so, and the
// page hangs up while it rings.
func TestBrowserBarriers(t *testing.T) {
	if board() != hostBoard {
		t.Skip("one real browser takes what the machine has")
	}
	ctx, bed, phones := town(t, Config{Pages: true}, 1)
	p := phones[0]
	w := page(ctx, t, bed, "--times=3")

	// Somebody between changes the fingerprint that the phone has sent.
	must(t, w.Run(ctx, `
const real = window.fetch;
window.fetch = async (...args) => {
  const r = await (await real(...args)).json();
  r.answer = r.answer.replace(/a=fingerprint:sha-256 ../, m => m.slice(0, -2) + (m.endsWith("00") ? "11" : "00"));
  return new Response(JSON.stringify(r));
};`, nil))
	mark := len(p.Events())
	must(t, w.Click(ctx, "#dial"))
	must(t, w.Await(ctx, "#state", "No call"))
	if text, err := w.Text(ctx, "#trouble"); err != nil || !strings.Contains(text, "not from this phone") {
		t.Errorf("a forged answer: %q, %v", text, err)
	}
	silent(t, p, mark)

	var url string
	must(t, w.Run(ctx, "return location.href", &url))
	must(t, w.Open(ctx, url))
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
		t.Errorf("a fourth call: %q, %v", text, err)
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
			must(t, w.Open(ctx, link))
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
	must(t, w.Open(ctx, "data:text/html,<title>another site</title>"))
	var answer string
	must(t, w.do(ctx, "POST", "/execute/async", map[string]any{"args": []any{good}, "script": `
const [url, done] = arguments;
fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" }).then(r => done("status " + r.status), () => done("refused"));`}, &answer))
	if answer != "refused" {
		t.Errorf("a page of another site gets %q", answer)
	}
}

// The page fits a screen of 320 px, everything in it has a name, and the keyboard
// alone calls and hangs up.
func TestBrowserPage(t *testing.T) {
	if board() != hostBoard {
		t.Skip("one real browser takes what the machine has")
	}
	ctx, bed, phones := town(t, Config{Pages: true}, 1)
	p := phones[0]
	w := page(ctx, t, bed)
	must(t, w.do(ctx, "POST", "/goog/cdp/execute", map[string]any{"cmd": "Emulation.setDeviceMetricsOverride", "params": map[string]any{
		"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": true,
	}}, nil))
	var wrong []string
	check := func() {
		t.Helper()
		must(t, w.Run(ctx, `
const wrong = [], root = document.documentElement;
if (root.scrollWidth > 320) wrong.push("it is " + root.scrollWidth + " px wide");
if (!root.lang || !document.title || document.querySelectorAll("h1").length !== 1) wrong.push("no language, title or heading");
for (const e of document.querySelectorAll("button, a, input, section, fieldset")) {
  const of = e.getAttribute("aria-labelledby");
  const name = e.getAttribute("aria-label") ?? (of && document.getElementById(of)?.textContent) ?? e.querySelector("legend")?.textContent ?? e.textContent;
  if (!name.trim()) wrong.push("without a name: " + e.outerHTML);
}
const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
if (new Set(ids).size !== ids.length) wrong.push("one id for two things");
return wrong;`, &wrong))
		for _, what := range wrong {
			t.Error(what)
		}
	}
	check()
	press := func(key string) {
		t.Helper()
		must(t, w.do(ctx, "POST", "/actions", map[string]any{"actions": []any{map[string]any{"type": "key", "id": "keyboard", "actions": []any{
			map[string]string{"type": "keyDown", "value": key}, map[string]string{"type": "keyUp", "value": key},
		}}}}, nil))
	}
	const tab, enter = "\uE004", "\uE007"
	for focus := ""; focus != "dial"; {
		press(tab)
		must(t, w.Run(ctx, "return document.activeElement.id", &focus))
	}
	p.Mark()
	press(enter)
	await(ctx, t, p, "ringing")
	must(t, p.OffHook(ctx))
	must(t, w.Await(ctx, "#state", "Connected"))
	check()
	press("7") // a digit, wherever the focus is
	press(enter)
	await(ctx, t, p, "ended", "reason", "hangup")
	must(t, w.Await(ctx, "#state", "Call ended"))
	check()
}
