// Package dns answers where a phone is to whom asks by DNS: A, AAAA, SRV and
// NAPTR for <MAC or number>.<zone> (RFC 1035, 2782, 3263 and 3403).
//
// It knows names, records and their lifetimes, and answers under the
// operator's policy, as everybody else does. It refuses to look up anything
// for anybody (no recursion), to hand out the zone (no transfers), and to be
// asked for everything at once (ANY, RFC 8482).
//
// # Why
//
// Who asks by DNS is nobody in particular, so under a policy that answers
// enrolled phones alone all questions for phones are refused. Lifetimes are
// short, and never longer than the row: a phone that moves is called at its old
// address for at most that long. A client that asks too often over UDP is told
// to come by TCP, which a forged source cannot; there it is refused.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/sockets"
	"flexphone/storing-server/internal/trust"
)

const (
	maxTTL      = 10 * time.Second // of a phone's records
	negativeTTL = 5                // seconds, of "no such phone"
	zoneTTL     = 3600             // seconds, of what describes the zone
	ednsSize    = 1232             // bytes, which fit every path
	idle        = 10 * time.Second // of a TCP connection
	queriesEach = 128              // of one TCP connection
	streams     = 512              // TCP connections
	streamsEach = 32               // of them from one network
)

// Rows is what the server needs of a store.
type Rows interface {
	Resolve(q wire.Query) (wire.Row, bool)
}

// Options say where a Server listens and what it answers.
type Options struct {
	Listen string // host:port, UDP and TCP
	Zone   string // such as phones.example.net
	// NameServers are the names of the zone's servers; none: ns.ZONE.
	NameServers []string
	// Addrs are what ns.ZONE has; none: where each question came in, unless that
	// is not known.
	Addrs  []netip.Addr
	Rows   Rows
	Policy trust.Policy
	Log    *slog.Logger
	// Count is called with each query's type and answer, for metrics. It may be
	// nil.
	Count func(kind, rcode string)
}

// A Server answers on one port.
type Server struct {
	zone   string       // in lower case, with a dot at its end
	names  []string     // of the zone's servers
	own    string       // of them the one that is in the zone; empty: none is
	addrs  []netip.Addr // of that
	rows   Rows
	policy trust.Policy
	log    *slog.Logger
	count  func(kind, rcode string)
	serial uint32
	udp    *net.UDPConn
	tcp    net.Listener
}

// Listen opens what o asks for.
func Listen(ctx context.Context, o Options) (*Server, error) {
	s, err := newServer(o)
	if err != nil {
		return nil, err
	}
	if s.tcp, s.udp, err = sockets.Both(ctx, o.Listen); err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	return s, nil
}

// CheckNames reports names that a Server does not take: they are invalid
// (wire.ErrInvalid).
func CheckNames(zone string, servers []string) error {
	if _, ok := dns.IsDomainName(zone); !ok || zone == "" || zone == "." {
		return fmt.Errorf("dns: zone %q: want a domain name such as phones.example.net: %w", zone, wire.ErrInvalid)
	}
	for _, name := range servers {
		if _, ok := dns.IsDomainName(name); !ok || dns.IsSubDomain(dns.CanonicalName(zone), dns.CanonicalName(name)) {
			return fmt.Errorf("dns: name server %q: want a name outside of %s, which has an address there: %w", name, zone, wire.ErrInvalid)
		}
	}
	return nil
}

func newServer(o Options) (*Server, error) {
	if err := CheckNames(o.Zone, o.NameServers); err != nil {
		return nil, err
	}
	s := &Server{
		zone: dns.CanonicalName(o.Zone), rows: o.Rows, policy: o.Policy, log: o.Log, count: o.Count, addrs: o.Addrs,
		serial: uint32(time.Now().Unix()),
	}
	for _, name := range o.NameServers {
		s.names = append(s.names, dns.CanonicalName(name))
	}
	if len(s.names) == 0 {
		s.own = "ns." + s.zone
		s.names = []string{s.own}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.count == nil {
		s.count = func(string, string) {}
	}
	return s, nil
}

// Addr returns where it listens, by UDP and TCP.
func (s *Server) Addr() net.Addr { return s.tcp.Addr() }

// Serve answers until ctx is done.
func (s *Server) Serve(ctx context.Context) error {
	h := dns.HandlerFunc(s.serve)
	servers := []*dns.Server{
		{PacketConn: s.udp, Handler: h, UDPSize: dns.DefaultMsgSize},
		{Listener: trust.NewConnections(streams, streamsEach, s.policy.Exempt).Listener(s.tcp, nil), Handler: h, ReadTimeout: idle, WriteTimeout: idle, MaxTCPQueries: queriesEach, IdleTimeout: func() time.Duration { return idle }},
	}
	ended := make(chan error, len(servers))
	for _, srv := range servers {
		begun := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(begun) }
		go func() { ended <- srv.ActivateAndServe() }()
		select {
		case <-begun:
		case err := <-ended:
			s.udp.Close()
			s.tcp.Close()
			return fmt.Errorf("dns: serve: %w", err)
		}
	}
	var failed error
	left := len(servers)
	select {
	case <-ctx.Done():
	case failed = <-ended:
		left--
	}
	for _, srv := range servers {
		_ = srv.Shutdown() // of one that has ended it says so
	}
	for range left {
		<-ended
	}
	if ctx.Err() != nil || errors.Is(failed, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("dns: serve: %w", failed)
}

// serve answers one message.
func (s *Server) serve(w dns.ResponseWriter, m *dns.Msg) {
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	reply := s.answer(m, sourceOf(w.RemoteAddr()), udp, time.Now())
	if reply == nil {
		w.Close()
		return
	}
	kind := "other"
	if len(m.Question) == 1 {
		switch t := m.Question[0].Qtype; t {
		case dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeNAPTR:
			kind = dns.TypeToString[t]
		}
	}
	s.count(kind, dns.RcodeToString[reply.Rcode])
	_ = w.WriteMsg(reply) // lost like any datagram may be
}

func sourceOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr()
	case *net.TCPAddr:
		return a.AddrPort().Addr()
	}
	return netip.Addr{}
}

