package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// A Caller brings a browser's offer to a phone, and its answer back. An error means that
// the phone cannot be reached, or takes no calls from browsers.
type Caller interface {
	Call(ctx context.Context, to wire.MAC, o wire.BrowserOffer) (wire.BrowserAnswer, error)
}

const (
	// callMost bounds how long a phone may take to answer an offer.
	callMost = 15 * time.Second
	// callEvery is how often one network may call, after callBurst at once.
	callEvery = 2 * time.Second
	callBurst = 10
	// operatorName is whom phones show where an operator calls.
	operatorName = "operator"
	// linkParameter is the query's that has the token of a link.
	linkParameter = "link"
)

// NewCallLink draws the token of a link for calls. Its hash is what is kept.
func NewCallLink() (token string, hash store.CallLinkHash) {
	token = strings.ToLower(rand.Text())
	return token, hashCallLink(token)
}

func hashCallLink(token string) store.CallLinkHash { return sha256.Sum256([]byte(token)) }

// CallPath is where a browser calls a number, by a token; empty: by a login.
func CallPath(number, token string) string {
	return withToken("/call/"+number, token)
}

// withToken is path with the token of a link; empty: as it is.
func withToken(path, token string) string {
	if token != "" {
		path += "?" + url.Values{linkParameter: {token}}.Encode()
	}
	return path
}

// calls adds the routes of calls from browsers.
func (s *Server) calls(mux *http.ServeMux) {
	mux.HandleFunc("GET /call/{number}", s.callPage)
	mux.HandleFunc("POST /call/{number}", s.answering(s.called))
	mux.HandleFunc("POST /call/{number}/again", s.answering(s.calledAgain))
}

// A guest is who may call: an operator, or who has a link.
type guest struct {
	name    string
	session *session           // of an operator
	link    store.CallLinkHash // else
}

// A barrier is why somebody may not call, and what to do about it.
type barrier struct {
	status int
	Title  string
	Text   string
	Login  bool // may help
}

func (b *barrier) Error() string { return b.Text }

var (
	barLogin   = &barrier{http.StatusUnauthorized, "Who calls?", "To call from here, log in, or open the whole link that you were given.", true}
	barUnknown = &barrier{http.StatusForbidden, "This link is not good", "It is not known here: it was mistyped, or taken back. Ask whoever gave it to you for another.", false}
	barOver    = &barrier{http.StatusForbidden, "This link is over", "Its time has passed. Ask whoever gave it to you for another.", false}
	barUsed    = &barrier{http.StatusForbidden, "This link is used up", "All calls that it was good for were made. Ask whoever gave it to you for another.", false}
	barNumber  = &barrier{http.StatusForbidden, "This link is for other numbers", "It may not call this one. Open it as it was given to you.", false}
	barTries   = &barrier{http.StatusTooManyRequests, "Too many tries", "Wait a minute, and try again.", false}
	barNobody  = &barrier{http.StatusNotFound, "Nobody has this number", "No phone is called by it. Look whether it is right.", false}
	barOther   = &barrier{http.StatusForbidden, "This link is for something else", "It is either for calling or for being called. Open it as it was given to you.", false}
	barBrowser = &barrier{http.StatusNotFound, "This is a browser", "A browser is called from a phone.", false}
	barPlain   = &barrier{http.StatusNotFound, "This phone takes no calls from browsers", "It is a standard SIP phone. Call it from another phone.", false}
)

// barElsewhere sends a caller to the server that keeps the row: what is passed on of a call
// goes by the phone's session there.
func barElsewhere(to wire.Referral) *barrier {
	return &barrier{http.StatusNotFound, "This number is in another region",
		"It is kept by the storing server " + to.Server + ", and can be called from its pages alone. Ask whoever gave you the link for one that was made there.", false}
}

func barrierOf(err error) *barrier {
	var b *barrier
	switch {
	case errors.As(err, &b):
		return b
	case errors.Is(err, store.ErrNoCallLink):
		return barUnknown
	case errors.Is(err, store.ErrCallLinkOver):
		return barOver
	case errors.Is(err, store.ErrCallLinkUsed):
		return barUsed
	case errors.Is(err, store.ErrCallLinkNumber):
		return barNumber
	case errors.Is(err, store.ErrCallLinkOther):
		return barOther
	}
	return &barrier{http.StatusServiceUnavailable, "Not now", "The storing server cannot write. Try again in a minute.", false}
}

