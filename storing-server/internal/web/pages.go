package web

import (
	"bytes"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/admin"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

//go:embed assets
var assets embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"day":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"stamp": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"list":  func(all []string) string { return strings.Join(all, ", ") },
	"lasted": func(s stay) string {
		if s.Until == nil {
			return ""
		}
		return s.Until.Sub(s.From).Round(time.Second).String()
	},
}).ParseFS(assets, "assets/*.html"))

// A view is what a template shows.
type view struct {
	Title   string
	Section string // of the navigation
	CSRF    string
	Role    store.Role // of the login
	Flash   *flash
	Body    any
}

// pages adds the routes of the pages.
func (s *Server) pages(mux *http.ServeMux) {
	for _, name := range []string{"style.css", "live.js", "talk.js", "call.js", "ring.js", "icon.svg"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, assets, "assets/"+name) })
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/phones", http.StatusSeeOther) })
	mux.HandleFunc("GET /login", s.loginPage)
	mux.HandleFunc("POST /login", s.login)
	show := func(pattern string, h func(http.ResponseWriter, *http.Request, *session)) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
			x, ok := s.session(r, !strings.HasSuffix(pattern, "/live"))
			switch {
			case ok:
				h(w, r, x)
			case strings.HasSuffix(pattern, "/live"):
				http.Error(w, "not logged in", http.StatusUnauthorized)
			default:
				http.Redirect(w, r, "/login", http.StatusSeeOther)
			}
		})
	}
	show("/phones", s.phonesPage)
	show("/phones/live", s.phonesLive)
	show("/phones/export.csv", s.phonesExport)
	show("/phones/{mac}", s.phonePage)
	show("/phones/{mac}/live", s.phoneLive)
	show("/accounts", s.accountsPage)
	show("/enrolment", s.enrolmentPage)
	show("/api-access", s.accessPage)
	show("/call-links", s.linksPage)
	s.calls(mux)
	s.rings(mux)
	s.forms(mux)
}

// session returns the login of a request. used says that somebody has done
// something, rather than left a page open.
func (s *Server) session(r *http.Request, used bool) (*session, bool) {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return nil, false
	}
	x := s.logins.of(c.Value, s.o.Rows.Password, time.Now(), used)
	return x, x != nil
}

// stillIn reports whether the login of a request lasts, while a page is open.
func (s *Server) stillIn(r *http.Request) func() bool {
	return func() bool { _, ok := s.session(r, false); return ok }
}

// render sends a page.
func (s *Server) render(w http.ResponseWriter, status int, name string, v view) {
	text, err := fragment(name, v)
	if err != nil {
		s.o.Log.Error("page not made", "page", name, "err", err)
		http.Error(w, "the page cannot be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(text) // who has gone does not want it
}

// fragment makes a page, or a part of one.
func fragment(name string, v any) ([]byte, error) {
	var out bytes.Buffer
	err := templates.ExecuteTemplate(&out, name, v)
	return out.Bytes(), err
}

func (s *Server) show(w http.ResponseWriter, x *session, name, title, section string, body any) {
	s.render(w, http.StatusOK, name, view{Title: title, Section: section, CSRF: x.csrf, Role: x.role, Flash: x.said(), Body: body})
}

func (s *Server) refuse(w http.ResponseWriter, x *session, err error) {
	status := statusOf(err)
	s.render(w, status, "refused.html", view{Title: http.StatusText(status), CSRF: x.csrf, Role: x.role, Body: err.Error()})
}

type loginBody struct {
	Ready bool // there is a password
	Error string
}

func (s *Server) loginPage(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.session(r, true); ok {
		http.Redirect(w, r, "/phones", http.StatusSeeOther)
		return
	}
	s.askPassword(w, http.StatusOK, "")
}

func (s *Server) askPassword(w http.ResponseWriter, status int, text string) {
	s.render(w, status, "login.html", view{Title: "Log in", Body: loginBody{s.o.Rows.Password(store.RoleRead)+s.o.Rows.Password(store.RoleNumbers)+s.o.Rows.Password(store.RoleAll) != "", text}})
}

// login checks the password. Who guesses has few tries, and all that guess
// have one of them at a time.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	if r.ParseForm() != nil {
		s.askPassword(w, http.StatusBadRequest, "The form did not come whole.")
		return
	}
	from := s.sourceOf(r)
	if !s.guesses.Allow(trust.NetworkOf(from), s.o.Now()) {
		w.Header().Set("Retry-After", "60")
		if s.refusals.Allow(trust.NetworkOf(from), s.o.Now()) {
			s.o.Log.Warn("login refused: too many tries", "from", from)
			s.audit(EventLoginRefused, from, "too many tries")
		}
		s.askPassword(w, http.StatusTooManyRequests, "Too many tries. Wait a minute.")
		return
	}
	role, kept, err := s.roleOf(r.PostForm.Get("password"))
	if role == "" {
		s.o.Log.Warn("login refused", "from", from, "err", err)
		if s.audited(from) {
			s.audit(EventLoginRefused, from, "wrong password")
		}
		s.askPassword(w, http.StatusForbidden, "That is not the password.")
		return
	}
	s.o.Log.Info("login", "from", from, "role", string(role))
	s.audit(EventLogin, from, string(role))
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: s.logins.begin(role, kept, from.String(), time.Now()), Path: "/",
		HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode,
	})
	http.Redirect(w, r, "/phones", http.StatusSeeOther)
}

