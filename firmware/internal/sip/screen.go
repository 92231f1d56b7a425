package sip

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	gosip "github.com/emiago/sipgo/sip"
	"golang.org/x/time/rate"

	"flexphone/internal/sipcheck"
)

// How many INVITEs of strangers are looked at, a second and at once. People who
// call each other stay far below; the rest is refused without being remembered.
const (
	invitesPerSecond = 100
	invitesBurst     = 200
	invitesPerHost   = 20
	invitesHostBurst = 60
	maxHosts         = 1024    // remembered at a time
	maxPartial       = 256     // connections in the middle of a message
	maxHeld          = 1 << 20 // bytes of such beginnings, of all together
	partialTime      = 30 * time.Second
)

// A screen stands between the sockets and sipgo. It refuses what is no message,
// what somebody else says in the name of a peer, and what is too much, all without
// remembering anything of it; what is left it hands on in plain form.
type screen struct {
	a *Agent

	mu      sync.Mutex
	partial map[wire]*partial
	held    int // bytes in partial
	all     *rate.Limiter
	plain   map[netip.Prefix]*rate.Limiter
	secure  map[netip.Prefix]*rate.Limiter
}

// A wire is a connection by its ends.
type wire struct {
	network       string
	local, remote netip.AddrPort
}

// A partial is the beginning of a message in a stream.
type partial struct {
	text  []byte
	begun time.Time
}

func newScreen(a *Agent) *screen {
	return &screen{
		a: a, partial: make(map[wire]*partial),
		all:   rate.NewLimiter(invitesPerSecond, invitesBurst),
		plain: make(map[netip.Prefix]*rate.Limiter), secure: make(map[netip.Prefix]*rate.Limiter),
	}
}

// read takes what has come from the network and returns what sipgo is to read of
// it. An error closes the connection that it came on.
func (s *screen) read(at gosip.TransportReadProps, data []byte) (out []byte, err error) {
	defer s.a.contain("message", func() { out = nil })
	w := wire{at.Transport, addrPortOf(at.LocalAddr), addrPortOf(at.RemoteAddr)}
	if w.network != "UDP" {
		return s.stream(w, data)
	}
	m, err := sipcheck.Read(data)
	if err != nil {
		return nil, nil
	}
	s.trace(w, data)
	return s.message(w, m), nil
}

// trace tells of a message that has come, if that is wanted.
func (s *screen) trace(w wire, message []byte) {
	if s.a.cfg.Trace != nil {
		s.a.cfg.Trace(false, w.remote, message)
	}
}

// stream puts messages of a connection together.
func (s *screen) stream(w wire, data []byte) (out []byte, err error) {
	text, since := s.begun(w, data)
	if strings.Trim(string(text), "\r\n") == "" && len(text) <= 4 {
		return text, nil // a keep-alive, which sipgo answers (RFC 5626, 3.5.1)
	}
	for {
		n, err := sipcheck.Next(text)
		switch {
		case errors.Is(err, sipcheck.ErrNoEnd):
			if m, err := sipcheck.Read(text[:n]); err == nil {
				s.answer(w, m, 400)
			}
			return nil, err
		case err != nil:
			return nil, err
		case n == 0:
			s.keep(w, text, since)
			return out, nil
		}
		m, err := sipcheck.Read(text[:n])
		if err != nil {
			return nil, err
		}
		s.trace(w, text[:n])
		out = append(out, s.message(w, m)...)
		text, since = text[n:], time.Now()
	}
}

// begun is what w has brought so far of a message, with data after it, and when
// that began.
func (s *screen) begun(w wire, data []byte) ([]byte, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partial[w]
	s.forget(w)
	if p == nil || time.Since(p.begun) > partialTime { // too slow, or of an earlier connection with the same ends
		return data, time.Now()
	}
	return append(p.text, data...), p.begun
}

// keep keeps the beginning of a message. Of too many the oldest is lost, and of
// too long ones the longest: what anybody has to say is short.
func (s *screen) keep(w wire, text []byte, since time.Time) {
	if len(text) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partial[w] = &partial{append([]byte(nil), text...), since}
	s.held += len(text)
	for s.held > maxHeld {
		s.forget(s.first(func(a, b *partial) bool { return len(a.text) > len(b.text) }))
	}
	if len(s.partial) > maxPartial {
		s.forget(s.first(func(a, b *partial) bool { return a.begun.Before(b.begun) }))
	}
}

// first is the connection whose beginning of a message comes before all others.
func (s *screen) first(before func(a, b *partial) bool) wire {
	var out wire
	var best *partial
	for w, p := range s.partial {
		if best == nil || before(p, best) {
			out, best = w, p
		}
	}
	return out
}

// forget drops the beginning of a message; s.mu is held.
func (s *screen) forget(w wire) {
	if p := s.partial[w]; p != nil {
		s.held -= len(p.text)
		delete(s.partial, w)
	}
}