// mayCall says who a request is of, and whom it may call.
func (s *Server) mayCall(r *http.Request) (guest, wire.Row, error) {
	var g guest
	number := r.PathValue("number")
	if token := r.URL.Query().Get(linkParameter); token != "" {
		now := s.o.Now()
		g.link = hashCallLink(token)
		l, ok := s.o.Rows.CallLink(g.link)
		if !ok {
			if !s.guesses.Allow(trust.NetworkOf(s.sourceOf(r)), now) {
				return g, wire.Row{}, barTries
			}
			return g, wire.Row{}, barUnknown
		}
		if err := l.Calls(number, now); err != nil {
			return g, wire.Row{}, err
		}
		g.name = l.Name
	} else if x, ok := s.session(r, true); ok {
		g.name, g.session = operatorName, x
	} else {
		return g, wire.Row{}, barLogin
	}
	row, err := s.phoneOf(number)
	return g, row, err
}

// mayCallOn says whether a request may be of a page in a call: of an operator, or of who has a
// link, though it may be used up by that very call. The phone knows which call that is.
func (s *Server) mayCallOn(r *http.Request) error {
	if token := r.URL.Query().Get(linkParameter); token != "" {
		if _, ok := s.o.Rows.CallLink(hashCallLink(token)); ok {
			return nil
		}
		if !s.guesses.Allow(trust.NetworkOf(s.sourceOf(r)), s.o.Now()) {
			return barTries
		}
		return barUnknown
	}
	if _, ok := s.session(r, true); !ok {
		return barLogin
	}
	return nil
}

// phoneOf is the phone with a number, or with a MAC, that takes calls from browsers.
func (s *Server) phoneOf(number string) (wire.Row, error) {
	q := wire.Query{Number: number}
	if !wire.ValidNumber(number) {
		mac, err := wire.ParseDigits(number)
		if err != nil {
			return wire.Row{}, barNobody
		}
		q = wire.Query{MAC: mac}
	}
	row, ok := s.o.Rows.Resolve(q)
	switch to, away := s.elsewhere(q); {
	case !ok && away:
		return row, barElsewhere(to)
	case !ok:
		return row, barNobody
	case wire.IsBrowser(row.MAC):
		return row, barBrowser
	case row.Fingerprint == wire.Fingerprint{}:
		return row, barPlain
	}
	return row, nil
}

// elsewhere returns which other region's server keeps the row of q.
func (s *Server) elsewhere(q wire.Query) (to wire.Referral, ok bool) {
	to, ok = s.o.Rows.RegionOf(q)
	return to, ok && to.Key != s.o.Key
}

// A Relay is a TURN server on the host of the pages: its port, of UDP and TCP, and a name and
// a password for one call.
type Relay struct {
	Port           int // 0: there is none
	Name, Password string
}

type callBody struct {
	Number, Name string
	Key          string // of the phone: its fingerprint
	STUN         int    // port, on the host of the pages; 0: there is none
	Relay        Relay
}

func (s *Server) callPage(w http.ResponseWriter, r *http.Request) {
	g, row, err := s.mayCall(r)
	v := view{Title: "Call " + r.PathValue("number")}
	if g.session != nil {
		v.CSRF, v.Role = g.session.csrf, g.session.role
	}
	if err != nil {
		b := barrierOf(err)
		v.Title, v.Body = b.Title, b
		s.render(w, b.status, "nocall.html", v)
		return
	}
	body := callBody{Number: r.PathValue("number"), Name: g.name, Key: row.Fingerprint.String(), STUN: s.o.STUN}
	if s.o.Relay != nil {
		body.Relay = s.o.Relay(row.MAC)
	}
	v.Body = body
	s.render(w, http.StatusOK, "call.html", v)
}

