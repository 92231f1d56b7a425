package sip

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/icholy/digest"

	"flexphone/internal/sipcheck"
	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// How long a registration holds. Less than the least is refused, so that
// nobody writes to the disk all the time.
const (
	minExpires     = 60 * time.Second
	defaultExpires = time.Hour
	maxExpires     = 2 * time.Hour
)

// storeMost bounds the wait for the disk; a phone has asked again by then.
const storeMost = 10 * time.Second

// authenticate says whose credentials a request carries. When they are not
// good, refused says so, and user is who may try again: the nonce of a
// challenge is newer than any that user has registered with.
func (s *Server) authenticate(req *sipcheck.Message, user string, at trust.Network, now time.Time) (p store.Phone, c *digest.Credentials, place int64, refused *reply) {
	mac := store.UserMAC(user)
	p, known := s.rows.Phone(mac)
	challenge := func(stale bool) *reply {
		next := now.UnixMicro()
		if b, ok := s.rows.Binding(mac); ok && b.Nonce >= next {
			next = b.Nonce + 1 // the clock was put back, or there are two in this microsecond
		}
		r := answer(401, s.sign.challenges(p, next, now, stale)...)
		return &r
	}
	for _, f := range req.Fields {
		if f.Name != "Authorization" {
			continue
		}
		if cred, err := digest.ParseCredentials(f.Value); err == nil && cred.Realm == Realm {
			c = cred
			break
		}
	}
	if c == nil {
		return p, nil, 0, challenge(false)
	}
	what, place := s.sign.prove(c, req.Method, p, known, now)
	switch what {
	case proven:
		return p, c, place, nil
	case expired:
		return p, nil, 0, challenge(true)
	}
	// A digest that is wrong costs the one who guesses a place in a short line.
	if !s.guesses.Allow(at, now) {
		return p, nil, 0, &reply{}
	}
	s.log.Debug("wrong digest", "user", user)
	r := answer(403)
	return p, nil, 0, &r
}

// register answers REGISTER: the phone that its To names is from now on where
// its Contact says.
func (s *Server) register(ctx context.Context, req *sipcheck.Message, at trust.Network) reply {
	now := time.Now()
	user := req.User("To")
	if !store.ValidUser(user) {
		return answer(404)
	}
	p, c, place, refused := s.authenticate(req, user, at, now)
	if refused != nil {
		return *refused
	}
	wanted, refused := contacts(req)
	if refused != nil {
		return *refused
	}
	present, _ := s.rows.Binding(p.MAC)
	b := store.Binding{Nonce: place, Count: uint32(c.Nc), CSeq: req.Seq()}
	id := sha256.Sum256([]byte(req.Get("Call-ID")))
	b.CallID = id[:16]
	var lifetime time.Duration
	switch one, ok := wanted.best(); {
	case ok:
		if one.expires < minExpires {
			return answer(423, header{Name: "Min-Expires", Value: strconv.Itoa(int(minExpires / time.Second))})
		}
		if s.ours(netip.AddrPortFrom(one.addr, one.port)) {
			return answer(482) // calls would come back here for ever
		}
		b.Contact, b.Addr, b.Port, lifetime = one.uri, one.addr, one.port, min(one.expires, maxExpires)
	case wanted.withdraws(present.Contact):
		b.Contact = present.Contact
	default: // a question, or an end of what is not there
		return s.registered(p.MAC, now)
	}
	ctx, cancel := context.WithTimeout(ctx, storeMost)
	defer cancel()
	_, err := s.rows.Bind(ctx, p.MAC, b, lifetime)
	var e *store.Error
	switch {
	case err == nil:
		return s.registered(p.MAC, now)
	case errors.Is(err, store.ErrOldNonce):
		return answer(401, s.sign.challenges(p, max(now.UnixMicro(), present.Nonce+1), now, true)...)
	case errors.Is(err, store.ErrOutOfOrder):
		return answer(500, header{Name: "Retry-After", Value: "1"})
	case errors.As(err, &e):
		return answer(404) // removed meanwhile
	}
	if s.complaints.Allow(struct{}{}, now) { // all phones come again
		s.log.Error("registration not written", "user", user, "err", err)
	}
	return answer(503, header{Name: "Retry-After", Value: "5"})
}