// message is m as sipgo is to read it; nil: not at all.
func (s *screen) message(w wire, m *sipcheck.Message) []byte {
	if flaw := m.Check(); flaw.Code != 0 {
		s.a.log.Debug("sip: message refused", "from", w.remote, "because", flaw.What)
		s.answer(w, m, flaw.Code)
		return nil
	}
	if k := s.opened(w); k != nil {
		k.speaks()
	}
	if !m.IsRequest() {
		if !s.expected(w, m) {
			return nil
		}
		return m.Tidy()
	}
	switch code := s.refusal(w, m); {
	case code == 0:
		if m.Tag("To") == "" && m.Method != "ACK" && m.Method != "CANCEL" {
			m.AddTag(s.a.firstTag(m.Get("Call-ID"), m.Tag("From"), m.Seq()))
		}
		return m.Tidy()
	case code == 405, code == 501:
		s.answer(w, m, code, sipcheck.Field{Name: "Allow", Value: allowed})
	case code == 503:
		s.answer(w, m, code, sipcheck.Field{Name: "Retry-After", Value: "2"})
	default:
		s.answer(w, m, code)
	}
	return nil
}

// opened is the connection at w if somebody else has opened it.
func (s *screen) opened(w wire) *stream {
	switch w.network {
	case "TCP":
		return s.a.tcp.from(w.remote)
	case "TLS":
		if k := s.a.tls.from(w.remote); k != nil {
			return k.stream
		}
	}
	return nil
}

// expected reports whether a response belongs to a call and comes from its peer.
func (s *screen) expected(w wire, m *sipcheck.Message) bool {
	c := s.a.find(m.Get("Call-ID"), m.Tag("From"))
	return c != nil && s.from(w, c)
}

// from reports whether what comes on w may be the word of c's peer.
func (s *screen) from(w wire, c *Call) bool {
	if c.key() == [32]byte{} {
		return w.network != "TLS" && c.believes(w.remote)
	}
	k := s.a.tls.from(w.remote)
	return w.network == "TLS" && k != nil && k.fingerprint == c.key()
}

// refusal is the status with which a request is refused that nothing is to be kept
// of; 0 lets it in.
func (s *screen) refusal(w wire, m *sipcheck.Message) int {
	if tag := m.Tag("To"); tag != "" && m.Method != "ACK" && m.Method != "CANCEL" &&
		tag == s.a.firstTag(m.Get("Call-ID"), m.Tag("From"), m.Seq()) {
		return 500 // the number of the request that began the dialog, again (RFC 3261, 12.2.2)
	}
	switch m.Method { // compared with case (RFC 3261, 7.1), while sipgo takes invite for INVITE
	case "INVITE":
		if m.Tag("To") == "" {
			return s.invited(w, m)
		}
	case "CANCEL": // sipgo finds by its branch alone what it is for
		for _, c := range s.a.called(m.Get("Call-ID")) {
			if !s.from(w, c) {
				return 481
			}
		}
	case "ACK", "BYE", "OPTIONS", "UPDATE", "INFO", "REFER", "PRACK":
	default:
		return unsupported(m.Method)
	}
	return 0
}

// invited judges an INVITE that would begin a call.
func (s *screen) invited(w wire, m *sipcheck.Message) int {
	if len(s.a.called(m.Get("Call-ID"))) > 0 { // it comes again
		return 0
	}
	key := s.keyOf(w)
	if isRelayed(w.remote.Addr()) && s.a.cfg.Acquainted != nil && !s.a.cfg.Acquainted(key) {
		return 403
	}
	is := s.a.known.of(key)
	if !s.a.room(key, w.remote.Addr()) {
		return 486
	}
	if s.a.kept[is].full() || !s.mayInvite(is, key, w.remote.Addr()) {
		return 503
	}
	return 0
}

// keyOf is the key that the other end of w has shown; zero: none.
func (s *screen) keyOf(w wire) [32]byte {
	if k := s.a.tls.from(w.remote); w.network == "TLS" && k != nil {
		return k.fingerprint
	}
	return [32]byte{}
}

// mayInvite reports whether one more call is not too much. Strangers take nothing
// from those who show a key, nor these from phones that are known.
func (s *screen) mayInvite(is class, key [32]byte, from netip.Addr) bool {
	if is == known {
		return s.a.known.allows(key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if is == keyed {
		return limiterOf(s.secure, from).Allow()
	}
	return limiterOf(s.plain, from).Allow() && s.all.Allow()
}

func limiterOf(hosts map[netip.Prefix]*rate.Limiter, from netip.Addr) *rate.Limiter {
	host := networkOf(from)
	l := hosts[host]
	if l == nil {
		if len(hosts) >= maxHosts {
			clear(hosts)
		}
		l = rate.NewLimiter(invitesPerHost, invitesHostBurst)
		hosts[host] = l
	}
	return l
}

// answer answers m where it came from.
func (s *screen) answer(w wire, m *sipcheck.Message, code int, more ...sipcheck.Field) {
	text := m.Answer(w.remote, code, phrase(code), append(more, sipcheck.Field{Name: "Server", Value: agentName})...)
	if text == nil {
		return
	}
	var err error
	if w.network == "UDP" {
		_, err = s.a.udp.WriteTo(text, net.UDPAddrFromAddrPort(m.Way(w.remote)))
	} else {
		err = s.write(w, text)
	}
	if err != nil {
		s.a.log.Debug("sip: response not sent", "code", code, "err", err)
	}
}

// write sends text on a connection that sipgo knows.
func (s *screen) write(w wire, text []byte) error {
	c, err := s.a.tp.GetConnection(w.network, w.remote.String())
	if err != nil {
		return err
	}
	defer c.TryClose()
	tcp, ok := c.(*gosip.TCPConnection)
	if !ok {
		return errors.New("sip: answer: not a stream")
	}
	_, err = tcp.Write(text)
	return err
}
