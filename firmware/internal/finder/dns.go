package finder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// How a name server is asked.
const (
	// nextServer is how long one is waited for before the next is asked beside it,
	// and how long one that is silent is waited for before it is asked again.
	nextServer = 400 * time.Millisecond
	// askAgainMost bounds the pauses, each twice as long as the one before, after which
	// a server that is silent is asked again: it may have come up meanwhile.
	askAgainMost = 1 * time.Second
	// questionMost bounds one question to all of them.
	questionMost = 5 * time.Second
	// otherFamily is how long the addresses of one family wait for those of the
	// other: RFC 8305's Resolution Delay, section 3.
	otherFamily = 50 * time.Millisecond
	// payload is the EDNS buffer size that passes every link unfragmented (RFC
	// 9715, DNS flag day 2020), in bytes.
	payload = 1232
	// maxAliases bounds the CNAMEs that are followed by further questions.
	maxAliases = 8
)

// ErrNoName: the name servers say that there is no such name, or none of that kind.
var ErrNoName = errors.New("no such name")

// A Resolver looks names up at the name servers of the present lease. It is safe
// for concurrent use.
type Resolver struct {
	// exchange asks one server one question.
	exchange func(ctx context.Context, server netip.AddrPort, m *dns.Msg) (*dns.Msg, error)
	// system answers where the lease names no server, and knows the names of this
	// machine (hosts(5)).
	system interface {
		LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
		LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	}
	hosts interface {
		LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	}

	mu      sync.Mutex
	servers []netip.AddrPort
	domains []string
}

// NewResolver returns a Resolver that asks the system's name servers until it is
// told of others.
func NewResolver() *Resolver {
	return &Resolver{exchange: exchange, system: net.DefaultResolver, hosts: &net.Resolver{
		PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, ErrNoName },
	}}
}

// Use has the Resolver ask these name servers, the first of them first, and try
// names without a dot in these domains. Without servers it asks the system's. It
// reports whether these are others than before.
func (r *Resolver) Use(servers []netip.Addr, domains []string) (changed bool) {
	var at []netip.AddrPort
	for _, s := range servers {
		at = append(at, netip.AddrPortFrom(s, 53))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	changed = !slices.Equal(at, r.servers) || !slices.Equal(domains, r.domains)
	r.servers, r.domains = at, slices.Clone(domains)
	return changed
}

func (r *Resolver) used() ([]netip.AddrPort, []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.servers, r.domains
}

// LookupNetIP returns the addresses of host; network is "ip", "ip4" or "ip6". It
// is what net.Resolver has.
func (r *Resolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	servers, domains := r.used()
	if len(servers) == 0 {
		return r.system.LookupNetIP(ctx, network, host)
	}
	if own, err := r.hosts.LookupNetIP(ctx, network, host); err == nil && len(own) > 0 {
		return own, nil
	}
	names := []string{host}
	if !strings.Contains(host, ".") {
		names = nil
		for _, d := range domains {
			names = append(names, host+"."+d)
		}
		names = append(names, host)
	}
	var failure error
	for _, name := range names {
		addrs, err := r.addresses(ctx, servers, network, name)
		if len(addrs) > 0 {
			return addrs, nil
		}
		failure = errors.Join(failure, err)
	}
	return nil, failure
}

// addresses asks for both families at once. The second one is not waited for when
// the first has come.
func (r *Resolver) addresses(ctx context.Context, servers []netip.AddrPort, network, name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, questionMost)
	var kinds []uint16 // in the order of the result
	if network != "ip4" {
		kinds = append(kinds, dns.TypeAAAA)
	}
	if network != "ip6" {
		kinds = append(kinds, dns.TypeA)
	}
	type result struct {
		kind  int
		addrs []netip.Addr
		err   error
	}
	results := make(chan result)
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			<-results
		}
	}()
	for i, kind := range kinds {
		running++
		go func() {
			addrs, err := r.follow(ctx, servers, name, kind)
			results <- result{i, addrs, err}
		}()
	}
	found := make([][]netip.Addr, len(kinds))
	var failure error
	var patience <-chan time.Time
	for running > 0 {
		select {
		case o := <-results:
			running--
			found[o.kind] = o.addrs
			failure = cmp.Or(failure, o.err)
			if len(o.addrs) > 0 && patience == nil {
				t := time.NewTimer(otherFamily)
				defer t.Stop()
				patience = t.C
			}
		case <-patience:
			return slices.Concat(found...), nil
		}
	}
	if all := slices.Concat(found...); len(all) > 0 {
		return all, nil
	}
	return nil, failure
}

