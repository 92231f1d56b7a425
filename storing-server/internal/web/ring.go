package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/ring"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

const (
	// pageCookie holds what a browser keeps to get the same number again: 400 days are
	// the most that browsers keep any.
	pageCookie = "storing-server-phone"
	pageKept   = 400 * 24 * time.Hour
	// pageLease is for how long a browser is online without a word of its server's, which
	// renews that each pageRenew while a page is open.
	pageLease = 2 * time.Minute
	pageRenew = 50 * time.Second
	// openEvery is how often one network may open a page, after openBurst at once, as
	// many come back when the server was restarted.
	openEvery = time.Second
	openBurst = 32
	// closeMost bounds how long it may take to write that a page is closed.
	closeMost = 5 * time.Second
)

var (
	barCalled  = &barrier{http.StatusUnauthorized, "Who is called?", "To be called here, log in, or open the whole link that you were given.", true}
	barCookie  = &barrier{http.StatusForbidden, "This browser keeps nothing", "It has to keep a cookie of this page, so that it gets the same number again. Allow that, and load the page again.", false}
	barMany    = &barrier{http.StatusForbidden, "Too many browsers", "As many have a number by this link, or by logins, as may. Ask whoever keeps the storing server for a link of your own.", false}
	barNumbers = &barrier{http.StatusServiceUnavailable, "No number is left", "All short numbers are given out. Tell whoever keeps the storing server.", false}
)

// PhonePath is where a browser is called, by the token of a link; empty: by a login.
func PhonePath(token string) string {
	return withToken("/phone", token)
}

// rings adds the routes of browsers that phones call.
func (s *Server) rings(mux *http.ServeMux) {
	mux.HandleFunc("GET /phone", s.ringPage)
	mux.HandleFunc("GET /phone/calls", s.ringCalls)
	mux.HandleFunc("POST /phone/calls/{call}", s.answering(func(r *http.Request) (int, pageAnswer) {
		return s.ringAnswered(r, func(r *http.Request, name string) (wire.BrowserOffer, error) {
			o, err := parseOffer(r.Body, false)
			o.Name = name
			return o, err
		})
	}))
	mux.HandleFunc("POST /phone/calls/{call}/refusal", s.answering(func(r *http.Request) (int, pageAnswer) {
		return s.ringAnswered(r, func(r *http.Request, _ string) (wire.BrowserOffer, error) { return parseRefusal(r.Body) })
	}))
}

// A receiver is a browser that may be called.
type receiver struct {
	guest
	page store.PageHash
}

// receives says whose browser a request is of. used says that somebody has done something,
// rather than left a page open.
func (s *Server) receives(r *http.Request, used bool) (v receiver, err error) {
	whose := operatorName
	if token := r.URL.Query().Get(linkParameter); token != "" {
		v.link = hashCallLink(token)
		l, ok := s.o.Rows.CallLink(v.link)
		if !ok {
			if !s.guesses.Allow(trust.NetworkOf(s.sourceOf(r)), s.o.Now()) {
				return v, barTries
			}
			return v, barUnknown
		}
		if err := l.Called(time.Now()); err != nil {
			return v, err
		}
		v.name, whose = l.Name, string(v.link[:])
	} else if x, ok := s.session(r, used); ok {
		v.name, v.session = operatorName, x
	} else {
		return v, barCalled
	}
	c, err := r.Cookie(pageCookie)
	if err != nil || len(c.Value) < secretLeast {
		return v, barCookie
	}
	v.page = sha256.Sum256([]byte("flexphone page\x00" + c.Value + "\x00" + whose))
	return v, nil
}

// secretLeast is how long what a browser keeps is, at least: rand.Text is longer.
const secretLeast = 20