// A pageOffer is what a page sends to call, and a pageAnswer what it gets.
type pageOffer struct {
	Offer string `json:"offer"`
	Nonce []byte `json:"nonce"`
	Of    []byte `json:"of"` // the first nonce, in a call that goes on
}

type pageAnswer struct {
	Answer    string `json:"answer,omitempty"`
	Key       []byte `json:"key,omitempty"`
	Signature []byte `json:"signature,omitempty"`
	Refusal   string `json:"refusal,omitempty"` // of the phone
	Error     string `json:"error,omitempty"`   // of the server, with what to do
}

// parseOffer reads the offer of a new call, or of one that goes on.
func parseOffer(r io.Reader, goesOn bool) (o wire.BrowserOffer, err error) {
	var in pageOffer
	if err := json.NewDecoder(r).Decode(&in); err != nil {
		return o, err
	}
	if len(in.Nonce) != len(o.Nonce) {
		return o, errors.New("nonce of another length")
	}
	copy(o.Nonce[:], in.Nonce)
	o.Name, o.Description = operatorName, in.Offer
	if goesOn {
		copy(o.Of[:], in.Of)
		if len(in.Of) != len(o.Of) || o.Of == (wire.Nonce{}) {
			return o, errors.New("nonce of no call")
		}
		o.Name = ""
	}
	return o, o.Validate()
}

// answering answers what a page asks. That it is the page's own says its origin, which guard
// has looked at, and a type of body that forms cannot send.
func (s *Server) answering(asked func(*http.Request) (int, pageAnswer)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, out := http.StatusUnsupportedMediaType, pageAnswer{Error: "want application/json"}
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && kind == "application/json" {
			status, out = asked(r)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(out) // who has gone does not want it
	}
}

func refusedBy(err error) (int, pageAnswer) {
	b := barrierOf(err)
	return b.status, pageAnswer{Error: b.Title + ". " + b.Text}
}

// called brings the offer of a page to a phone.
func (s *Server) called(r *http.Request) (int, pageAnswer) {
	g, row, err := s.mayCall(r)
	if err != nil {
		return refusedBy(err)
	}
	o, err := parseOffer(r.Body, false)
	if err != nil {
		return noOffer()
	}
	o.Name = g.name
	status, out := s.bring(r, row.MAC, o)
	if out.Answer != "" && g.session == nil {
		if err := s.o.Rows.UseCallLink(r.Context(), g.link, r.PathValue("number")); err != nil {
			return refusedBy(err) // the phone rings for nobody who does not have its answer
		}
	}
	return status, out
}

// calledAgain brings the offer of a page to the phone that it has lost in a call.
func (s *Server) calledAgain(r *http.Request) (int, pageAnswer) {
	if err := s.mayCallOn(r); err != nil {
		return refusedBy(err)
	}
	row, err := s.phoneOf(r.PathValue("number"))
	if err != nil {
		return refusedBy(err)
	}
	o, err := parseOffer(r.Body, true)
	if err != nil {
		return noOffer()
	}
	return s.bring(r, row.MAC, o)
}

func noOffer() (int, pageAnswer) {
	return http.StatusBadRequest, pageAnswer{Error: "The page has sent what is no offer: load it again."}
}

// bring brings an offer to a phone, and its answer back.
func (s *Server) bring(r *http.Request, to wire.MAC, o wire.BrowserOffer) (int, pageAnswer) {
	if s.o.Caller == nil || !s.calling.Allow(trust.NetworkOf(s.sourceOf(r)), s.o.Now()) {
		return refusedBy(barTries)
	}
	ctx, cancel := context.WithTimeout(r.Context(), callMost)
	defer cancel()
	a, err := s.o.Caller.Call(ctx, to, o)
	if err != nil {
		s.o.Log.Info("phone not reached for a browser", "mac", to.String(), "err", err)
		return http.StatusBadGateway, pageAnswer{Error: "The phone cannot be reached now. Try again in a minute."}
	}
	if a.Refusal != "" {
		return http.StatusOK, pageAnswer{Refusal: a.Refusal}
	}
	return http.StatusOK, pageAnswer{Answer: a.Description, Key: a.Key, Signature: a.Signature}
}