// follow returns the addresses of one family, through aliases.
func (r *Resolver) follow(ctx context.Context, servers []netip.AddrPort, name string, kind uint16) ([]netip.Addr, error) {
	asked := name
	for range maxAliases {
		answer, err := r.ask(ctx, servers, name, kind)
		if err != nil {
			return nil, fmt.Errorf("finder: look up %s %s: %w", asked, dns.TypeToString[kind], err)
		}
		var addrs []netip.Addr
		next := ""
		for _, rr := range answer.Answer { // in the order in which servers put a chain
			switch rr := rr.(type) {
			case *dns.A:
				if a, ok := netip.AddrFromSlice(rr.A.To4()); ok && kind == dns.TypeA {
					addrs = append(addrs, a)
				}
			case *dns.AAAA:
				if a, ok := netip.AddrFromSlice(rr.AAAA.To16()); ok && kind == dns.TypeAAAA {
					addrs = append(addrs, a)
				}
			case *dns.CNAME:
				next = strings.TrimSuffix(rr.Target, ".")
			}
		}
		if len(addrs) > 0 || next == "" {
			return addrs, nil
		}
		name = next
	}
	return nil, fmt.Errorf("finder: look up %s %s: more than %d aliases", asked, dns.TypeToString[kind], maxAliases)
}

// services returns the servers that the SRV records of CoAP over DTLS name in
// domain (RFC 2782; the service name is that of RFC 7252, 12.8), as host:port, in
// the order to try them.
func (r *Resolver) services(ctx context.Context, domain string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, questionMost)
	defer cancel()
	servers, _ := r.used()
	var records []*net.SRV
	if len(servers) == 0 {
		_, all, err := r.system.LookupSRV(ctx, "coaps", "udp", domain)
		if err != nil {
			return nil, fmt.Errorf("finder: look up storing server of %s: %w", domain, err)
		}
		records = all // in their order
	} else {
		answer, err := r.ask(ctx, servers, "_coaps._udp."+domain, dns.TypeSRV)
		if err != nil {
			return nil, fmt.Errorf("finder: look up storing server of %s: %w", domain, err)
		}
		for _, rr := range answer.Answer {
			if s, ok := rr.(*dns.SRV); ok {
				records = append(records, &net.SRV{Target: s.Target, Port: s.Port, Priority: s.Priority, Weight: s.Weight})
			}
		}
		inOrder(records)
	}
	var out []string
	for _, s := range records {
		// A target of "." says that there is no such service.
		if host := strings.TrimSuffix(strings.ToLower(s.Target), "."); isHost(host) && s.Port != 0 && len(out) < maxServers {
			out = append(out, net.JoinHostPort(host, strconv.Itoa(int(s.Port))))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("finder: look up storing server of %s: %w with SRV records for _coaps._udp", domain, ErrNoName)
	}
	return out, nil
}

// inOrder sorts records as RFC 2782 asks: by priority, and by chance and weight
// among those of the same one.
func inOrder(records []*net.SRV) {
	slices.SortStableFunc(records, func(a, b *net.SRV) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(min(a.Weight, 1), min(b.Weight, 1))) // weight 0 first
	})
	for from := 0; from < len(records); from++ {
		sum, to := 0, from
		for ; to < len(records) && records[to].Priority == records[from].Priority; to++ {
			sum += int(records[to].Weight)
		}
		at := rand.N(sum + 1)
		for i := from; i < to; i++ {
			if at -= int(records[i].Weight); at <= 0 {
				chosen := records[i]
				copy(records[from+1:i+1], records[from:i])
				records[from] = chosen
				break
			}
		}
	}
}

