package testbed

import (
	"errors"
	"strings"
	"testing"

	"flexphone/testbed/webdriver"
)

// An operator who opens the page that calls a phone is asked to log in first; then finds the
// phone among all, calls it from its page, and both hear each other. Who has logged out calls
// nobody any more.
func TestOperatorCallsFromABrowser(t *testing.T) {
	if board() != hostBoard {
		t.Skip("one real browser takes what the machine has")
	}
	ctx, bed, phones := town(t, Config{Pages: true}, 1)
	p := phones[0]
	w, err := bed.AddBrowser(ctx, speak(t, words[1]))
	if errors.Is(err, ErrNoBrowser) {
		t.Skip(err)
	}
	must(t, err)
	password, err := bed.Server.Password(ctx)
	must(t, err)
	enter := func(text string) {
		t.Helper()
		id, err := w.Find(ctx, webdriver.CSS, "#password")
		must(t, err)
		must(t, w.Fill(ctx, id, text))
		must(t, w.Click(ctx, "main form button"))
	}

	must(t, w.Load(ctx, Site()+"/call/101"))
	must(t, w.Await(ctx, "h1", "Who calls?"))
	must(t, w.Click(ctx, `main a[href="/login"]`))
	enter("not " + password)
	must(t, w.Await(ctx, "[role=alert]", "That is not the password."))
	enter(password)
	must(t, w.Await(ctx, "h1", "Phones"))
	must(t, w.Click(ctx, `main a[href$="`+strings.ReplaceAll(p.MAC.String(), ":", "")+`"]`))
	must(t, w.Await(ctx, "h1", "101"))
	must(t, w.Click(ctx, `main a[href="/call/101"]`))
	must(t, w.PlainVoice(ctx))
	t.Logf("from the click to ringing: %v", callByPageOf(ctx, t, "operator", w, p))
	heardBoth(ctx, t, w, p)
	must(t, w.Click(ctx, "#hangup"))
	await(ctx, t, p, "ended", "reason", "hangup")
	must(t, w.Await(ctx, "#state", "Call ended"))
	must(t, p.OnHook(ctx))

	must(t, w.Load(ctx, Site()+"/phones"))
	must(t, w.Click(ctx, `form[action="/logout"] button`))
	must(t, w.Load(ctx, Site()+"/call/101"))
	must(t, w.Await(ctx, "h1", "Who calls?"))
}
