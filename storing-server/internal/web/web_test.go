package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
)

const password = "a password of the tests"

// serve returns a server of real rows, with n phones from 101 on.
func serve(t testing.TB, n int) (*Server, *store.Store) {
	t.Helper()
	return serveAudited(t, n, nil)
}

// serveAudited has the changes told to audit.
func serveAudited(t testing.TB, n int, audit func([]store.Event) error) (*Server, *store.Store) {
	t.Helper()
	dir := t.TempDir()
	var s *Server
	rows, err := store.Open(t.Context(), store.Options{
		Dir: dir, Numbers: store.Numbers{First: 101, Last: 9999, Rest: time.Hour}, Log: slog.New(slog.DiscardHandler),
		Changed: func(qs []wire.Query) { s.Changed(qs) }, Audit: audit,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rows.Close)
	began := time.Now() // limits are not looser on a slower machine
	s = newServer(Options{Dir: dir, Rows: rows, Audit: audit, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return began }})
	for i := range n {
		register(t, rows, i+1, 1, fmt.Sprintf("192.0.2.%d", i+1))
	}
	return s, rows
}

func mac(n int) wire.MAC { return wire.MAC{2, 0, 0x5e, 0, byte(n >> 8), byte(n)} }

func register(t testing.TB, rows *store.Store, n int, sequence uint64, addr string) {
	t.Helper()
	_, _, err := rows.Register(context.Background(), wire.Fingerprint{byte(n)}, wire.Registration{
		MAC: mac(n), Addrs: []netip.Addr{netip.MustParseAddr(addr)}, Ports: wire.Ports{SIP: 5060, SIPS: 5061}, Sequence: sequence, Lifetime: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A user is a browser's memory: its cookie.
type user struct {
	t      testing.TB
	s      *Server
	cookie *http.Cookie
	from   string
}

func (u *user) do(method, path string, form url.Values, head ...string) *httptest.ResponseRecorder {
	u.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if u.cookie != nil {
		r.AddCookie(u.cookie)
	}
	if u.from != "" {
		r.RemoteAddr = u.from
	}
	for i := 0; i+1 < len(head); i += 2 {
		r.Header.Set(head[i], head[i+1])
	}
	w := httptest.NewRecorder()
	u.s.handler.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		u.cookie = c
	}
	return w
}

func setPassword(t testing.TB, s *Server, password string) {
	t.Helper()
	hash, err := HashPassword(password)
	if err == nil {
		err = s.o.Rows.SetPassword(context.Background(), store.RoleAll, hash, time.Time{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// newToken makes a token of the API.
func newToken(t testing.TB, s *Server, name string) (text, id string) {
	t.Helper()
	text, hash, err := NewAPIToken(name)
	if err != nil {
		t.Fatal(err)
	}
	made, err := s.o.Rows.AddAPIToken(context.Background(), hash, store.APIToken{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return text, made.ID
}

func login(t testing.TB, s *Server) *user {
	t.Helper()
	setPassword(t, s, password)
	u := &user{t: t, s: s}
	if w := u.do("POST", "/login", url.Values{"password": {password}}); w.Code != http.StatusSeeOther || u.cookie == nil {
		t.Fatalf("login: %d", w.Code)
	}
	return u
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// csrf reads the token of a page's forms.
func (u *user) csrf(path string) string {
	u.t.Helper()
	m := csrfField.FindStringSubmatch(u.do("GET", path, nil).Body.String())
	if m == nil {
		u.t.Fatalf("%s has no form", path)
	}
	return m[1]
}

// What stands between strangers and the rows.
func TestLogin(t *testing.T) {
	s, _ := serve(t, 1)
	stranger := &user{t: t, s: s}
	if w := stranger.do("POST", "/login", url.Values{"password": {""}}); w.Code != http.StatusForbidden {
		t.Errorf("login before there is a password: %d", w.Code)
	}
	u := login(t, s)
	if c := u.cookie; !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" {
		t.Errorf("cookie %+v", c)
	}
	for _, path := range []string{"/phones", "/phones/02005e000001", "/accounts", "/enrolment", "/api-access"} {
		if w := stranger.do("GET", path, nil); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/login" {
			t.Errorf("%s without a login: %d", path, w.Code)
		}
		w := u.do("GET", path, nil)
		if w.Code != http.StatusOK {
			t.Errorf("%s: %d", path, w.Code)
		}
		for k, v := range headers {
			if w.Header().Get(k) != v {
				t.Errorf("%s: %s: %q", path, k, w.Header().Get(k))
			}
		}
	}
	if w := stranger.do("GET", "/phones/live", nil); w.Code != http.StatusUnauthorized {
		t.Errorf("/phones/live without a login: %d", w.Code)
	}
	for _, r := range apiRoutes {
		method, path, _ := strings.Cut(r.pattern, " ")
		for _, auth := range []string{"", "Bearer", "Bearer fp_guess", "Basic " + password} {
			if w := u.do(method, path, nil, "Authorization", auth); w.Code != http.StatusUnauthorized {
				t.Errorf("%s with %q and a cookie: %d", r.pattern, auth, w.Code)
			}
		}
	}

	token := u.csrf("/phones/02005e000001")
	for name, w := range map[string]*httptest.ResponseRecorder{
		"without a token":   u.do("POST", "/phones/02005e000001/forget", url.Values{}),
		"another's token":   u.do("POST", "/phones/02005e000001/forget", url.Values{"csrf": {"x" + token}}),
		"from another site": u.do("POST", "/phones/02005e000001/forget", url.Values{"csrf": {token}}, "Sec-Fetch-Site", "cross-site"),
		"of another origin": u.do("POST", "/phones/02005e000001/forget", url.Values{"csrf": {token}}, "Origin", "https://example.org"),
		"by GET":            u.do("GET", "/phones/02005e000001/forget", nil),
	} {
		if w.Code != http.StatusForbidden && w.Code != http.StatusMethodNotAllowed {
			t.Errorf("forget %s: %d", name, w.Code)
		}
	}
	if w := u.do("GET", "/phones/02005e000001", nil); w.Code != http.StatusOK {
		t.Errorf("and then the phone is %d", w.Code)
	}

	setPassword(t, s, password+"!")
	if w := u.do("GET", "/phones", nil); w.Code != http.StatusSeeOther {
		t.Errorf("a login outlives its password: %d", w.Code)
	}
	guesser := &user{t: t, s: s, from: "198.51.100.9:1"}
	for i := range guessBurst + 3 {
		want := http.StatusForbidden
		if i >= guessBurst {
			want = http.StatusTooManyRequests
		}
		if w := guesser.do("POST", "/login", url.Values{"password": {"guess"}}); w.Code != want {
			t.Errorf("guess %d: %d; want %d", i, w.Code, want)
		}
	}
	if w := guesser.do("POST", "/login", url.Values{"password": {password + "!"}}); w.Code != http.StatusTooManyRequests {
		t.Errorf("the right password after that: %d", w.Code)
	}
	other := &user{t: t, s: s, from: "198.51.100.10:1"}
	if w := other.do("POST", "/login", url.Values{"password": {password + "!"}}); w.Code != http.StatusSeeOther {
		t.Errorf("login from another network: %d", w.Code)
	}
	if kept := s.o.Rows.Password(store.RoleAll); !strings.HasPrefix(kept, "$argon2id$") || strings.Contains(kept, password) {
		t.Errorf("of the password is kept: %s", kept)
	}
}

// The audit log names the login or the token that has made a change.
func TestWhose(t *testing.T) {
	var events []store.Event // each is told before what made it is answered
	s, _ := serveAudited(t, 2, func(es []store.Event) error { events = append(events, es...); return nil })
	u := login(t, s)
	token, id := newToken(t, s, "billing")
	if w := u.do("POST", "/phones/02005e000001/forget", url.Values{"csrf": {u.csrf("/phones/02005e000001")}}); w.Code != http.StatusSeeOther {
		t.Errorf("forget by a form: %d", w.Code)
	}
	if w := (&user{t: t, s: s}).do("DELETE", "/api/v1/phones/02005e000002", nil, "Authorization", "Bearer "+token); w.Code != http.StatusNoContent {
		t.Errorf("forget by the API: %d", w.Code)
	}
	if w := u.do("POST", "/api-access/"+id+"/revoke", url.Values{"csrf": {u.csrf("/api-access")}}); w.Code != http.StatusSeeOther {
		t.Errorf("revoke by a form: %d", w.Code)
	}
	var got []string
	for _, e := range events[2:] { // the phones' own
		got = append(got, e.Event+" "+e.Name+" by "+e.By)
	}
	want := []string{"password-set all by command", "login all by address 192.0.2.1", "api-token-made billing by command", "forgotten  by login 192.0.2.1 as all", "forgotten  by api-token " + id, "api-token-revoked billing by login 192.0.2.1 as all"}
	if !slices.Equal(got, want) {
		t.Errorf("audited:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Behind a proxy whoever guesses shuts out nobody else; without one the
// header, which anybody can write, gets nobody more guesses.
func TestLoginByProxy(t *testing.T) {
	for _, proxied := range []bool{true, false} {
		s, _ := serve(t, 0)
		s.o.Proxied = proxied
		login(t, s)
		proxy := &user{t: t, s: s, from: "127.0.0.1:1"}
		try := func(forwarded, text string) int {
			return proxy.do("POST", "/login", url.Values{"password": {text}}, "X-Forwarded-For", forwarded).Code
		}
		for i := range guessBurst {
			if got := try(fmt.Sprintf("203.0.113.%d, 198.51.100.9", i), "guess"); got != http.StatusForbidden {
				t.Errorf("guess %d: %d", i, got)
			}
		}
		if got := try("203.0.113.99, 198.51.100.9", "guess"); got != http.StatusTooManyRequests {
			t.Errorf("proxied %t: a guess too many: %d", proxied, got)
		}
		want := http.StatusTooManyRequests
		if proxied {
			want = http.StatusSeeOther
		}
		if got := try("198.51.100.9, 192.0.2.7", password); got != want {
			t.Errorf("proxied %t: the operator, from elsewhere: %d; want %d", proxied, got, want)
		}
	}
}

// A login ends by itself, and there are not too many.
func TestSessions(t *testing.T) {
	s := sessions{all: map[string]*session{}}
	now := time.Unix(1e9, 0)
	c := s.begin(store.RoleRead, "v", "", now)
	for range 20 {
		now = now.Add(sessionIdle - time.Second)
		if s.of(c, is("v"), now, false) == nil || s.of(c, is("v"), now, true) == nil {
			t.Fatal("a login that is used has ended")
		}
	}
	if now = now.Add(sessionIdle + time.Second); s.of(c, is("v"), now, true) != nil {
		t.Error("an idle login lasts")
	}
	c = s.begin(store.RoleRead, "v", "", now)
	for end := now.Add(sessionMost); !now.After(end); now = now.Add(sessionIdle / 2) {
		s.of(c, is("v"), now, true)
	}
	if s.of(c, is("v"), now, true) != nil {
		t.Error("a login lasts for ever")
	}
	first := s.begin(store.RoleRead, "v", "", now)
	for i := range sessionsMost {
		s.begin(store.RoleRead, "v", "", now.Add(time.Duration(i+1)))
	}
	if len(s.all) != sessionsMost || s.all[first] != nil {
		t.Errorf("%d logins, the oldest among them: %v", len(s.all), s.all[first] != nil)
	}
}

// Many rows are shown in pages, forwards and backwards.
func TestPages(t *testing.T) {
	s, _ := serve(t, 2*pageRows+7)
	u := login(t, s)
	rowOf := regexp.MustCompile(`<tr id="row-([0-9a-f]{12})"`)
	linkOf := regexp.MustCompile(`id="(prev|next)" rel="\w+" href="([^"]+)"`)
	read := func(path string) (rows []string, links map[string]string) {
		links = map[string]string{}
		body := u.do("GET", path, nil).Body.String()
		for _, m := range rowOf.FindAllStringSubmatch(body, -1) {
			rows = append(rows, m[1])
		}
		for _, m := range linkOf.FindAllStringSubmatch(body, -1) {
			links[m[1]] = strings.ReplaceAll(m[2], "&amp;", "&")
		}
		return rows, links
	}
	var all, back []string
	path, last := "/phones", ""
	for path != "" {
		rows, links := read(path)
		all, last, path = append(all, rows...), path, links["next"]
	}
	for path = last; path != ""; {
		rows, links := read(path)
		back, path = append(slices.Clone(rows), back...), links["prev"]
	}
	if len(all) != 2*pageRows+7 || !slices.IsSorted(all) || !slices.Equal(slices.Compact(slices.Clone(all)), all) {
		t.Errorf("forwards there are %d rows", len(all))
	}
	if !slices.Equal(back, all) {
		t.Errorf("backwards there are %d rows", len(back))
	}
	if rows, links := read("/phones?q=02005e0000"); len(rows) != pageRows || !strings.Contains(links["next"], "q=02005e0000") {
		t.Errorf("a search has %d rows, and goes on at %v", len(rows), links)
	}
	if rows, _ := read("/phones?q=" + url.QueryEscape("<script>")); rows != nil {
		t.Error("something that nobody is called has rows")
	}
}

// is gives each role the same password.
func is(version string) func(store.Role) string {
	return func(store.Role) string { return version }
}
