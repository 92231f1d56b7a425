package sip

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"flexphone/internal/sipcheck"
	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// handle says how a request is answered.
func (s *Server) handle(ctx context.Context, req *sipcheck.Message, from netip.AddrPort) reply {
	if req.Method == "ACK" { // of a refusal, of which nothing is kept
		return reply{}
	}
	if refused := refusal(req); refused.code != 0 {
		return refused
	}
	at := trust.NetworkOf(from.Addr())
	switch req.Method {
	case "REGISTER":
		return s.register(ctx, req, at)
	case "INVITE":
		return s.invite(req, at)
	case "OPTIONS":
		return answer(200, header{Name: "Allow", Value: allowed}, header{Name: "Accept", Value: "application/sdp"}, header{Name: "Supported"})
	case "CANCEL":
		return answer(481) // the answer to what it would cancel has been given
	}
	if strings.Contains(others, " "+req.Method+" ") {
		return answer(405, header{Name: "Allow", Value: allowed})
	}
	return answer(501)
}

// invite answers INVITE with where the callee is now.
func (s *Server) invite(req *sipcheck.Message, at trust.Network) reply {
	now := time.Now()
	if hops := req.Get("Max-Forwards"); hops != "" && strings.Trim(hops, "0") == "" {
		return answer(483)
	}
	if req.Tag("To") != "" {
		return answer(481) // there are no dialogs here
	}
	var key wire.Fingerprint // of nobody in particular
	if s.policy.Resolve == trust.ResolveEnrolled {
		user := req.User("From")
		if !store.ValidUser(user) {
			return answer(403)
		}
		p, _, _, refused := s.authenticate(req, user, at, now)
		if refused != nil {
			return *refused
		}
		copy(key[:], p.MAC[:])
	}
	if !s.policy.May(key != wire.Fingerprint{}) {
		return answer(403)
	}
	if !s.policy.Lookups.Allow(key, at, now) {
		return answer(503, header{Name: "Retry-After", Value: "10"})
	}
	callee, _ := sipcheck.ReadPlace(req.URI)
	q, ok := queryOf(callee.PlainUser())
	if !ok {
		return answer(404)
	}
	row, ok := s.rows.Resolve(q)
	switch {
	case !ok:
		return answer(404)
	case row.State != wire.Online, wire.IsBrowser(row.MAC): // a browser is nowhere for SIP
		return answer(480)
	}
	r := answer(302)
	for i, uri := range s.urisOf(row) {
		r.headers = append(r.headers, header{Name: "Contact", Value: fmt.Sprintf("<%s>;q=%s", uri, strconv.FormatFloat(1-float64(i)/10, 'f', 1, 64))})
	}
	if len(r.headers) == 0 {
		return answer(482)
	}
	return r
}

// urisOf returns where a phone that is online is called, preferred first,
// leaving out what would come back here.
func (s *Server) urisOf(row wire.Row) (out []string) {
	if b, ok := s.rows.Binding(row.MAC); ok && row.Fingerprint == (wire.Fingerprint{}) {
		for _, a := range row.Addrs {
			if s.ours(netip.AddrPortFrom(a, row.Ports.SIP)) {
				return nil
			}
		}
		return []string{b.Contact}
	}
	port, params := row.Ports.SIP, ""
	if port == 0 {
		port, params = row.Ports.SIPS, ";transport=tls"
	}
	for _, a := range row.Addrs {
		if at := netip.AddrPortFrom(a, port); !s.ours(at) {
			out = append(out, uriOf(row.MAC.Hex(), at, params))
		}
	}
	return out
}

// queryOf reads whom a user part of a URI names: a short number, a MAC in
// hexadecimal or as 15 digits, or the user name of a standard phone.
func queryOf(user string) (wire.Query, bool) {
	switch {
	case wire.ValidNumber(user):
		return wire.Query{Number: user}, true
	case store.ValidUser(user):
		return wire.Query{MAC: store.UserMAC(user)}, true
	}
	return wire.Query{}, false
}