// open gives a browser its number, for as long as pageLease, and the same one again.
func (s *Server) open(ctx context.Context, v receiver) (wire.Row, error) {
	by := &v.link
	if v.session != nil {
		by = nil
	}
	row, err := s.o.Rows.OpenPage(ctx, v.page, by, v.name, pageLease)
	switch {
	case errors.Is(err, store.ErrTooManyPages):
		err = barMany
	case errors.Is(err, store.ErrNoNumber):
		err = barNumbers
	}
	return row, err
}

type ringBody struct {
	Name string
	// Lock names the browser, so that one of its tabs takes the calls.
	Lock string
}

func (s *Server) ringPage(w http.ResponseWriter, r *http.Request) {
	kept := http.Cookie{Name: pageCookie, Value: rand.Text()}
	if c, err := r.Cookie(pageCookie); err == nil && len(c.Value) >= secretLeast {
		kept.Value = c.Value
	} else {
		r.AddCookie(&kept)
	}
	v, err := s.receives(r, true)
	page := view{Title: "Phone"}
	if v.session != nil {
		page.CSRF, page.Role = v.session.csrf, v.session.role
	}
	if err != nil {
		b := barrierOf(err)
		page.Title, page.Body = b.Title, b
		s.render(w, b.status, "nocall.html", page)
		return
	}
	kept.Path, kept.MaxAge = "/phone", int(pageKept.Seconds())
	kept.HttpOnly, kept.Secure, kept.SameSite = true, true, http.SameSiteStrictMode
	http.SetCookie(w, &kept)
	page.Body = ringBody{v.name, hex.EncodeToString(v.page[:8])}
	s.render(w, http.StatusOK, "ring.html", page)
}

// A ringWord is what a page hears: its number, or a call, or why it is not called any more.
type ringWord struct {
	Number string `json:"number,omitempty"`
	Call   string `json:"call,omitempty"`
	From   string `json:"from,omitempty"` // the number of who calls
	Key    string `json:"key,omitempty"`  // the fingerprint of its key
	Over   bool   `json:"over,omitempty"`
	Barred string `json:"barred,omitempty"` // and what to do about it
	// STUN is where the page learns as what it is seen, and Relay by what the page reaches that phone where nothing else leads there.
	STUN  int        `json:"stun,omitempty"`
	Relay *ringRelay `json:"relay,omitempty"`
}

type ringRelay struct {
	Port     int    `json:"port"`
	Name     string `json:"name"`
	Password string `json:"password"`
}

// ringCalls lets a browser be called for as long as it reads this, as server-sent events.
func (s *Server) ringCalls(w http.ResponseWriter, r *http.Request) {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		http.Error(w, "a request of another site is not answered", http.StatusForbidden)
		return
	}
	if s.o.Ring == nil || !s.opening.Allow(trust.NetworkOf(s.sourceOf(r)), s.o.Now()) {
		http.Error(w, "too many pages are opened", http.StatusServiceUnavailable)
		return
	}
	out := http.NewResponseController(w)
	write := func(text string) bool {
		_ = out.SetWriteDeadline(time.Now().Add(2 * heartbeat)) // an unbuffered test's writer has none
		_, err := w.Write([]byte(text))
		return err == nil && out.Flush() == nil
	}
	say := func(word ringWord) bool {
		text, err := json.Marshal(word)
		return err == nil && write(fmt.Sprintf("data: %s\n\n", text))
	}
	bar := func(err error) { b := barrierOf(err); say(ringWord{Barred: b.Title + ". " + b.Text}) }

	v, err := s.receives(r, true)
	if err != nil {
		w.Header().Set("Content-Type", eventStream)
		bar(err)
		return
	}
	own, known := s.o.Rows.PageMAC(v.page)
	var row wire.Row
	if !known {
		if row, err = s.open(r.Context(), v); err != nil {
			w.Header().Set("Content-Type", eventStream)
			bar(err)
			return
		}
		own = row.MAC
	}
	tab, err := s.o.Ring.Attach(own)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer s.leave(r.Context(), own, tab)
	w.Header().Set("Content-Type", eventStream)
	number := ""
	renew := func() bool { // after Attach, so that no page that is closed meanwhile takes it away
		row, err := s.open(r.Context(), v)
		switch {
		case err != nil:
			var b *barrier
			if errors.Is(err, store.ErrUnavailable) && !errors.As(err, &b) {
				return number != "" // it is tried again, while it lasts
			}
			bar(err)
			return false
		case row.MAC != own: // forgotten meanwhile: the page comes again
			return false
		case row.Number == number:
			return true
		}
		number = row.Number
		return say(ringWord{Number: number})
	}
	if !renew() {
		return
	}
	beat, again := time.NewTicker(heartbeat), time.NewTicker(pageRenew)
	defer beat.Stop()
	defer again.Stop()
	for {
		ok := true
		select {
		case e := <-tab.Events():
			ok = say(s.ringWordOf(e))
		case <-again.C:
			ok = renew()
		case <-beat.C:
			if _, err := s.receives(r, false); err != nil {
				bar(err)
				return
			}
			ok = write(": still here\n\n")
		case <-s.ending:
			return
		case <-r.Context().Done():
			return
		}
		if !ok {
			return
		}
	}
}