// ask asks all servers one question, the next when the one before has failed or is
// slow, and each that is silent again, until ctx is done. The first that knows an
// answer decides. That there is none is believed when all have said so, or those
// that answer at all within another pause: they may know different things.
func (r *Resolver) ask(ctx context.Context, servers []netip.AddrPort, name string, kind uint16) (*dns.Msg, error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), kind)
	q.SetEdns0(payload, false)
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		answer *dns.Msg
		err    error
	}
	results := make(chan result)
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			<-results
		}
	}()
	timer := time.NewTimer(nextServer)
	defer timer.Stop()
	next := 0
	start := func() {
		if next >= len(servers) {
			return
		}
		server := servers[next]
		next++
		running++
		go func() {
			answer, err := r.one(ctx, server, q)
			results <- result{answer, err}
		}()
		timer.Reset(nextServer)
	}
	start()
	var failure error
	for {
		select {
		case o := <-results:
			running--
			if o.err == nil {
				return o.answer, nil
			}
			if failure == nil || errors.Is(o.err, ErrNoName) {
				failure = o.err
			}
			start()
			if running == 0 {
				return nil, failure
			}
		case <-timer.C:
			if next == len(servers) && errors.Is(failure, ErrNoName) {
				return nil, failure
			}
			start()
		case <-ctx.Done():
			return nil, cmp.Or(failure, error(fmt.Errorf("no name server of %v answers: %w", servers, ctx.Err())))
		}
	}
}

// one asks one server until it answers or ctx is done.
func (r *Resolver) one(ctx context.Context, server netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
	for wait := nextServer; ; wait = min(2*wait, askAgainMost) {
		m := q.Copy()
		m.Id = dns.Id()
		try, cancel := context.WithTimeout(ctx, wait)
		answer, err := r.exchange(try, server, m)
		timeout := try.Err() != nil
		cancel()
		if err == nil {
			err = verdict(answer)
		}
		switch {
		case err == nil:
			return answer, nil
		case timeout && ctx.Err() == nil: // silent: ask again
		default:
			return nil, fmt.Errorf("name server %v: %w", server.Addr(), err)
		}
	}
}

// verdict says what an answer is worth.
func verdict(m *dns.Msg) error {
	switch {
	case m.Rcode == dns.RcodeNameError, m.Rcode == dns.RcodeSuccess && len(m.Answer) == 0:
		return ErrNoName
	case m.Rcode != dns.RcodeSuccess:
		return fmt.Errorf("it says %s", dns.RcodeToString[m.Rcode])
	}
	return nil
}

// exchange asks over UDP from a port of its own (RFC 5452), and over TCP where the
// answer was cut. What is no answer to the question is passed over.
func exchange(ctx context.Context, server netip.AddrPort, m *dns.Msg) (*dns.Msg, error) {
	for _, network := range []string{"udp", "tcp"} {
		answer, err := exchangeOver(ctx, network, server, m)
		if err != nil || !answer.Truncated || network == "tcp" {
			return answer, err
		}
	}
	panic("unreachable")
}

func exchangeOver(ctx context.Context, network string, server netip.AddrPort, m *dns.Msg) (*dns.Msg, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	c := &dns.Conn{Conn: nc, UDPSize: payload}
	if err := c.WriteMsg(m); err != nil {
		return nil, err
	}
	for {
		b, err := c.ReadMsgHeader(nil) // no more than that it is read whole
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil && !(network == "udp" && errors.Is(err, dns.ErrShortRead)):
			return nil, err // refused, or closed
		}
		answer, err := answerTo(m, b)
		if err == nil {
			return answer, nil
		}
		if network == "tcp" { // in UDP it is garbage, or somebody guesses
			return nil, fmt.Errorf("no answer to the question: %w", err)
		}
	}
}

// answerTo reads the answer to q.
func answerTo(q *dns.Msg, b []byte) (*dns.Msg, error) {
	a := new(dns.Msg)
	if err := a.Unpack(b); err != nil {
		return nil, err
	}
	if !a.Response || a.Id != q.Id || len(a.Question) != 1 || a.Question[0].Qtype != q.Question[0].Qtype ||
		a.Question[0].Qclass != q.Question[0].Qclass || !strings.EqualFold(a.Question[0].Name, q.Question[0].Name) {
		return nil, errors.New("it answers another one")
	}
	return a, nil
}
