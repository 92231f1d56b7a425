package web

import (
	"context"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/admin"
	"flexphone/storing-server/internal/quality"
	"flexphone/storing-server/internal/sip"
	"flexphone/storing-server/internal/store"
)

// How many rows a page has.
const (
	pageRows = 50 // for people
	apiRows  = 100
	apiMost  = 1000
)

// validMost bounds how long a token can be used.
const validMost = 366 * 24 * time.Hour

// serverInfo is what there is to say of the server.
type serverInfo struct {
	Rows int `json:"rows"`
}

func (s *Server) apiServer(context.Context, *http.Request) (any, error) {
	return serverInfo{Rows: s.o.Rows.Size()}, nil
}

// row returns a row as JSON and the pages have it.
func (s *Server) row(r wire.Row) admin.Row {
	if wire.IsBrowser(r.MAC) { // a page of rows does not say whose
		if whole, ok := s.o.Rows.Resolve(wire.Query{MAC: r.MAC}); ok {
			r = whole
		}
	}
	return admin.RowOf(r, s.o.Rows.Naming(r.MAC))
}

type phonesPage struct {
	Phones []admin.Row `json:"phones"`
	Next   *wire.MAC   `json:"next,omitempty"` // to be asked for as after
}

func (s *Server) apiPhones(ctx context.Context, r *http.Request) (any, error) {
	q := r.URL.Query()
	n := apiRows
	if text := q.Get("limit"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 || n > apiMost {
			return nil, bad("limit %q: want 1 to %d", text, apiMost)
		}
	}
	sel, err := selectionOf(q.Get("q"))
	if err != nil {
		return nil, err
	}
	after := wire.MAC{}
	if text := q.Get("after"); text != "" {
		if after, err = wire.ParseMAC(text); err != nil {
			return nil, bad("after: %v", err)
		}
	}
	rows, more, err := s.o.Rows.Page(ctx, sel, after, false, n)
	if err != nil {
		return nil, err
	}
	out := phonesPage{Phones: []admin.Row{}}
	for _, row := range rows {
		out.Phones = append(out.Phones, s.row(row))
	}
	if more {
		out.Next = &rows[len(rows)-1].MAC
	}
	return out, nil
}

// rowsShown are those that may come to stand on a page: all behind its
// beginning, up to its end if there is another page.
func rowsShown(r *http.Request, answer any) (first, last wire.MAC) {
	last = lastMAC
	if page, ok := answer.(phonesPage); ok && page.Next != nil {
		last = *page.Next
	}
	first, _ = wire.ParseMAC(r.URL.Query().Get("after")) // without one it is the first of all
	return first, last
}

// A stay is a time for which a phone had the same addresses.
type stay struct {
	Addrs []netip.Addr `json:"addrs"`
	From  time.Time    `json:"from"`
	Until *time.Time   `json:"until,omitempty"` // not yet, if it is missing
}

type phoneDetails struct {
	admin.Row
	User    string `json:"user,omitempty"` // of a standard SIP phone
	History []stay `json:"history"`
	Calls   []call `json:"calls,omitempty"` // of a phone that tells how they were
	Ways    *ways  `json:"ways,omitempty"`  // likewise
}

// Browser reports whether it is a browser that phones call.
func (d phoneDetails) Browser() bool { return wire.IsBrowser(d.MAC) }

// A call is how a phone heard one, in the units of the trade.
type call struct {
	Told        time.Time `json:"told"`
	MOS         float64   `json:"mos"`
	LostPercent float64   `json:"lost_percent"`
	DelayMS     int64     `json:"delay_ms"`
	JitterMS    int64     `json:"jitter_ms"`
	Seconds     int64     `json:"seconds"`
	Way         string    `json:"way"` // of its sound: direct, punched, relayed or unknown
}

// ways are how many calls of a phone's went how.
type ways struct {
	Direct  uint64 `json:"direct"`
	Punched uint64 `json:"punched"`
	Relayed uint64 `json:"relayed"`
	Unknown uint64 `json:"unknown"`
}

