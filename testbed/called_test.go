package testbed

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"flexphone/testbed/access"
	"flexphone/testbed/webdriver"
)

// calledPage is a browser that is called by a link, and its number.
func calledPage(ctx context.Context, t *testing.T, bed *Bed) (w *Browser, number string) {
	t.Helper()
	w, err := bed.AddBrowser(ctx, speak(t, words[1]))
	if errors.Is(err, ErrNoBrowser) {
		t.Skip(err)
	}
	must(t, err)
	link, err := bed.Server.Link(ctx, "Ada", "--called")
	must(t, err)
	return w, openCalled(ctx, t, w, link)
}

// openCalled loads a page that is called, and has it take calls.
func openCalled(ctx context.Context, t *testing.T, w *Browser, url string) (number string) {
	t.Helper()
	must(t, w.Load(ctx, url))
	must(t, w.PlainVoice(ctx))
	must(t, w.Run(ctx, `if (!take.hidden) take.click()`, nil)) // it has begun by itself where the microphone was given before
	for number == "" {
		must(t, ctx.Err())
		text, err := w.Text(ctx, "#number")
		must(t, err)
		number = text
	}
	must(t, w.Await(ctx, "#line", "Ready: phones call "+number))
	return number
}

// rings has p call a page by its keys, until the page rings and p's user hears that. On a
// machine that does not keep pace a page may not be reached in the time that people wait:
// there it is called again.
func rings(ctx context.Context, t *testing.T, w *Browser, p *Phone, number string) {
	t.Helper()
	var dialed, rang Event
	for again := 0; ; again++ {
		pace, err := startPace()
		must(t, err)
		if dialed, err = p.Dial(ctx, number); err != nil {
			t.Fatal(errors.Join(err, pace.end()))
		}
		calling, over := p.whileInCall(ctx)
		if err = w.Await(calling, "#state", strings.TrimPrefix(p.Name, "phone-")+" calls"); err == nil {
			rang, err = p.Await(calling, "connected")
		}
		if why := context.Cause(calling); err != nil && why != nil {
			err = why
		}
		over()
		got, problem := pace.stop()
		must(t, problem)
		if err == nil {
			break
		}
		if got.Fair() || again == againMost || !errors.Is(err, errOver) {
			t.Fatalf("%v; %v", err, got)
		}
		t.Logf("again: %v; %v", err, got)
		must(t, p.OnHook(ctx))
		await(ctx, t, p, "state", "state", "standby")
	}
	t.Logf("from dialled to ringing in the browser: %v", rang.Time.Sub(dialed.Time))
	s, err := p.Status(ctx)
	must(t, err)
	if want := []string{"browser: Ada", "ringing"}; !slices.Equal(s.Display, want) {
		t.Errorf("the display shows %q; want %q", s.Display, want)
	}
}

// ends waits until p's call has ended for a reason, and puts its handset back.
func ends(ctx context.Context, t *testing.T, p *Phone, reason string) {
	t.Helper()
	await(ctx, t, p, "ended", "reason", reason)
	s, err := p.Status(ctx)
	must(t, err)
	if want := []string{"browser: Ada", reason}; reason != "hangup" && !slices.Equal(s.Display, want) {
		t.Errorf("the display shows %q; want %q", s.Display, want)
	}
	must(t, p.OnHook(ctx))
	await(ctx, t, p, "state", "state", "standby")
}

// lookAt looks at what keeps people from using a page, on a wide screen and a narrow one.
func lookAt(ctx context.Context, t *testing.T, w *Browser) {
	t.Helper()
	for _, width := range []int{1280, 320} {
		for _, scheme := range []string{"light", "dark"} {
			must(t, w.Screen(ctx, width, 800, width < 500, scheme))
			r, err := access.Check(ctx, w.Browser)
			must(t, err)
			if r.Controls == 0 {
				t.Errorf("at %d px nothing is seen of the controls", width)
			}
			for _, what := range r.Wrong {
				t.Errorf("%d px, %s: %s", width, scheme, what)
			}
		}
	}
}

