package web

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/admin"
	"flexphone/storing-server/internal/store"
)

// A form is what a button on a page does. It returns where to go on, and what
// to say there.
type form func(s *Server, ctx context.Context, r *http.Request) (to string, say flash, err error)

// pageForms are all forms, each with the least role that may send it.
var pageForms = []struct {
	pattern string
	role    store.Role
	act     form
}{
	{"/phones/{mac}/number", store.RoleNumbers, setNumber},
	{"/phones/{mac}/name", store.RoleAll, setName},
	{"/phones/{mac}/forget-key", store.RoleAll, forgetKey},
	{"/phones/{mac}/forget", store.RoleAll, forgetPhone},
	{"/numbers/free", store.RoleNumbers, freeNumber},
	{"/tokens", store.RoleAll, makeToken},
	{"/tokens/{id}/revoke", store.RoleAll, revokeToken},
	{"/waiting/{mac}/approve", store.RoleAll, approve},
	{"/accounts", store.RoleAll, addAccount},
	{"/accounts/{user}/remove", store.RoleAll, removeAccount},
	{"/call-links", store.RoleAll, makeCallLink},
	{"/call-links/{id}/revoke", store.RoleAll, revokeCallLink},
	{"/api-access", store.RoleAll, makeAPIToken},
	{"/api-access/{id}/revoke", store.RoleAll, revokeAPIToken},
}

// forms adds the routes of the forms. Each leads on to a page, so that nothing
// is done twice by loading that again.
func (s *Server) forms(mux *http.ServeMux) {
	mux.HandleFunc("POST /logout", s.form(store.RoleRead, nil))
	for _, f := range pageForms {
		mux.HandleFunc("POST "+f.pattern, s.form(f.role, f.act))
	}
}

// form answers who is logged in, in a role that may do it, and has got the form
// from here. Without an f it logs out.
func (s *Server) form(need store.Role, f form) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x, ok := s.session(r, true)
		if !ok {
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		if err := r.ParseForm(); err != nil {
			s.refuse(w, x, bad("the form did not come whole"))
			return
		}
		if !x.meant(r.PostForm.Get("csrf")) {
			s.refuse(w, x, &apiError{http.StatusForbidden, "this form is of another login: load the page again"})
			return
		}
		if !x.role.May(need) {
			s.refuse(w, x, &apiError{http.StatusForbidden, fmt.Sprintf("this login may %s: the password of the role %s is wanted", x.role, need)})
			return
		}
		if f == nil {
			c, err := r.Cookie(cookieName)
			if err == nil {
				s.logins.end(c.Value)
			}
			http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode})
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), changeMost)
		defer cancel()
		to, say, err := f(s, store.By(ctx, "login "+x.from+" as "+string(x.role)), r)
		if err != nil {
			say = flash{Text: "Not done: " + sentence(err) + ".", Bad: true}
		}
		x.say(say)
		http.Redirect(w, r, to, http.StatusSeeOther)
	}
}

func field(r *http.Request, name string) string { return strings.TrimSpace(r.PostForm.Get(name)) }

// ofPhone is for forms about one phone.
func ofPhone(r *http.Request) (mac wire.MAC, to string, err error) {
	if mac, err = pathMAC(r); err != nil {
		return mac, "/phones", err
	}
	return mac, "/phones/" + mac.Hex(), nil
}

func setNumber(s *Server, ctx context.Context, r *http.Request) (string, flash, error) {
	mac, to, err := ofPhone(r)
	number := field(r, "number")
	if err == nil {
		err = s.o.Rows.SetNumber(ctx, mac, number)
	}
	return to, flash{Text: "The number is " + number + " now."}, err
}

func setName(s *Server, ctx context.Context, r *http.Request) (string, flash, error) {
	mac, to, err := ofPhone(r)
	if err == nil {
		err = s.o.Rows.SetNaming(ctx, mac, store.Naming{Name: field(r, "name"), Labels: strings.Split(field(r, "labels"), ",")})
	}
	return to, flash{Text: "The name and the labels are kept."}, err
}

func forgetKey(s *Server, ctx context.Context, r *http.Request) (string, flash, error) {
	mac, to, err := ofPhone(r)
	if err == nil {
		err = s.o.Rows.ForgetKey(ctx, mac)
	}
	return to, flash{Text: "The key is forgotten: the next one that may enrol owns the number."}, err
}