func callOf(c quality.Call) call {
	return call{
		Told: c.Told.UTC().Truncate(time.Second), MOS: float64(c.Opinion) / 100, LostPercent: float64(c.Lost) / 10,
		DelayMS: c.Delay.Milliseconds(), JitterMS: c.Jitter.Milliseconds(), Seconds: int64(c.Length / time.Second), Way: c.Way.String(),
	}
}

// Rated is what users think of such a call (ITU-T G.107, annex B).
func (c call) Rated() string {
	switch {
	case c.MOS >= 4.03:
		return "satisfied"
	case c.MOS >= 3.6:
		return "some dissatisfied"
	case c.MOS >= 3.1:
		return "many dissatisfied"
	}
	return "nearly all dissatisfied"
}

// Lasted is how long the call was.
func (c call) Lasted() time.Duration { return time.Duration(c.Seconds) * time.Second }

// details returns what is known of a phone.
func (s *Server) details(mac wire.MAC) (out phoneDetails, err error) {
	row, ok := s.o.Rows.Resolve(wire.Query{MAC: mac})
	if !ok {
		return out, &apiError{http.StatusNotFound, mac.String() + " was never registered"}
	}
	out.Row = s.row(row)
	if p, ok := s.o.Rows.Phone(mac); ok {
		out.User = p.User
	}
	stays, _ := s.o.Rows.History(mac)
	out.History = []stay{}
	for _, st := range stays {
		one := stay{Addrs: st.Addrs, From: st.From.UTC()}
		if !st.Until.IsZero() {
			until := st.Until.UTC().Truncate(time.Second)
			one.Until = &until
		}
		out.History = append(out.History, one)
	}
	if s.o.Calls != nil {
		calls, n := s.o.Calls(mac)
		for _, c := range calls {
			out.Calls = append(out.Calls, callOf(c))
		}
		if len(calls) > 0 {
			out.Ways = &ways{n[wire.WayDirect], n[wire.WayPunched], n[wire.WayRelayed], n[wire.WayUnknown]}
		}
	}
	return out, nil
}

// rowAsked is the row that the path names.
func rowAsked(r *http.Request, _ any) (first, last wire.MAC) {
	mac, _ := pathMAC(r) // which was answered for
	return mac, mac
}

func (s *Server) apiPhone(_ context.Context, r *http.Request) (any, error) {
	mac, err := pathMAC(r)
	if err != nil {
		return nil, err
	}
	return s.details(mac)
}

func (s *Server) apiForget(ctx context.Context, r *http.Request) (any, error) {
	mac, err := pathMAC(r)
	if err != nil {
		return nil, err
	}
	return nil, s.o.Rows.Forget(ctx, mac)
}

func (s *Server) apiForgetKey(ctx context.Context, r *http.Request) (any, error) {
	mac, err := pathMAC(r)
	if err != nil {
		return nil, err
	}
	return nil, s.o.Rows.ForgetKey(ctx, mac)
}

func (s *Server) apiSetNumber(ctx context.Context, r *http.Request) (any, error) {
	mac, err := pathMAC(r)
	if err != nil {
		return nil, err
	}
	var body struct {
		Number string `json:"number"`
	}
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	return nil, s.o.Rows.SetNumber(ctx, mac, body.Number)
}

func (s *Server) apiSetName(ctx context.Context, r *http.Request) (any, error) {
	mac, err := pathMAC(r)
	if err != nil {
		return nil, err
	}
	var body struct {
		Name   string   `json:"name"`
		Labels []string `json:"labels"`
	}
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	return nil, s.o.Rows.SetNaming(ctx, mac, store.Naming{Name: body.Name, Labels: body.Labels})
}

func (s *Server) apiFreeNumber(ctx context.Context, r *http.Request) (any, error) {
	return nil, s.o.Rows.FreeNumber(ctx, r.PathValue("number"))
}

type tokensList struct {
	Tokens []admin.Token `json:"tokens"`
}

