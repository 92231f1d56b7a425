package web

import (
	"net/netip"

	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// Events of the audit log that are about who comes in, rather than about rows.
const (
	EventLogin        = "login"         // somebody had the password
	EventLoginRefused = "login-refused" // somebody had not
	EventAPIRefused   = "api-refused"   // a request had no token that is good
)

// How many lines of refusals the audit log takes: of one network, and of all.
const (
	auditEach  = 10.0 / 60 // a second
	auditBurst = 10
	auditAll   = 1.0
	auditMost  = 100
)

// audited reports whether one more refusal of who is at from is written down:
// who tries without end fills no disk.
func (s *Server) audited(from netip.Addr) bool {
	now := s.o.Now()
	return s.each.Allow(trust.NetworkOf(from), now) && s.all.Allow(struct{}{}, now)
}

// audit writes down who came in, or did not.
func (s *Server) audit(event string, from netip.Addr, why string) {
	if s.o.Audit == nil {
		return
	}
	if err := s.o.Audit([]store.Event{{Event: event, By: "address " + from.String(), Name: why}}); err != nil {
		s.o.Log.Error("not in the audit log", "event", event, "from", from, "err", err)
	}
}