// registered says where the phone is now.
func (s *Server) registered(mac wire.MAC, now time.Time) reply {
	r := answer(200, header{Name: "Date", Value: now.UTC().Format(http.TimeFormat)})
	row, ok := s.rows.Resolve(wire.Query{MAC: mac})
	b, bound := s.rows.Binding(mac)
	if ok && bound && row.State == wire.Online {
		left := max(1, int(row.Expiry.Sub(now).Round(time.Second)/time.Second))
		r.headers = append(r.headers, header{Name: "Contact", Value: fmt.Sprintf("<%s>;expires=%d", b.Contact, left)})
	}
	return r
}

// A contact is one place to be called at.
type contact struct {
	uri     string
	addr    netip.Addr
	port    uint16
	expires time.Duration
	q       float64
}

// A wish is all that a REGISTER says.
type wish struct {
	all  bool // Contact: *
	list []contact
}

// best is the contact to be called at.
func (w wish) best() (out contact, ok bool) {
	for _, c := range w.list {
		if c.expires > 0 && (!ok || c.q > out.q) {
			out, ok = c, true
		}
	}
	return out, ok
}

// withdraws reports whether present is to be forgotten.
func (w wish) withdraws(present string) bool {
	if present == "" {
		return false
	}
	for _, c := range w.list {
		if c.uri == present {
			return true
		}
	}
	return w.all
}

// contacts reads the Contacts of a REGISTER.
func contacts(req *sipcheck.Message) (w wish, refused *reply) {
	no := func(code int) (wish, *reply) {
		r := answer(code)
		return wish{}, &r
	}
	expires := defaultExpires
	said := req.Count("Expires") > 0
	if said {
		expires = seconds(req.Get("Expires"))
	}
	found := req.Values("Contact")
	if len(found) > wire.MaxAddrs {
		return no(400)
	}
	for _, value := range found {
		if value == "*" {
			if len(found) > 1 || !said || expires != 0 {
				return no(400) // RFC 3261, section 10.3, step 6
			}
			return wish{all: true}, nil
		}
		one, ok := contactOf(value, expires)
		if !ok {
			return no(400)
		}
		w.list = append(w.list, one)
	}
	return w, nil
}

// contactOf reads one, which must be an address that can be called.
func contactOf(value string, expires time.Duration) (contact, bool) {
	c, _ := sipcheck.ReadContact(value)
	at, ok := sipcheck.ReadPlace(c.URI)
	if !ok || !callable(c.URI, at) {
		return contact{}, false
	}
	out := contact{uri: c.URI, expires: expires, q: 1, port: portSIP}
	switch t, _ := at.Param("transport"); strings.ToLower(t) {
	case "", "udp", "tcp":
	case "tls":
		out.port = portSIPS
	default:
		return contact{}, false
	}
	if at.Port > 0 {
		out.port = at.Port
	}
	if out.addr, ok = hostAddr(at.Host); !ok || !wire.Callable(out.addr) {
		return contact{}, false
	}
	if v, ok := c.Param("expires"); ok {
		out.expires = seconds(v)
	}
	if v, ok := c.Param("q"); ok {
		if q, err := strconv.ParseFloat(v, 64); err == nil && q >= 0 && q <= 1 {
			out.q = q
		}
	}
	return out, true
}

// callable reports whether a URI can be given to whoever calls.
func callable(uri string, at sipcheck.Place) bool {
	_, elsewhere := at.Param("maddr")
	return at.Scheme == "sip" && !at.Headers && at.Password == "" && !elsewhere && len(uri) <= maxURI && plain(uri)
}

// seconds reads delta-seconds; what is malformed counts as an hour (RFC 3261,
// section 10.2.1.1).
func seconds(s string) time.Duration {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 32)
	if err != nil {
		return defaultExpires
	}
	return time.Duration(n) * time.Second
}