// A phone calls a page by the number that it was given: it rings, both hear each other, and
// either hangs up; a page that declines, is busy, or is closed says so at once; and when it
// is opened again it has the same number.
func TestPhoneCallsBrowser(t *testing.T) {
	if board() != hostBoard {
		t.Skip("one real browser takes what the machine has")
	}
	ctx, bed, phones := town(t, Config{Pages: true}, 2)
	p, q := phones[0], phones[1]
	w, number := calledPage(ctx, t, bed)

	rings(ctx, t, w, p, number)
	must(t, w.Click(ctx, "#answer"))
	await(ctx, t, p, "established", "security", "private")
	must(t, w.Await(ctx, "#state", "Connected with 101"))
	heardBoth(ctx, t, w, p)
	must(t, w.Click(ctx, `#keys [data-key="5"]`))

	dial(ctx, t, q, number) // while it talks
	await(ctx, t, q, "ended", "reason", "busy")
	must(t, q.OnHook(ctx))
	if state, err := w.Text(ctx, "#state"); err != nil || state != "Connected with 101" {
		t.Errorf("another phone calls meanwhile: the page says %q, %v", state, err)
	}

	must(t, bed.ISP.ChangePool(ctx, East, West))
	moveInCall(ctx, t, bed, p, West.Address(60))
	heardBoth(ctx, t, w, p)
	must(t, w.Click(ctx, "#hangup"))
	ends(ctx, t, p, "hangup")
	must(t, w.Await(ctx, "#state", "Call ended"))

	rings(ctx, t, w, p, number)
	must(t, w.Click(ctx, "#decline"))
	ends(ctx, t, p, "declined")
	must(t, w.Await(ctx, "#state", "Declined"))

	rings(ctx, t, w, p, number)
	must(t, p.OnHook(ctx))
	must(t, w.Await(ctx, "#state", "Missed call from 101"))
	await(ctx, t, p, "state", "state", "standby")

	rings(ctx, t, w, p, number)
	must(t, w.Click(ctx, "#answer"))
	await(ctx, t, p, "established")
	must(t, p.OnHook(ctx))
	must(t, w.Await(ctx, "#state", "Call ended"))
	await(ctx, t, p, "state", "state", "standby")

	// The server is started anew: the page comes back by itself, with its number.
	p.Mark()
	bed.Server.Kill9()
	must(t, bed.Server.Start(ctx))
	must(t, w.Await(ctx, "#line", "The storing server cannot be reached: trying again"))
	must(t, w.Await(ctx, "#line", "Ready: phones call "+number))
	must(t, p.OffHook(ctx)) // and the phone, at once
	await(ctx, t, p, "registered")
	must(t, p.OnHook(ctx))
	rings(ctx, t, w, p, number)
	must(t, w.Click(ctx, "#decline"))
	ends(ctx, t, p, "declined")

	var url string
	must(t, w.Run(ctx, "return location.href", &url))
	must(t, w.Load(ctx, "about:blank"))
	for state := ""; state != "offline"; {
		must(t, ctx.Err())
		all, err := bed.Server.Rows(ctx)
		must(t, err)
		for _, row := range all {
			if row.Number == number {
				state = row.State
			}
		}
	}
	dialFails(ctx, t, p, number, "not connected", "special information", "not connected")
	if again := openCalled(ctx, t, w, url); again != number {
		t.Errorf("when it is opened again its number is %s; want %s", again, number)
	}
	rings(ctx, t, w, p, number)
	must(t, w.Click(ctx, "#decline"))
	ends(ctx, t, p, "declined")
}

// Somebody between who changes what the phone or the page says gets no call: nothing rings. A link that
// is revoked is none any more, while its page is open.
func TestCalledBrowserBarriers(t *testing.T) {
	if board() != hostBoard {
		t.Skip("one real browser takes what the machine has")
	}
	ctx, bed, phones := town(t, Config{Pages: true}, 1)
	p := phones[0]
	w, number := calledPage(ctx, t, bed)
	var url string
	must(t, w.Run(ctx, "return location.href", &url))
	for what, change := range forgeries {
		must(t, w.Run(ctx, amid(change), nil))
		dial(ctx, t, p, number)
		must(t, w.Await(ctx, "#state", "Missed call from 101"))
		if text, err := w.Text(ctx, "#trouble"); err != nil || !strings.Contains(text, "not from this phone") {
			t.Errorf("another fingerprint in the %s: %q, %v", what, text, err)
		}
		must(t, p.OnHook(ctx))
		await(ctx, t, p, "state", "state", "standby")
		openCalled(ctx, t, w, url)
	}

	// Another tab of it waits, and takes over.
	var first string
	must(t, w.Do(ctx, "GET", "/window", nil, &first))
	var second struct{ Handle string }
	must(t, w.Do(ctx, "POST", "/window/new", map[string]string{"type": "tab"}, &second))
	must(t, w.Do(ctx, "POST", "/window", map[string]string{"handle": second.Handle}, nil))
	must(t, w.Load(ctx, url))
	must(t, w.Run(ctx, `if (!take.hidden) take.click()`, nil))
	must(t, w.Await(ctx, "#line", "Another tab of this browser takes the calls"))
	must(t, w.Do(ctx, "POST", "/window", map[string]string{"handle": first}, nil))
	must(t, w.Do(ctx, "DELETE", "/window", nil, nil))
	must(t, w.Do(ctx, "POST", "/window", map[string]string{"handle": second.Handle}, nil))
	must(t, w.Await(ctx, "#line", "Ready: phones call "+number))
	rings(ctx, t, w, p, number)

	// The keyboard alone: the button to answer has the focus.
	press := func(key string) { t.Helper(); must(t, w.Press(ctx, key)) }
	const escape = "\uE00C"
	press(escape)
	ends(ctx, t, p, "declined")
	rings(ctx, t, w, p, number)
	lookAt(ctx, t, w)
	must(t, w.Run(ctx, "answer.focus()", nil)) // where it was
	press(webdriver.Enter)
	must(t, w.Await(ctx, "#state", "Connected with 101"))
	lookAt(ctx, t, w)
	press(webdriver.Enter)
	ends(ctx, t, p, "hangup")
	must(t, bed.Server.RevokeLinks(ctx))
	must(t, w.Await(ctx, "#line", "Not called any more"))
	if text, err := w.Text(ctx, "#trouble"); err != nil || !strings.Contains(text, "not good") {
		t.Errorf("a link that was revoked: %q, %v", text, err)
	}
	dialFails(ctx, t, p, number, "unknown number", "special information", "unknown number")
}