func (s *Server) ringWordOf(e ring.Event) ringWord {
	word := ringWord{Call: e.Call, Over: e.Over}
	if row, ok := s.o.Rows.Resolve(wire.Query{MAC: e.From}); ok && !e.Over {
		word.From, word.Key, word.STUN = row.Number, row.Fingerprint.String(), s.o.STUN
		if word.From == "" {
			word.From = row.MAC.Digits()
		}
		if s.o.Relay != nil {
			if by := s.o.Relay(row.MAC); by.Port != 0 {
				word.Relay = &ringRelay{by.Port, by.Name, by.Password}
			}
		}
	}
	return word
}

// leave closes a tab, and writes that it was the browser's last.
func (s *Server) leave(ctx context.Context, own wire.MAC, tab *ring.Tab) {
	if !tab.Close() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeMost)
	defer cancel()
	if err := s.o.Rows.ClosePage(ctx, own, func() bool { return s.o.Ring.Open(own) }); err != nil {
		s.o.Log.Info("closed page not written: its row expires", "mac", own.String(), "err", err)
	}
}

func parseRefusal(r io.Reader) (o wire.BrowserOffer, err error) {
	var in struct {
		Reason string `json:"reason"`
	}
	if err := json.NewDecoder(r).Decode(&in); err != nil {
		return o, err
	}
	switch in.Reason {
	case "busy", "declined", "failed":
		return wire.BrowserOffer{Refusal: in.Reason}, nil
	}
	return o, errors.New("no such reason")
}

// ringAnswered brings what a page says to the phone that calls it, and that one's answer
// back.
func (s *Server) ringAnswered(r *http.Request, read func(r *http.Request, name string) (wire.BrowserOffer, error)) (int, pageAnswer) {
	v, err := s.receives(r, true)
	if err != nil {
		return refusedBy(err)
	}
	own, ok := s.o.Rows.PageMAC(v.page)
	if s.o.Ring == nil || !ok {
		return http.StatusGone, pageAnswer{Error: "This browser is not called. Load the page again."}
	}
	o, err := read(r, v.name)
	if err != nil {
		return noOffer()
	}
	ctx, cancel := context.WithTimeout(r.Context(), callMost)
	defer cancel()
	a, err := s.o.Ring.Offer(ctx, own, strings.ToLower(r.PathValue("call")), o)
	switch {
	case errors.Is(err, ring.ErrOver):
		return http.StatusGone, pageAnswer{Error: "The call is over, or another page has taken it."}
	case err != nil:
		s.o.Log.Info("phone not answered for a browser", "mac", own.String(), "err", err)
		return http.StatusBadGateway, pageAnswer{Error: "The phone has hung up, or cannot be reached any more."}
	}
	return http.StatusOK, pageAnswer{Answer: a.Description, Key: a.Key, Signature: a.Signature, Refusal: a.Refusal}
}
