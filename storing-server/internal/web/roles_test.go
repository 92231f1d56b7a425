package web

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"flexphone/storing-server/internal/store"
)

// A token of the API may do what its role says on every route, for as long as
// it is good.
func TestRoles(t *testing.T) {
	s, rows := serve(t, 1)
	ask := func(token, method, path string) int {
		r := httptest.NewRequest(method, path, strings.NewReader("{}"))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		return w.Code
	}
	made := func(of store.APIToken) string {
		t.Helper()
		text, hash, err := NewAPIToken("test")
		if err != nil {
			t.Fatal(err)
		}
		of.Name = "test"
		if _, err := rows.AddAPIToken(context.Background(), hash, of); err != nil {
			t.Fatal(err)
		}
		return text
	}
	tokens := map[store.Role]string{"": made(store.APIToken{})}
	for _, role := range []store.Role{store.RoleRead, store.RoleNumbers, store.RoleAll} {
		tokens[role] = made(store.APIToken{Role: role, Expires: time.Now().Add(time.Hour)})
	}
	fill := strings.NewReplacer("{mac}", "02:00:5e:00:99:99", "{number}", "999", "{id}", "none", "{user}", "nobody")
	for _, r := range apiRoutes {
		method, path, _ := strings.Cut(r.pattern, " ")
		numbers := strings.Contains(path, "number")
		for role, token := range tokens {
			may := role == "" || role == store.RoleAll || method == http.MethodGet || numbers && role == store.RoleNumbers
			if got := ask(token, method, fill.Replace(path)); (got == http.StatusForbidden) == may || got == http.StatusUnauthorized {
				t.Errorf("%s as %q: %d; may: %v", r.pattern, role, got, may)
			}
		}
	}
	over := made(store.APIToken{Role: store.RoleAll, Expires: time.Now().Add(-time.Second)})
	if got := ask(over, http.MethodGet, "/api/v1/server"); got != http.StatusUnauthorized {
		t.Errorf("a token whose time is over: %d; want 401", got)
	}
	if _, err := rows.AddAPIToken(t.Context(), store.APITokenHash{1}, store.APIToken{Name: "x", Role: "king"}); err == nil {
		t.Error("a role that there is not is given")
	}
}

