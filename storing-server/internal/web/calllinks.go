package web

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
)

type linksBody struct {
	permitted
	All []store.CallLink
}

func (s *Server) linksPage(w http.ResponseWriter, _ *http.Request, x *session) {
	s.show(w, x, "calllinks.html", "Calls from browsers", "call-links", linksBody{x.permitted(), s.o.Rows.CallLinks()})
}

func makeCallLink(s *Server, ctx context.Context, r *http.Request) (string, flash, error) {
	const path = "/call-links"
	l := store.CallLink{
		Name: field(r, "name"), Expires: lasts(field(r, "days")),
		Numbers: strings.FieldsFunc(field(r, "numbers"), func(c rune) bool { return c == ',' || c == ' ' }),
	}
	if text := field(r, "times"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return path, flash{}, bad("calls: want a number from 1 on, or none")
		}
		l.Times = n
	}
	for _, n := range l.Numbers {
		if at, away := s.elsewhere(wire.Query{Number: n}); away {
			return path, flash{}, bad("number %s belongs to the region of %s: make the link there", n, at.Server)
		}
	}
	l.Receives = field(r, "for") == "called"
	token, hash := NewCallLink()
	if _, err := s.o.Rows.AddCallLink(ctx, hash, l); err != nil {
		return path, flash{}, err
	}
	scheme := "https://"
	if !s.encrypted() && !s.o.Proxied {
		scheme = "http://"
	}
	if l.Receives {
		return path, flash{Text: "The link by which " + l.Name + " is called in a browser, shown this once.", Secret: scheme + r.Host + PhonePath(token)}, nil
	}
	number, more := "NUMBER", " Put the number in place of NUMBER."
	if len(l.Numbers) > 0 {
		number, more = l.Numbers[0], ""
	}
	if len(l.Numbers) > 1 {
		more = fmt.Sprintf(" For the others, put their number in place of %s.", number)
	}
	return path, flash{Text: "The link of " + l.Name + ", shown this once." + more, Secret: scheme + r.Host + CallPath(number, token)}, nil
}

func revokeCallLink(s *Server, ctx context.Context, r *http.Request) (string, flash, error) {
	return "/call-links", flash{Text: "The link is worth nothing now."}, s.o.Rows.RevokeCallLink(ctx, r.PathValue("id"))
}
