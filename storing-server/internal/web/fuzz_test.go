package web

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"flexphone/storing-server/internal/store"
)

// FuzzHTTP: whatever a program or a browser sends, with or without a login, is
// answered, by a page in which nothing that was sent is markup.
func FuzzHTTP(f *testing.F) {
	s, _ := serve(f, 2)
	u := login(f, s)
	token, _ := newToken(f, s, "test")
	s.o.Proxied = true
	csrf := u.csrf("/phones/02005e000001")
	for _, seed := range []struct {
		method, target, body string
		in                   byte
	}{
		{"GET", "/phones?q=101&after=02005e000001", "", 1}, {"GET", `/phones?q=<script>alert("1")</script>`, "", 1},
		{"GET", "/phones/02-00-5e-00-00-01", "", 1}, {"POST", "/login", "password=x", 0},
		{"POST", "/phones/02005e000001/number", "number=555", 1}, {"POST", "/phones/02005e000009/forget", "", 1},
		{"POST", "/phones/02005e000001/name", "name=<b>&labels=a,%1b", 1},
		{"PUT", "/api/v1/phones/02005e000001/name", `{"name":"x","labels":["y"]}`, 2}, {"POST", "/tokens", "mac=02:00:5e:00:00:09&hours=1", 1}, {"POST", "/tokens/x/revoke", "", 1}, {"POST", "/numbers/free", "number=101", 1},
		{"POST", "/accounts", "user=<b>&password=%00&md5=1", 1}, {"POST", "/accounts/x%2fy/remove", "", 1}, {"POST", "/api-access", "name=<script>", 1},
		{"GET", "/phones/live?q=101", "", 1}, {"GET", "/phones/02005e000001/live", "", 1}, {"POST", "/login", "password=x,2001:db8::1%a", 3},
		{"GET", "/api/v1/phones?after=02005e000001", "", 5}, {"GET", "/api/v1/phones/02005e000001", "", 5},
		{"GET", "/api/v1/phones?limit=2&q=02", "", 2}, {"PUT", "/api/v1/phones/02005e000001/number", `{"number":"555"}`, 2},
		{"POST", "/api/v1/accounts", `{"user":"300","password":"p","md5":true}`, 2}, {"POST", "/api/v1/tokens", `{"mac":null,"seconds":1e3}`, 2},
		{"DELETE", "/api/v1/numbers/101/rest", "", 2}, {"POST", "/waiting/02005e000009/approve", "fingerprint=00", 1}, {"GET", "/metrics", "", 0}, {"GET", "//..//style.css", "", 0}, {"HEAD", "/healthz", "", 0},
	} {
		f.Add(seed.method, seed.target, seed.body, seed.in)
	}
	f.Fuzz(func(t *testing.T, method, target, body string, in byte) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + target + " HTTP/1.1\r\nHost: operator\r\n\r\n")))
		if err != nil {
			return
		}
		ctx, gone := context.WithCancel(r.Context())
		defer gone()
		r = r.WithContext(ctx)
		if in/3%2 == 1 {
			r.Header.Set("Accept", eventStream)
			r.Header.Set("X-Forwarded-For", body)
		}
		switch in % 3 {
		case 1:
			r.AddCookie(u.cookie)
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			body += "&csrf=" + csrf
		case 2:
			r.Header.Set("Authorization", "Bearer "+token)
		}
		r.Body = io.NopCloser(strings.NewReader(body))
		r.RemoteAddr = "198.51.100.7:1"
		w := leaver{httptest.NewRecorder(), gone}
		s.handler.ServeHTTP(w, r)
		if w.Code < 200 || w.Code >= 500 && w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s %q %q: %d %s", method, target, body, w.Code, w.Body)
		}
		if w.Header().Get("Content-Security-Policy") != headers["Content-Security-Policy"] {
			t.Errorf("%s %q: no policy", method, target)
		}
		page := w.Body.String()
		if strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") && w.Code != http.StatusSeeOther && w.Code != http.StatusTemporaryRedirect && w.Code != http.StatusMovedPermanently {
			if strings.Count(page, "<script") != strings.Count(page, `<script src="/live.js" defer></script>`) || strings.Contains(page, "<b>") {
				t.Errorf("%s %q %q: markup gets through: %s", method, target, body, page)
			}
		}
		if to := w.Header().Get("Location"); to != "" && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//")) {
			t.Errorf("%s %q leads to %q", method, target, to)
		}
		if in%3 == 1 && s.logins.all[u.cookie.Value] == nil { // logged out
			u.cookie = &http.Cookie{Name: cookieName, Value: s.logins.begin(store.RoleAll, s.o.Rows.Password(store.RoleAll), "", time.Now())}
			csrf = s.logins.all[u.cookie.Value].csrf
		}
	})
}

// A leaver goes once something has come, as the reader of a stream.
type leaver struct {
	*httptest.ResponseRecorder
	gone func()
}

func (l leaver) Write(b []byte) (int, error) {
	l.gone()
	return l.ResponseRecorder.Write(b)
}