// Who logs in and who does not stands in the audit log, with the address; who
// tries without end does not fill it.
func TestAuditOfLogins(t *testing.T) {
	var mu sync.Mutex
	counts := map[string]int{}
	s, _ := serveAudited(t, 0, func(all []store.Event) error {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range all {
			counts[fmt.Sprint(e.Event, ", ", e.By, ", ", e.Name)]++
		}
		return nil
	})
	setPassword(t, s, password)
	post := func(from, text string) int {
		r := httptest.NewRequest(http.MethodPost, "/login", strings.NewReader(url.Values{"password": {text}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.RemoteAddr = from + ":4096"
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		return w.Code
	}
	for range 20 {
		post("192.0.2.1", "a wrong password")
	}
	if code := post("192.0.2.2", password); code != http.StatusSeeOther {
		t.Errorf("the right password: %d", code)
	}
	for range 500 {
		r := httptest.NewRequest(http.MethodGet, "/api/v1/server", nil)
		r.Header.Set("Authorization", "Bearer guess")
		r.RemoteAddr = "192.0.2.3:1"
		s.handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	mu.Lock()
	defer mu.Unlock()
	for what, want := range map[string]int{
		"login-refused, address 192.0.2.1, wrong password": guessBurst,
		"login-refused, address 192.0.2.1, too many tries": 1,
		"login, address 192.0.2.2, all":                    1,
		"api-refused, address 192.0.2.3, ":                 auditBurst,
	} {
		if counts[what] != want {
			t.Errorf("%q stands there %d times; want %d", what, counts[what], want)
		}
	}
}

// A password whose time is over opens nothing, and the logins that it opened
// have ended; the page says what to do.
func TestPasswordEnds(t *testing.T) {
	s, rows := serve(t, 1)
	u := login(t, s)
	hash, err := HashPassword(password)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		expires time.Time
		good    bool
	}{
		"for ever": {time.Time{}, true}, "in an hour": {time.Now().Add(time.Hour), true}, "a second ago": {time.Now().Add(-time.Second), false},
	} {
		if err := rows.SetPassword(t.Context(), store.RoleAll, hash, tt.expires); err != nil {
			t.Fatal(err)
		}
		if w := u.do("POST", "/login", url.Values{"password": {password}}); (w.Code == http.StatusSeeOther) != tt.good {
			t.Errorf("%s: login: %d", name, w.Code)
		}
		if w := u.do("GET", "/phones", nil); (w.Code == http.StatusOK) != tt.good {
			t.Errorf("%s: a page of who had logged in: %d", name, w.Code)
		}
		if w := (&user{t: t, s: s}).do("GET", "/login", nil); strings.Contains(w.Body.String(), "storing-server password") == tt.good {
			t.Errorf("%s: the login page says %q", name, w.Body.String())
		}
	}
}

// Each role has a password of its own, by which somebody may do on the pages
// what the role says, and sees the forms of that and no others; a password that
// was taken away has ended its logins, and no others.
func TestRolesOfLogins(t *testing.T) {
	s, rows := serve(t, 1)
	words := map[store.Role]string{store.RoleRead: "the reader's password", store.RoleNumbers: "the number desk's", store.RoleAll: password}
	users := map[store.Role]*user{}
	for role, word := range words {
		hash, err := HashPassword(word)
		if err == nil {
			err = rows.SetPassword(t.Context(), role, hash, time.Time{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := rows.SetPassword(t.Context(), "king", "x", time.Time{}); err == nil {
		t.Error("a role that there is not has a password")
	}
	api, id := newToken(t, s, "program")
	if _, _, err := rows.MakeToken(t.Context(), mac(9), time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := rows.AddPhone(t.Context(), store.Phone{User: "lobby"}); err != nil {
		t.Fatal(err)
	}
	action := regexp.MustCompile(`<form[^>]* method="post" action="([^"]+)"`)
	for role, word := range words {
		u := &user{t: t, s: s}
		if w := u.do("POST", "/login", url.Values{"password": {word}}); w.Code != http.StatusSeeOther || u.cookie == nil {
			t.Fatalf("%s: login: %d", role, w.Code)
		}
		users[role] = u
		shown := map[string]bool{}
		for _, page := range []string{"/phones", "/phones/02005e000001", "/accounts", "/enrolment", "/api-access"} {
			w := u.do("GET", page, nil)
			if w.Code != http.StatusOK {
				t.Errorf("%s: %s: %d", role, page, w.Code)
			}
			for _, m := range action.FindAllStringSubmatch(w.Body.String(), -1) {
				shown[m[1]] = true
			}
		}
		want := map[store.Role]int{store.RoleRead: 1, store.RoleNumbers: 3, store.RoleAll: 12}[role]
		if len(shown) != want || !shown["/logout"] {
			t.Errorf("%s: %d forms are shown: %v; want %d", role, len(shown), shown, want)
		}
	}
	fill := strings.NewReplacer("{mac}", "02005e009999", "{id}", "none", "{user}", "nobody")
	for _, f := range pageForms {
		numbers := f.pattern == "/phones/{mac}/number" || f.pattern == "/numbers/free"
		for role, u := range users {
			may := role == store.RoleAll || numbers && role == store.RoleNumbers
			w := u.do("POST", fill.Replace(f.pattern), url.Values{"csrf": {u.csrf("/phones")}})
			if want := map[bool]int{true: http.StatusSeeOther, false: http.StatusForbidden}[may]; w.Code != want {
				t.Errorf("%s as %s: %d; want %d", f.pattern, role, w.Code, want)
			}
		}
	}
	if _, ok := rows.APIToken(sha256.Sum256([]byte(api))); !ok || id == "" {
		t.Error("the program's token is gone")
	}
	if err := rows.SetPassword(t.Context(), store.RoleRead, "", time.Time{}); err != nil {
		t.Fatal(err)
	}
	for role, u := range users {
		if got := u.do("GET", "/phones", nil).Code == http.StatusOK; got != (role != store.RoleRead) {
			t.Errorf("%s: logged in after the reader's password was taken away: %v", role, got)
		}
	}
	u := &user{t: t, s: s, from: "192.0.2.77:1"}
	if w := u.do("POST", "/login", url.Values{"password": {words[store.RoleRead]}}); w.Code != http.StatusForbidden {
		t.Errorf("login by a password that was taken away: %d", w.Code)
	}
}