func forgetPhone(s *Server, ctx context.Context, r *http.Request) (string, flash, error) {
	mac, to, err := ofPhone(r)
	if err == nil {
		err = s.o.Rows.Forget(ctx, mac)
	}
	if err != nil {
		return to, flash{}, err
	}
	return "/phones", flash{Text: mac.String() + " is forgotten."}, nil
}

func freeNumber(s *Server, ctx context.Context, r *http.Request) (string, flash, error) {
	number := field(r, "number")
	return "/enrolment", flash{Text: number + " may be given out again."}, s.o.Rows.FreeNumber(ctx, number)
}

func makeToken(s *Server, ctx context.Context, r *http.Request) (string, flash, error) {
	const to = "/enrolment"
	hours, err := strconv.Atoi(field(r, "hours"))
	if err != nil || hours < 1 || hours > int(validMost/time.Hour) {
		return to, flash{}, bad("hours: want 1 to %d", int(validMost/time.Hour))
	}
	var mac wire.MAC
	whose := "any phone"
	if text := field(r, "mac"); text != "" {
		if mac, err = wire.ParseMAC(text); err != nil {
			return to, flash{}, err
		}
		whose = mac.String()
	}
	text, _, err := s.o.Rows.MakeToken(ctx, mac, time.Duration(hours)*time.Hour)
	return to, flash{Text: fmt.Sprintf("A token for %s, shown this once. It goes into the phone's settings as enrolment_token.", whose), Secret: text}, err
}

func revokeToken(s *Server, ctx context.Context, r *http.Request) (string, flash, error) {
	return "/enrolment", flash{Text: "The token is worth nothing now."}, s.o.Rows.RevokeToken(ctx, r.PathValue("id"))
}

func approve(s *Server, ctx context.Context, r *http.Request) (string, flash, error) {
	const to = "/enrolment"
	mac, err := pathMAC(r)
	if err != nil {
		return to, flash{}, err
	}
	key, err := wire.ParseFingerprint(field(r, "fingerprint"))
	if err != nil {
		return to, flash{}, bad("fingerprint: %v", err)
	}
	return to, flash{Text: mac.String() + " may enrol when it asks again, within a week."}, admin.Approve(ctx, s.o.Rows, s.o.Waiting, mac, key)
}

func addAccount(s *Server, ctx context.Context, r *http.Request) (string, flash, error) {
	out, err := s.addAccount(ctx, field(r, "user"), r.PostForm.Get("password"), r.PostForm.Get("md5") != "")
	say := flash{Text: fmt.Sprintf("%s may register. It is called by %s.", out.User, numberOr(out.Number, out.MAC)), Secret: out.Password}
	if out.Password != "" {
		say.Text += " Its password is shown this once."
	}
	return "/accounts", say, err
}

func numberOr(number string, mac wire.MAC) string {
	if number == "" {
		return mac.Digits()
	}
	return number
}

func removeAccount(s *Server, ctx context.Context, r *http.Request) (string, flash, error) {
	user := r.PathValue("user")
	return "/accounts", flash{Text: user + " is removed."}, s.removeAccount(ctx, user)
}

func makeAPIToken(s *Server, ctx context.Context, r *http.Request) (string, flash, error) {
	const to = "/api-access"
	name := field(r, "name")
	text, hash, err := NewAPIToken(name)
	if err == nil {
		_, err = s.o.Rows.AddAPIToken(ctx, hash, store.APIToken{Name: name, Role: store.Role(field(r, "role")), Expires: lasts(field(r, "days"))})
	}
	return to, flash{Text: "The token of " + name + ", shown this once.", Secret: text}, err
}

// lasts returns when so many days from now are over; zero: never.
func lasts(days string) time.Time {
	n, err := strconv.Atoi(days)
	if err != nil || n <= 0 || n > 36500 {
		return time.Time{}
	}
	return time.Now().AddDate(0, 0, n)
}

func revokeAPIToken(s *Server, ctx context.Context, r *http.Request) (string, flash, error) {
	return "/api-access", flash{Text: "The token is worth nothing now."}, s.o.Rows.RevokeAPIToken(ctx, r.PathValue("id"))
}