func (s *Server) apiTokens(context.Context, *http.Request) (any, error) {
	out := tokensList{[]admin.Token{}}
	for _, t := range s.o.Rows.Tokens() {
		out.Tokens = append(out.Tokens, admin.TokenOf(t, ""))
	}
	return out, nil
}

func (s *Server) apiMakeToken(ctx context.Context, r *http.Request) (any, error) {
	var body struct {
		MAC     *wire.MAC `json:"mac"`
		Seconds int64     `json:"seconds"`
	}
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	if body.Seconds < 1 || body.Seconds > int64(validMost/time.Second) {
		return nil, bad("seconds: want 1 to %d", int64(validMost/time.Second))
	}
	var mac wire.MAC
	if body.MAC != nil {
		mac = *body.MAC
	}
	text, t, err := s.o.Rows.MakeToken(ctx, mac, time.Duration(body.Seconds)*time.Second)
	if err != nil {
		return nil, err
	}
	return admin.TokenOf(t, text), nil
}

func (s *Server) apiRevokeToken(ctx context.Context, r *http.Request) (any, error) {
	return nil, s.o.Rows.RevokeToken(ctx, r.PathValue("id"))
}

type waitingList struct {
	Waiting []admin.Waiter `json:"waiting"`
}

func (s *Server) apiWaiting(context.Context, *http.Request) (any, error) {
	return waitingList{admin.WaitersOf(s.o.Waiting.List(time.Now()))}, nil
}

func (s *Server) apiApprove(ctx context.Context, r *http.Request) (any, error) {
	mac, err := pathMAC(r)
	if err != nil {
		return nil, err
	}
	var body struct {
		Key wire.Fingerprint `json:"fingerprint"`
	}
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	return nil, admin.Approve(ctx, s.o.Rows, s.o.Waiting, mac, body.Key)
}

type accountsList struct {
	Accounts []admin.Phone `json:"accounts"`
}

func (s *Server) apiAccounts(context.Context, *http.Request) (any, error) {
	out := accountsList{[]admin.Phone{}}
	for _, p := range s.o.Rows.Phones() {
		out.Accounts = append(out.Accounts, admin.PhoneOf(p))
	}
	return out, nil
}

type newAccount struct {
	admin.Phone
	Password string `json:"password,omitempty"` // only if it was made here
}

func (s *Server) apiAddAccount(ctx context.Context, r *http.Request) (any, error) {
	var body struct {
		User     string `json:"user"`
		Password string `json:"password"`
		MD5      bool   `json:"md5"`
	}
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	return s.addAccount(ctx, body.User, body.Password, body.MD5)
}

// addAccount lets a standard SIP phone register. An empty password has one
// made.
func (s *Server) addAccount(ctx context.Context, user, password string, md5Only bool) (out newAccount, err error) {
	user = sip.UserName(strings.TrimSpace(user))
	if len(password) > MaxPassword || strings.ContainsFunc(password, func(r rune) bool { return r < ' ' }) {
		return out, bad("password: want at most %d characters, of one line", MaxPassword)
	}
	p := store.Phone{User: user, MAC: store.UserMAC(user)}
	if password == "" {
		password = sip.NewPassword()
		out.Password = password
	}
	p.MD5, p.SHA256 = sip.Secrets(user, password)
	if md5Only {
		p.SHA256 = nil
	}
	if p.Number, err = s.o.Rows.AddPhone(ctx, p); err != nil {
		return newAccount{}, err
	}
	out.Phone = admin.PhoneOf(p)
	return out, nil
}

func (s *Server) apiRemoveAccount(ctx context.Context, r *http.Request) (any, error) {
	return nil, s.removeAccount(ctx, r.PathValue("user"))
}

// removeAccount takes a standard SIP phone away, with its row and number.
func (s *Server) removeAccount(ctx context.Context, user string) error {
	user = sip.UserName(user)
	mac := store.UserMAC(user)
	if p, ok := s.o.Rows.Phone(mac); !ok || p.User != user {
		return &apiError{http.StatusNotFound, "no SIP phone is called so"}
	}
	return s.o.Rows.Forget(ctx, mac)
}
