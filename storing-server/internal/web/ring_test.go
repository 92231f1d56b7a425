package web

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"flexphone/registry-client/link"
	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/ring"
	"flexphone/storing-server/internal/store"
)

// nowhere is a link.Carrier by which nothing comes.
type nowhere struct{}

func (nowhere) Post(wire.LinkMessage) {}
func (nowhere) Lost() bool            { return false }
func (nowhere) Doubt(context.Context) {}

// serveRinging is a server of browsers that phones call, with one phone.
func serveRinging(t *testing.T) (*Server, *store.Store) {
	s, rows := serve(t, 1)
	s.o.Ring = ring.New(t.Context(), func(own wire.MAC) (*link.Links, func(), bool) {
		l := link.New(own, nowhere{})
		return l, l.Close, true
	})
	return s, rows
}

// ringing is a browser that asks for what is there of /phone.
type ringing struct {
	s      *Server
	cookie *http.Cookie
	from   string // its address and port; empty: any
}

func (b *ringing) ask(ctx context.Context, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	if b.from != "" {
		r.RemoteAddr = b.from
	}
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	b.s.handler.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if c.Name == pageCookie {
			b.cookie = c
		}
	}
	return w
}

// called has the browser called for a moment, and returns what it hears of it.
func (b *ringing) called(t *testing.T, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	ctx, gone := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer gone()
	return b.ask(ctx, http.MethodGet, strings.Replace(path, "/phone", "/phone/calls", 1), "", header...)
}