// roleOf returns the greatest role that a password is of, and what is kept of
// it; empty: of none.
func (s *Server) roleOf(password string) (role store.Role, kept string, err error) {
	s.guessing.Lock()
	defer s.guessing.Unlock()
	for _, role := range slices.Backward(store.Roles()) {
		kept := s.o.Rows.Password(role)
		if kept == "" {
			continue
		}
		ok, bad := checkPassword(kept, password)
		if ok {
			return role, kept, nil
		}
		err = errors.Join(err, bad)
	}
	return "", "", err
}

// sourceOf is whom a request is of, as far as the proxy or else the connection
// says. The last address is the proxy's word; what stands before it, anybody's.
func (s *Server) sourceOf(r *http.Request) netip.Addr {
	if all := r.Header.Values("X-Forwarded-For"); s.o.Proxied && len(all) > 0 {
		last := all[len(all)-1]
		at, err := netip.ParseAddr(strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:]))
		if err == nil {
			return at.Unmap().WithZone("")
		}
	}
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // of a test, or a socket of another kind
	}
	return at.Addr().Unmap()
}

// A phonesBody is a page of rows.
type phonesBody struct {
	Query      string
	Error      string
	Total      int
	Rows       []admin.Row
	Prev, Next string // addresses of pages; empty: none
	Live       string
}

// rowsOf makes a page of rows, and says which rows may come to stand on it.
func (s *Server) rowsOf(r *http.Request) (b phonesBody, first, last wire.MAC) {
	q := r.URL.Query()
	b = phonesBody{Query: q.Get("q"), Total: s.o.Rows.Size()}
	sel, err := selectionOf(b.Query)
	if err != nil {
		b.Error = "This is not something to search for: " + err.Error() + "."
		return b, first, last
	}
	at, err := placeOf(q)
	if err != nil {
		b.Error = err.Error()
		return b, first, last
	}
	rows, more, err := s.o.Rows.Page(r.Context(), sel, at.at, at.back, pageRows)
	if err != nil {
		b.Error = "The search took too long."
		return b, first, last
	}
	for _, row := range rows {
		b.Rows = append(b.Rows, s.row(row))
	}
	link := func(path, name string, m wire.MAC) string {
		v := url.Values{}
		if b.Query != "" {
			v.Set("q", b.Query)
		}
		if name != "" {
			v.Set(name, m.Hex())
		}
		if len(v) == 0 {
			return path
		}
		return path + "?" + v.Encode()
	}
	first, last = wire.MAC{}, lastMAC
	if at.back {
		last = at.at
	} else {
		first = at.at
	}
	if n := len(rows); n > 0 {
		if !at.back && at.at != (wire.MAC{}) || at.back && more {
			b.Prev = link("/phones", "before", rows[0].MAC)
		}
		if at.back || more {
			b.Next = link("/phones", "after", rows[n-1].MAC)
		}
		if more && !at.back {
			last = rows[n-1].MAC
		}
	}
	if !sel.Slow() { // that would look at all rows, again and again
		name := "after"
		if at.back {
			name = "before"
		}
		if at.at == (wire.MAC{}) {
			name = ""
		}
		b.Live = link("/phones/live", name, at.at)
	}
	return b, first, last
}

