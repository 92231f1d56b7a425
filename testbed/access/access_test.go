package access

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"flexphone/testbed/webdriver"
)

// A page that is as it should be, and what makes it break a rule.
const good = `<!doctype html><html lang="en"><head><title>A page</title><meta name="viewport" content="width=device-width">
<style>a:focus-visible, button:focus-visible, input:focus-visible { outline: 3px solid #00f } button { min-height: 30px }</style></head>
<body><header><a href="#main">Skip</a></header><main id="main"><h1>A page</h1><h2>Below</h2><p>Text, and <a href="/x">a link</a> in it.</p>
<label for="q">What</label><input id="q"><button>Do it</button><table><tr><th scope="col">One</th></tr><tr><td>1</td></tr></table></main></body></html>`

// Each rule finds what breaks it, and nothing in a page that is as it should be.
func TestRules(t *testing.T) {
	if _, err := webdriver.Find(); err != nil {
		t.Skip(err)
	}
	page := good
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(page))
	}))
	defer site.Close()
	dir := t.TempDir()
	driver, err := webdriver.Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(driver.Stop)
	b, err := webdriver.Open(t.Context(), driver.URL, webdriver.Options{Profile: dir + "/profile", Wait: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ rule, is, becomes string }{
		{"", "", ""},
		{"html-has-lang", ` lang="en"`, ``},
		{"document-title", `<title>A page</title>`, ``},
		{"meta-viewport", `width=device-width`, `width=device-width, user-scalable=no`},
		{"duplicate-id", `<h2>`, `<h2 id="q">`},
		{"aria-valid-attr-value", `for="q"`, `for="r"`},
		{"landmark-one-main", `<main id="main">`, `<div id="main">`},
		{"region", `</main>`, `</main><p>beside</p>`},
		{"bypass", `href="#main"`, `href="/elsewhere"`},
		{"page-has-heading-one", `<h1>A page</h1>`, `<h2>A page</h2>`},
		{"heading-order", `<h2>Below</h2>`, `<h3>Below</h3>`},
		{"name", `<button>Do it</button>`, `<button></button>`},
		{"label", `<label for="q">What</label><input id="q">`, `<input id="q" placeholder="What">`},
		{"label-content-name-mismatch", `<button>`, `<button aria-label="Other">`},
		{"scope-attr-valid", ` scope="col"`, ``},
		{"aria-allowed-role", `<h1>`, `<h1 role="presentation">`},
		{"tabindex", `<button>`, `<button tabindex="2">`},
		{"focusable", `<button>`, `<button tabindex="-1">`},
		{"target-size", `<button>Do it</button>`, `<button style="all:revert;font-size:6px;padding:0">a</button><button style="all:revert;font-size:6px;padding:0">b</button>`},
		{"color-contrast", `<h2>`, `<h2 style="color:#999;font-size:14px">`},
		{"link-in-text-block", `<a href="/x">`, `<a href="/x" style="text-decoration:none">`},
		{"reflow", `<h2>`, `<h2 style="width:200vw">`},
		{"focus-visible", `<button>`, `<button style="outline:none">`},
		{"focus-order", `<a href="/x">`, `<a href="/x" onfocus="this.blur();document.querySelector('header a').focus()">`},
	} {
		if page = strings.Replace(good, tt.is, tt.becomes, 1); page == good && tt.rule != "" {
			t.Fatalf("%s: the page has no %s", tt.rule, tt.is)
		}
		if err := b.Load(t.Context(), site.URL); err != nil {
			t.Fatal(err)
		}
		r, err := Check(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		walked, _, err := Walk(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		found := append(r.Wrong, walked...)
		if all := strings.Join(found, "\n"); tt.rule == "" && all != "" || tt.rule != "" && !strings.Contains("\n"+all, "\n"+tt.rule+":") {
			t.Errorf("%q in place of %q: found %q; want %q", tt.becomes, tt.is, found, tt.rule)
		}
		if tt.rule == "" && (r.Least < 4.5 || r.Texts < 6 || r.Named < 4) {
			t.Errorf("of the page it looked at %+v", r)
		}
	}
}