// answer says what a message is answered with; nil: nothing.
func (s *Server) answer(m *dns.Msg, from netip.Addr, udp bool, now time.Time) *dns.Msg {
	if m.Response {
		return nil
	}
	reply := new(dns.Msg)
	reply.SetReply(m)
	size := dns.MinMsgSize
	if e := m.IsEdns0(); e != nil {
		size = max(size, min(int(e.UDPSize()), ednsSize))
		reply.SetEdns0(ednsSize, false)
		if e.Version() != 0 {
			reply.Rcode = dns.RcodeBadVers
			return reply
		}
	}
	switch {
	case m.Opcode != dns.OpcodeQuery:
		reply.Rcode = dns.RcodeNotImplemented
	case len(m.Question) != 1:
		reply.Rcode = dns.RcodeFormatError
	default:
		s.ask(reply, m.Question[0], from, udp, now)
	}
	if udp {
		reply.Truncate(size)
	}
	return reply
}

// ask answers one question.
func (s *Server) ask(reply *dns.Msg, q dns.Question, from netip.Addr, udp bool, now time.Time) {
	name := dns.CanonicalName(q.Name)
	if q.Qclass != dns.ClassINET || !dns.IsSubDomain(s.zone, name) {
		reply.Rcode = dns.RcodeRefused
		return
	}
	switch q.Qtype {
	case dns.TypeAXFR, dns.TypeIXFR:
		reply.Rcode = dns.RcodeRefused
		return
	case dns.TypeANY:
		reply.Authoritative = true
		reply.Answer = []dns.RR{&dns.HINFO{Hdr: header(q.Name, dns.TypeHINFO, zoneTTL), Cpu: "RFC8482"}}
		return
	}
	reply.Authoritative = true
	if name == s.zone {
		s.apex(reply, q)
		return
	}
	if name == s.own {
		if reply.Answer = s.server(q.Name, q.Qtype); len(reply.Answer) == 0 {
			reply.Ns = []dns.RR{s.soa(s.zone)}
		}
		return
	}
	if !s.policy.May(false) {
		reply.Authoritative = false
		reply.Rcode = dns.RcodeRefused
		return
	}
	if !s.policy.Lookups.Allow(wire.Fingerprint{}, trust.NetworkOf(from), now) {
		reply.Authoritative = false
		if udp {
			reply.Truncated = true
		} else {
			reply.Rcode = dns.RcodeRefused
		}
		return
	}
	labels := dns.SplitDomainName(strings.TrimSuffix(name, "."+s.zone))
	phone := labels[len(labels)-1]
	query, ok := queryOf(phone)
	row, known := wire.Row{}, false
	if ok {
		row, known = s.rows.Resolve(query)
	}
	service, exists := serviceOf(labels[:len(labels)-1])
	if !known || !exists {
		reply.Rcode = dns.RcodeNameError
		reply.Ns = []dns.RR{s.soa(s.zone)}
		return
	}
	if row.State == wire.Online {
		host := phone + "." + s.zone
		ttl := uint32(max(1, min(maxTTL, row.Expiry.Sub(now)).Seconds()))
		reply.Answer, reply.Extra = records(q, host, service, row, ttl), append(extra(q, host, row, ttl), reply.Extra...)
	}
	if len(reply.Answer) == 0 {
		reply.Ns = []dns.RR{s.soa(s.zone)} // there is such a name, and nothing at it now
	}
}

// apex answers for the zone itself.
func (s *Server) apex(reply *dns.Msg, q dns.Question) {
	switch q.Qtype {
	case dns.TypeSOA:
		reply.Answer = []dns.RR{s.soa(q.Name)}
	case dns.TypeNS:
		for _, name := range s.names {
			reply.Answer = append(reply.Answer, &dns.NS{Hdr: header(q.Name, dns.TypeNS, zoneTTL), Ns: name})
		}
		if s.own != "" {
			reply.Extra = append(append(s.server(s.own, dns.TypeA), s.server(s.own, dns.TypeAAAA)...), reply.Extra...)
		}
	default:
		reply.Ns = []dns.RR{s.soa(s.zone)}
	}
}

// server returns the addresses of one family that the zone's own server has.
func (s *Server) server(name string, kind uint16) []dns.RR {
	addrs := s.addrs
	if len(addrs) == 0 {
		addrs = s.reachable()
	}
	return addresses(name, kind, wire.Row{Addrs: addrs}, zoneTTL)
}

// reachable returns where others may reach this server: where it listens, or
// else at all addresses of the machine but those that only it or a link knows.
func (s *Server) reachable() (out []netip.Addr) {
	if s.tcp == nil {
		return nil
	}
	at := s.tcp.Addr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	if !at.IsUnspecified() {
		return []netip.Addr{at.WithZone("")}
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, one := range all {
		p, err := netip.ParsePrefix(one.String())
		if a := p.Addr().Unmap(); err == nil && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			out = append(out, a)
		}
	}
	return out
}

// soa describes the zone; its last number is for how long a refusal holds
// (RFC 2308).
func (s *Server) soa(name string) dns.RR {
	return &dns.SOA{
		Hdr: header(name, dns.TypeSOA, negativeTTL), Ns: s.names[0], Mbox: "hostmaster." + s.zone,
		Serial: s.serial, Refresh: zoneTTL, Retry: zoneTTL, Expire: 24 * zoneTTL, Minttl: negativeTTL,
	}
}
