package web

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
)

// answering is a phone that answers as it says.
type answering struct {
	answer wire.BrowserAnswer
	err    error
	offers []wire.BrowserOffer
}

func (a *answering) Call(_ context.Context, _ wire.MAC, o wire.BrowserOffer) (wire.BrowserAnswer, error) {
	a.offers = append(a.offers, o)
	return a.answer, a.err
}

func pageOfferBody(offer string) string {
	b, _ := json.Marshal(pageOffer{Offer: offer, Nonce: make([]byte, 32)})
	return string(b)
}

// pageAgainBody is of a call that goes on.
func pageAgainBody(offer string) string {
	b, _ := json.Marshal(pageOffer{Offer: offer, Nonce: make([]byte, 32), Of: append(make([]byte, 31), 1)})
	return string(b)
}

// Who has a link calls what it says, so often, and not after its time; each barrier says
// what to do.
func TestCalls(t *testing.T) {
	s, rows := serve(t, 2)
	s.o.Key = wire.Fingerprint{1}
	phone := &answering{answer: wire.BrowserAnswer{Description: "v=0", Key: []byte{1}, Signature: []byte{2}}}
	s.o.Caller = phone
	made := func(l store.CallLink) string {
		t.Helper()
		token, hash := NewCallLink()
		if _, err := rows.AddCallLink(t.Context(), hash, l); err != nil {
			t.Fatal(err)
		}
		return token
	}
	ask := func(method, path, body string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		return w
	}
	good := made(store.CallLink{Name: "Ada", Numbers: []string{"101"}, Times: 1})
	for _, tt := range []struct {
		name, path string
		status     int
		says       string
	}{
		{"a link", CallPath("101", good), http.StatusOK, "from a browser: Ada"},
		{"nobody", CallPath("101", ""), http.StatusUnauthorized, "log in"},
		{"another token", CallPath("101", "guess"), http.StatusForbidden, "mistyped"},
		{"another number", CallPath("102", good), http.StatusForbidden, "other numbers"},
		{"an old link", CallPath("101", made(store.CallLink{Name: "Ada", Expires: time.Now().Add(-time.Second)})), http.StatusForbidden, "time has passed"},
		{"no such number", CallPath("999", made(store.CallLink{Name: "Ada"})), http.StatusNotFound, "Nobody has this number"},
		{"no number", CallPath("x", made(store.CallLink{Name: "Ada"})), http.StatusNotFound, "Nobody has this number"},
	} {
		w := ask(http.MethodGet, tt.path, "")
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.says) {
			t.Errorf("%s: %d, and not %q:\n%s", tt.name, w.Code, tt.says, w.Body.String())
		}
		if w.Code != http.StatusOK {
			if w := ask(http.MethodPost, tt.path, pageOfferBody("v=0")); w.Code != tt.status {
				t.Errorf("%s calls: %d", tt.name, w.Code)
			}
		}
	}
	for _, port := range []int{0, 3478} {
		s.o.STUN = port
		if w := ask(http.MethodGet, CallPath("101", good), ""); strings.Contains(w.Body.String(), `data-stun="3478"`) != (port > 0) {
			t.Errorf("with STUN at port %d the page is %s", port, w.Body.String())
		}
	}
	if len(phone.offers) > 0 {
		t.Errorf("the phone was asked by those who may not: %+v", phone.offers)
	}
	path := CallPath("101", good)
	if w := ask(http.MethodPost, path, pageOfferBody("v=0"), "Origin", "https://elsewhere.example", "Sec-Fetch-Site", "cross-site"); w.Code != http.StatusForbidden {
		t.Errorf("a page of another site calls: %d", w.Code)
	}
	if w := ask(http.MethodPost, path, pageOfferBody("v=0"), "Content-Type", "text/plain"); w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("a form calls: %d", w.Code)
	}
	if w := ask(http.MethodPost, path, "{}"); w.Code != http.StatusBadRequest {
		t.Errorf("no offer: %d", w.Code)
	}
	phone.err = errors.New("not there")
	if w := ask(http.MethodPost, path, pageOfferBody("v=0")); w.Code != http.StatusBadGateway {
		t.Errorf("a phone that is not there: %d", w.Code)
	}
	phone.err, phone.answer.Refusal = nil, "busy"
	if w := ask(http.MethodPost, path, pageOfferBody("v=0")); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"refusal":"busy"`) {
		t.Errorf("a phone that is busy: %d, %s", w.Code, w.Body.String())
	}
	phone.answer.Refusal = ""
	w := ask(http.MethodPost, path, pageOfferBody("v=0 of the page"))
	if want := `{"answer":"v=0","key":"AQ==","signature":"Ag=="}`; w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("a call: %d, %s; want %s", w.Code, w.Body.String(), want)
	}
	if o := phone.offers[len(phone.offers)-1]; o.Name != "Ada" || o.Description != "v=0 of the page" {
		t.Errorf("the phone gets %+v", o)
	}
	if w := ask(http.MethodPost, path, pageOfferBody("v=0")); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "used up") {
		t.Errorf("one call too many: %d, %s", w.Code, w.Body.String())
	}
	// The call that has used it up goes on; who has no link takes part in none.
	on := strings.Replace(path, "?", "/again?", 1)
	if w := ask(http.MethodPost, on, pageAgainBody("v=0 again")); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"answer":"v=0"`) {
		t.Errorf("a call goes on: %d, %s", w.Code, w.Body.String())
	}
	if o := phone.offers[len(phone.offers)-1]; o.Name != "" || o.Description != "v=0 again" || o.Of != (wire.Nonce{31: 1}) {
		t.Errorf("the phone gets %+v", o)
	}
	asked := len(phone.offers)
	for name, tt := range map[string]struct {
		path, body string
		status     int
	}{
		"nobody":                 {"/call/101/again", pageAgainBody("v=0"), http.StatusUnauthorized},
		"another token":          {"/call/101/again?link=guess", pageAgainBody("v=0"), http.StatusForbidden},
		"a number of nobody's":   {strings.Replace(on, "101", "999", 1), pageAgainBody("v=0"), http.StatusNotFound},
		"the offer of a new one": {on, pageOfferBody("v=0"), http.StatusBadRequest},
		"of no nonce":            {on, strings.Replace(pageAgainBody("v=0"), "AAAAE=", "AAAAA=", 1), http.StatusBadRequest},
	} {
		if w := ask(http.MethodPost, tt.path, tt.body); w.Code != tt.status {
			t.Errorf("%s in a call: %d; want %d: %s", name, w.Code, tt.status, w.Body.String())
		}
	}
	if len(phone.offers) > asked {
		t.Errorf("the phone was asked by those who may not: %+v", phone.offers[asked:])
	}
	for span, key := range map[string]wire.Fingerprint{"2": {2}, "9": s.o.Key} { // a region of others, and this one
		to := wire.Referral{Server: "east.example:5684", Key: key}
		if err := rows.SetRegion(t.Context(), store.Span{Prefix: span}, to); err != nil {
			t.Fatal(err)
		}
	}
	free := made(store.CallLink{Name: "Ada"})
	if w := ask(http.MethodGet, CallPath("201", free), ""); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "kept by the storing server east.example:5684") {
		t.Errorf("a number of another region: %d, %s", w.Code, w.Body.String())
	}
	if w := ask(http.MethodPost, CallPath("201", free), pageOfferBody("v=0")); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "east.example:5684") {
		t.Errorf("a call to another region: %d, %s", w.Code, w.Body.String())
	}
	if w := ask(http.MethodGet, CallPath("999", free), ""); !strings.Contains(w.Body.String(), "Nobody has this number") {
		t.Errorf("a number of this region that nobody has: %s", w.Body.String())
	}
	last := 0
	for range callBurst + 1 {
		last = ask(http.MethodPost, CallPath("101", free), pageOfferBody("v=0")).Code
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("a flood of calls: %d", last)
	}
}