// Whoever has a link for it is called; each barrier says what to do, in the page and to one
// that is open.
func TestWhoIsCalled(t *testing.T) {
	s, rows := serveRinging(t)
	made := func(l store.CallLink) string {
		t.Helper()
		token, hash := NewCallLink()
		if _, err := rows.AddCallLink(t.Context(), hash, l); err != nil {
			t.Fatal(err)
		}
		return token
	}
	good := made(store.CallLink{Name: "Ada", Receives: true})
	over := made(store.CallLink{Name: "Ada", Receives: true, Expires: time.Now().Add(-time.Second)})
	revoked := made(store.CallLink{Name: "Eve", Receives: true})
	for _, l := range rows.CallLinks() {
		if l.Name == "Eve" {
			if err := rows.RevokeCallLink(t.Context(), l.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, tt := range []struct {
		name, token string
		status      int
		says        string
	}{
		{"a link", good, http.StatusOK, "browser: Ada"},
		{"nobody", "", http.StatusUnauthorized, "log in"},
		{"another token", "guess", http.StatusForbidden, "mistyped"},
		{"an old link", over, http.StatusForbidden, "time has passed"},
		{"a link that was revoked", revoked, http.StatusForbidden, "taken back"},
		{"a link for calling", made(store.CallLink{Name: "Ada"}), http.StatusForbidden, "for something else"},
	} {
		b := &ringing{s: s, from: fmt.Sprintf("198.51.%d.1:1", 100+i)}
		w := b.ask(t.Context(), http.MethodGet, PhonePath(tt.token), "")
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.says) {
			t.Errorf("%s: %d, and not %q:\n%s", tt.name, w.Code, tt.says, w.Body.String())
		}
		if tt.status == http.StatusOK {
			continue
		}
		b.cookie = &http.Cookie{Name: pageCookie, Value: strings.Repeat("a", secretLeast)}
		if w := b.called(t, PhonePath(tt.token)); !strings.Contains(w.Body.String(), "barred") || !strings.Contains(w.Body.String(), tt.says) {
			t.Errorf("%s is called: %d, %s", tt.name, w.Code, w.Body.String())
		}
		if w := b.ask(t.Context(), http.MethodPost, "/phone/calls/x?link="+tt.token, pageOfferBody("v=0")); w.Code != tt.status {
			t.Errorf("%s answers: %d", tt.name, w.Code)
		}
	}
	if w := (&ringing{s: s}).ask(t.Context(), http.MethodGet, CallPath("101", good), ""); w.Code != http.StatusForbidden {
		t.Errorf("a call by a link for being called: %d", w.Code)
	}
}

// A browser has a number, the same one again, and as many browsers as may have one; what
// another site sends, or no page, is not answered.
func TestCalledPages(t *testing.T) {
	s, rows := serveRinging(t)
	token, hash := NewCallLink()
	if _, err := rows.AddCallLink(t.Context(), hash, store.CallLink{Name: "Ada", Receives: true}); err != nil {
		t.Fatal(err)
	}
	path := PhonePath(token)
	var all []*ringing
	for i := range 5 {
		b := &ringing{s: s}
		if w := b.called(t, path); !strings.Contains(w.Body.String(), "keeps nothing") {
			t.Errorf("without a cookie: %s", w.Body.String())
		}
		b.ask(t.Context(), http.MethodGet, path, "")
		want := fmt.Sprintf(`{"number":"%d"}`, 102+i)
		if i == 4 {
			want = "Too many browsers"
		}
		for range 2 {
			if w := b.called(t, path); !strings.Contains(w.Body.String(), want) {
				t.Errorf("browser %d hears %s; want %s", i+1, w.Body.String(), want)
			}
		}
		all = append(all, b)
	}
	if row, ok := rows.Resolve(wire.Query{Number: "102"}); !ok || row.State != wire.Offline || row.Name != "Ada" {
		t.Errorf("when its page is closed its row is %+v, %v", row, ok)
	}
	b := all[0]
	for _, tt := range []struct {
		name   string
		status int
		path   string
		body   string
		header []string
	}{
		{"a call that there is not", http.StatusGone, "x", pageOfferBody("v=0"), nil},
		{"no offer", http.StatusBadRequest, "x", "{}", nil},
		{"no reason", http.StatusBadRequest, "x/refusal", `{"reason":"<b>"}`, nil},
		{"a refusal of a call that there is not", http.StatusGone, "x/refusal", `{"reason":"busy"}`, nil},
		{"another site", http.StatusForbidden, "x", pageOfferBody("v=0"), []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}},
		{"a form", http.StatusUnsupportedMediaType, "x", pageOfferBody("v=0"), []string{"Content-Type", "text/plain"}},
	} {
		if w := b.ask(t.Context(), http.MethodPost, "/phone/calls/"+tt.path+"?link="+token, tt.body, tt.header...); w.Code != tt.status {
			t.Errorf("%s: %d; want %d: %s", tt.name, w.Code, tt.status, w.Body.String())
		}
	}
	if w := b.called(t, path, "Sec-Fetch-Site", "cross-site"); w.Code != http.StatusForbidden {
		t.Errorf("another site has it called: %d", w.Code)
	}
	last := 0
	for range openBurst + 1 {
		ctx, gone := context.WithCancel(t.Context())
		gone()
		last = b.ask(ctx, http.MethodGet, strings.Replace(path, "/phone", "/phone/calls", 1), "").Code
	}
	if last != http.StatusServiceUnavailable {
		t.Errorf("a flood of pages: %d", last)
	}
	u := login(t, s)
	if w := u.do("GET", "/phone", nil); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "browser: operator") {
		t.Errorf("an operator: %d, %s", w.Code, w.Body.String())
	}
}

// FuzzPageRefusal: what is taken of a page is a reason that a phone reads.
func FuzzPageRefusal(f *testing.F) {
	f.Add(`{"reason":"busy"}`)
	f.Add(`{"reason":"<b>"}`)
	f.Fuzz(func(t *testing.T, body string) {
		o, err := parseRefusal(strings.NewReader(body))
		if err == nil && (o.Refusal == "" || wire.WriteBrowserOffer(&strings.Builder{}, o) != nil) {
			t.Errorf("%q is a refusal that cannot be sent", body)
		}
	})
}
