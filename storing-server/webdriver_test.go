package main

import (
	"context"
	"encoding/base64"
	"os"
	"testing"
	"time"

	"flexphone/testbed/access"
	"flexphone/testbed/webdriver"
)

// A browser is one whose failures are the test's. What it looks for is named by XPath.
type browser struct {
	*webdriver.Browser
	t *testing.T
}

// openBrowser starts Chromium for as long as the test, in a folder of its own.
func openBrowser(t *testing.T, script bool) *browser {
	t.Helper()
	if _, err := webdriver.Find(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	driver, err := webdriver.Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(driver.Stop)
	b, err := webdriver.Open(t.Context(), driver.URL, webdriver.Options{Profile: dir + "/profile", NoScript: !script, Wait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() { // else it ends with its driver, as it is
			b.Close(context.Background())
		}
	})
	return &browser{b, t}
}

func (b *browser) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) open(url string) {
	b.t.Helper()
	b.must(b.Load(b.t.Context(), url))
}

func (b *browser) reload() {
	b.t.Helper()
	b.must(b.Reload(b.t.Context()))
}

// find waits for an element of the page, or of a page to come.
func (b *browser) find(xpath string) string {
	b.t.Helper()
	e, err := b.Find(b.t.Context(), webdriver.XPath, xpath)
	if err != nil {
		b.t.Fatalf("%v\non the page:\n%s", err, b.source())
	}
	return e
}

// count says how many such elements there are now.
func (b *browser) count(xpath string) int {
	b.t.Helper()
	n, err := b.Count(b.t.Context(), webdriver.XPath, xpath)
	b.must(err)
	return n
}

func (b *browser) click(xpath string) {
	b.t.Helper()
	b.clickElement(b.find(xpath))
}

// clickElement clicks what find has found, which must be there still.
func (b *browser) clickElement(e string) {
	b.t.Helper()
	b.must(b.Click(b.t.Context(), e))
}

func (b *browser) fill(xpath, text string) {
	b.t.Helper()
	b.must(b.Fill(b.t.Context(), b.find(xpath), text))
}

func (b *browser) text(xpath string) string {
	b.t.Helper()
	text, err := b.Text(b.t.Context(), b.find(xpath))
	b.must(err)
	return text
}

func (b *browser) source() (out string) {
	b.t.Helper()
	b.must(b.Do(b.t.Context(), "GET", "/source", nil, &out))
	return out
}

// complaints are what the browser's console has of errors.
func (b *browser) complaints() []string {
	b.t.Helper()
	all, err := b.Complaints(b.t.Context())
	b.must(err)
	return all
}

// usable checks that a page can be used, wide and narrow, light and dark, and by the
// keyboard (package access says by which rules).
func (b *browser) usable(name string) {
	b.t.Helper()
	for _, width := range []int{1100, 320} {
		for _, scheme := range []string{"light", "dark"} {
			b.must(b.Screen(b.t.Context(), width, 700, width == 320, scheme))
			r, err := access.Check(b.t.Context(), b.Browser)
			b.must(err)
			for _, what := range r.Wrong {
				b.t.Errorf("%s, %d px, %s: %s", name, width, scheme, what)
			}
			if r.Texts < 3 || r.Named < 1 {
				b.t.Errorf("%s: of the page %d texts and %d controls were looked at", name, r.Texts, r.Named)
			}
		}
		wrong, steps, err := access.Walk(b.t.Context(), b.Browser)
		b.must(err)
		for _, what := range wrong {
			b.t.Errorf("%s, %d px: %s", name, width, what)
		}
		if steps == 0 {
			b.t.Errorf("%s: the keyboard comes to nothing", name)
		}
	}
}

// picture writes what is seen to files, light and dark, if the environment
// asks for it.
func (b *browser) picture(name string, width, height int) {
	b.t.Helper()
	dir := os.Getenv("STORING_SERVER_PICTURES")
	if dir == "" {
		return
	}
	for _, scheme := range []string{"dark", "light"} {
		b.must(b.Screen(b.t.Context(), width, height, false, scheme))
		var text string
		b.must(b.Do(b.t.Context(), "GET", "/screenshot", nil, &text))
		png, err := base64.StdEncoding.DecodeString(text)
		b.must(err)
		b.must(os.WriteFile(dir+"/"+name+"-"+scheme+".png", png, 0o600))
	}
}