func (s *Server) phonesPage(w http.ResponseWriter, r *http.Request, x *session) {
	b, _, _ := s.rowsOf(r)
	s.show(w, x, "phones.html", "Phones", "phones", b)
}

func (s *Server) phonesLive(w http.ResponseWriter, r *http.Request, _ *session) {
	b, first, last := s.rowsOf(r)
	if b.Live == "" {
		http.Error(w, "this page has no changes", http.StatusNotFound)
		return
	}
	s.stream(w, r, first, last, s.stillIn(r), func() ([]byte, error) {
		b, _, _ := s.rowsOf(r)
		return fragment("rows", b)
	})
}

// permitted are a page's forms: what stands in each, and which there are.
type permitted struct {
	CSRF string
	role store.Role
}

// MayNumbers says that the page has what changes short numbers.
func (p permitted) MayNumbers() bool { return p.role.May(store.RoleNumbers) }

// MayAll says that it has everything.
func (p permitted) MayAll() bool { return p.role.May(store.RoleAll) }

func (x *session) permitted() permitted { return permitted{x.csrf, x.role} }

type phoneBody struct {
	phoneDetails
	permitted
}

func (s *Server) phonePage(w http.ResponseWriter, r *http.Request, x *session) {
	mac, err := pathMAC(r)
	var d phoneDetails
	if err == nil {
		d, err = s.details(mac)
	}
	if err != nil {
		s.refuse(w, x, err)
		return
	}
	title := d.MAC.String()
	if d.Number != "" {
		title = d.Number
	}
	s.show(w, x, "phone.html", title, "phones", phoneBody{d, x.permitted()})
}

func (s *Server) phoneLive(w http.ResponseWriter, r *http.Request, _ *session) {
	mac, err := pathMAC(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	s.stream(w, r, mac, mac, s.stillIn(r), func() ([]byte, error) {
		d, err := s.details(mac)
		if err != nil {
			return fragment("gone", mac)
		}
		return fragment("facts", phoneBody{phoneDetails: d})
	})
}

// listMost is how many tokens or accounts a page shows. The API has them all.
const listMost = 500

type accountsBody struct {
	permitted
	Query string
	Total int
	All   []admin.Phone
}

func (s *Server) accountsPage(w http.ResponseWriter, r *http.Request, x *session) {
	b := accountsBody{permitted: x.permitted(), Query: r.URL.Query().Get("q")}
	for _, p := range s.o.Rows.Phones() {
		b.Total++
		if len(b.All) < listMost && (strings.Contains(p.User, b.Query) || p.Number == b.Query) {
			b.All = append(b.All, admin.PhoneOf(p))
		}
	}
	s.show(w, x, "accounts.html", "SIP phones", "accounts", b)
}

type enrolmentBody struct {
	permitted
	Approves bool // phones may wait
	Waiting  []admin.Waiter
	Total    int
	All      []admin.Token
}

func (s *Server) enrolmentPage(w http.ResponseWriter, _ *http.Request, x *session) {
	b := enrolmentBody{permitted: x.permitted(), Approves: s.o.Waiting != nil, Waiting: admin.WaitersOf(s.o.Waiting.List(time.Now()))}
	for _, t := range s.o.Rows.Tokens() {
		b.Total++
		if len(b.All) < listMost {
			b.All = append(b.All, admin.TokenOf(t, ""))
		}
	}
	s.show(w, x, "enrolment.html", "Enrolment", "enrolment", b)
}

type accessBody struct {
	permitted
	All []store.APIToken
}

func (s *Server) accessPage(w http.ResponseWriter, _ *http.Request, x *session) {
	s.show(w, x, "access.html", "API access", "api-access", accessBody{x.permitted(), s.o.Rows.APITokens()})
}

// sentence makes an error one for people: without the names of packages.
func sentence(err error) string {
	var e *store.Error
	if errors.As(err, &e) {
		return e.Text
	}
	text := err.Error()
	for _, p := range []string{"store: ", "web: "} {
		text = strings.TrimPrefix(text, p)
	}
	return text
}