// A link to numbers of another region is made there.
func TestCallLinkOfAnotherRegion(t *testing.T) {
	s, rows := serve(t, 1)
	if err := rows.SetRegion(t.Context(), store.Span{Prefix: "2"}, wire.Referral{Server: "east.example:5684", Key: wire.Fingerprint{2}}); err != nil {
		t.Fatal(err)
	}
	u := login(t, s)
	form := url.Values{"csrf": {u.csrf("/call-links")}, "name": {"Ada"}, "numbers": {"101, 201"}}
	u.do("POST", "/call-links", form)
	if w := u.do("GET", "/call-links", nil); !strings.Contains(w.Body.String(), "number 201 belongs to the region of east.example:5684: make the link there") || len(rows.CallLinks()) != 0 {
		t.Errorf("a link to another region: %s", w.Body.String())
	}
	form.Set("numbers", "101")
	if w := u.do("POST", "/call-links", form); w.Code != http.StatusSeeOther || len(rows.CallLinks()) != 1 {
		t.Errorf("a link to this region: %d, and there are %d", w.Code, len(rows.CallLinks()))
	}
}

// FuzzPageOffer: what is taken of a page fits into what a phone takes.
func FuzzPageOffer(f *testing.F) {
	f.Add(pageOfferBody("v=0"))
	f.Add(`{"offer":"v=0","nonce":"` + base64.StdEncoding.EncodeToString(make([]byte, 31)) + `"}`)
	f.Add(pageAgainBody("v=0"))
	f.Fuzz(func(t *testing.T, body string) {
		for _, goesOn := range []bool{false, true} {
			o, err := parseOffer(strings.NewReader(body), goesOn)
			if err == nil && wire.WriteBrowserOffer(&strings.Builder{}, o) != nil {
				t.Errorf("%q is an offer that cannot be sent", body)
			}
			if err == nil && (o.Of != wire.Nonce{}) != goesOn {
				t.Errorf("%q is an offer in a call: %v; asked for %v", body, o.Of, goesOn)
			}
		}
	})
}
