package dns

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

var (
	mac  = wire.MAC{2, 0, 0x5e, 0, 0x53, 1}
	from = netip.MustParseAddr("198.51.100.7")
)

// serve returns a server of real rows: 101 has all ports, 102 is off the net,
// 103 has no TLS.
func serve(t testing.TB, p trust.Policy) *Server {
	t.Helper()
	rows, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Numbers: store.Numbers{First: 101, Last: 999}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rows.Close)
	for i, ports := range []wire.Ports{{SIP: 5060, SIPS: 5061}, {SIP: 5060}, {SIP: 5070}} {
		m := mac
		m[5] += byte(i)
		r := wire.Registration{MAC: m, Ports: ports, Sequence: 1, Lifetime: time.Hour,
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), netip.MustParseAddr("2001:db8::1")}}
		if _, _, err := rows.Register(t.Context(), wire.Fingerprint{1}, r); err != nil {
			t.Fatal(err)
		}
	}
	off := mac
	off[5]++
	if err := rows.Release(t.Context(), wire.Fingerprint{1}, wire.Withdrawal{MAC: off, Sequence: 2}); err != nil {
		t.Fatal(err)
	}
	s, err := newServer(Options{Zone: "Phones.example.net", Rows: rows, Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *Server) test(name string, kind uint16, udp bool) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), kind)
	return s.answer(m, from, udp, time.Now())
}

// text is the answers, without their lifetimes.
func text(rrs []dns.RR) string {
	var out []string
	for _, rr := range rrs {
		if _, opt := rr.(*dns.OPT); !opt {
			out = append(out, strings.Join(append(strings.Fields(rr.String())[:1], strings.Fields(rr.String())[3:]...), " "))
		}
	}
	return strings.Join(out, "\n")
}

func TestAnswers(t *testing.T) {
	s := serve(t, trust.Policy{Resolve: trust.ResolveAnyone})
	const z = ".phones.example.net"
	for _, tt := range []struct {
		name  string
		kind  uint16
		rcode int
		want  string
	}{
		{"101" + z, dns.TypeA, dns.RcodeSuccess, "101.phones.example.net. A 192.0.2.1"},
		{"101" + z, dns.TypeAAAA, dns.RcodeSuccess, "101.phones.example.net. AAAA 2001:db8::1"},
		{"101.PHONES.example.NET", dns.TypeA, dns.RcodeSuccess, "101.PHONES.example.NET. A 192.0.2.1"},
		{"02005e005301" + z, dns.TypeA, dns.RcodeSuccess, "02005e005301.phones.example.net. A 192.0.2.1"},
		{"02-00-5E-00-53-01" + z, dns.TypeA, dns.RcodeSuccess, "02-00-5E-00-53-01.phones.example.net. A 192.0.2.1"},
		{"002200600335105" + z, dns.TypeA, dns.RcodeSuccess, "002200600335105.phones.example.net. A 192.0.2.1"},
		{"_sip._udp.101" + z, dns.TypeSRV, dns.RcodeSuccess, "_sip._udp.101.phones.example.net. SRV 0 0 5060 101.phones.example.net."},
		{"_sips._tcp.101" + z, dns.TypeSRV, dns.RcodeSuccess, "_sips._tcp.101.phones.example.net. SRV 0 0 5061 101.phones.example.net."},
		{"_sip._tcp.103" + z, dns.TypeSRV, dns.RcodeSuccess, "_sip._tcp.103.phones.example.net. SRV 0 0 5070 103.phones.example.net."},
		{"_sips._tcp.103" + z, dns.TypeSRV, dns.RcodeSuccess, ""},
		{"101" + z, dns.TypeNAPTR, dns.RcodeSuccess, `101.phones.example.net. NAPTR 10 10 "s" "SIPS+D2T" "" _sips._tcp.101.phones.example.net.
101.phones.example.net. NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp.101.phones.example.net.
101.phones.example.net. NAPTR 30 10 "s" "SIP+D2T" "" _sip._tcp.101.phones.example.net.`},
		{"101" + z, dns.TypeTXT, dns.RcodeSuccess, ""},
		{"_udp.101" + z, dns.TypeA, dns.RcodeSuccess, ""}, // an empty non-terminal
		{"102" + z, dns.TypeA, dns.RcodeSuccess, ""},      // off the net
		{"999" + z, dns.TypeA, dns.RcodeNameError, ""},
		{"x.101" + z, dns.TypeA, dns.RcodeNameError, ""},
		{"what" + z, dns.TypeA, dns.RcodeNameError, ""},
		{"phones.example.net", dns.TypeSOA, dns.RcodeSuccess, "phones.example.net. SOA ns.phones.example.net."},
		{"phones.example.net", dns.TypeNS, dns.RcodeSuccess, "phones.example.net. NS ns.phones.example.net."},
		{"phones.example.net", dns.TypeAXFR, dns.RcodeRefused, ""},
		{"101" + z, dns.TypeANY, dns.RcodeSuccess, `101.phones.example.net. HINFO "RFC8482" ""`},
		{"example.net", dns.TypeA, dns.RcodeRefused, ""},
		{"101.phones.example.org", dns.TypeA, dns.RcodeRefused, ""},
		{"101xphones.example.net", dns.TypeA, dns.RcodeRefused, ""},
	} {
		r := s.test(tt.name, tt.kind, true)
		got := text(r.Answer)
		if r.Rcode != tt.rcode || got != tt.want && (tt.kind != dns.TypeSOA || !strings.HasPrefix(got, tt.want)) {
			t.Errorf("%s %s: %s, %q; want %s, %q", tt.name, dns.TypeToString[tt.kind], dns.RcodeToString[r.Rcode], got, dns.RcodeToString[tt.rcode], tt.want)
		}
		for _, rr := range r.Answer {
			switch rr.(type) {
			case *dns.A, *dns.AAAA, *dns.SRV, *dns.NAPTR:
				if ttl := rr.Header().Ttl; ttl < 1 || ttl > 10 {
					t.Errorf("%s: lifetime %d; want 1 to 10", tt.name, ttl)
				}
			}
		}
		if r.Rcode != dns.RcodeRefused && len(r.Answer) == 0 && len(r.Ns) != 1 {
			t.Errorf("%s: no SOA says for how long there is nothing", tt.name)
		}
	}
	if got := text(s.test("_sip._udp.101"+z, dns.TypeSRV, true).Extra); !strings.Contains(got, "192.0.2.1") || !strings.Contains(got, "2001:db8::1") {
		t.Errorf("SRV comes with %q; want both addresses", got)
	}
}

// A record lives no longer than the row.
func TestLifetime(t *testing.T) {
	s := serve(t, trust.Policy{})
	m := new(dns.Msg)
	m.SetQuestion("101.phones.example.net.", dns.TypeA)
	row, _ := s.rows.Resolve(wire.Query{Number: "101"})
	if r := s.answer(m, from, true, row.Expiry.Add(-3*time.Second)); len(r.Answer) != 1 || r.Answer[0].Header().Ttl != 3 {
		t.Errorf("3 s before the end: %v; want a lifetime of 3", r.Answer)
	}
}

func TestPolicy(t *testing.T) {
	for _, p := range []trust.Resolution{trust.ResolveEnrolled, trust.ResolveNobody} {
		if r := serve(t, trust.Policy{Resolve: p}).test("101.phones.example.net", dns.TypeA, true); r.Rcode != dns.RcodeRefused || len(r.Answer) != 0 {
			t.Errorf("%s: %v; want it refused", p, r)
		}
	}
	s := serve(t, trust.Policy{Lookups: trust.NewLookups(0.001, nil)})
	answered, truncated := 0, 0
	for range 50 {
		if r := s.test("101.phones.example.net", dns.TypeA, true); r.Truncated && len(r.Answer) == 0 {
			truncated++
		} else if len(r.Answer) == 1 {
			answered++
		}
	}
	if answered != 20 || truncated != 30 {
		t.Errorf("%d answers, %d told to come by TCP; want 20 and 30", answered, truncated)
	}
	if r := s.test("101.phones.example.net", dns.TypeA, false); r.Rcode != dns.RcodeRefused {
		t.Errorf("by TCP: %v; want it refused", r)
	}
}

// Real clients, over UDP and TCP.
func TestClients(t *testing.T) {
	rows := serve(t, trust.Policy{}).rows
	s, err := Listen(t.Context(), Options{Listen: "127.0.0.1:0", Zone: "phones.example.net", Rows: rows})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	m := new(dns.Msg)
	m.SetQuestion("101.phones.example.net.", dns.TypeA)
	for _, network := range []string{"udp", "tcp"} {
		r, _, err := (&dns.Client{Net: network}).Exchange(m, s.Addr().String())
		if err != nil || text(r.Answer) != "101.phones.example.net. A 192.0.2.1" || !r.Authoritative || r.RecursionAvailable {
			t.Errorf("by %s: %v, %v", network, r, err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve() = %v", err)
	}
}

func TestZone(t *testing.T) {
	for _, z := range []string{"", ".", "a..b", strings.Repeat("a", 64) + ".net"} {
		if _, err := newServer(Options{Zone: z}); err == nil {
			t.Errorf("zone %q is taken", z)
		}
	}
}

// Whoever opens connections and asks nothing keeps nobody else out.
func TestConnectionsOfOne(t *testing.T) {
	rows := serve(t, trust.Policy{}).rows
	s, err := Listen(t.Context(), Options{Listen: "127.0.0.1:0", Zone: "phones.example.net", Rows: rows})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	}()
	ended := make([]chan struct{}, streamsEach+1)
	for i := range ended {
		c, err := net.DialTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 3)}, s.Addr().(*net.TCPAddr))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ended[i] = make(chan struct{})
		go func() {
			defer close(ended[i])
			if n, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("connection %d is sent %d bytes", i, n)
			}
		}()
	}
	<-ended[streamsEach]
	select {
	case <-ended[0]:
		t.Error("it was not one too many that was closed, but the first")
	default:
	}
	m := new(dns.Msg)
	m.SetQuestion("101.phones.example.net.", dns.TypeA)
	c := &dns.Client{Net: "tcp", Dialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}}
	if r, _, err := c.Exchange(m, s.Addr().String()); err != nil || len(r.Answer) != 1 {
		t.Errorf("another network: %v, %v", r, err)
	}
}

// The zone's servers have the names that the parent zone knows them by.
func TestNameServers(t *testing.T) {
	s, err := newServer(Options{Zone: "phones.example.net", NameServers: []string{"NS1.example.net", "ns2.example.net."}})
	if err != nil {
		t.Fatal(err)
	}
	const want = "phones.example.net. NS ns1.example.net.\nphones.example.net. NS ns2.example.net."
	if got := text(s.test("phones.example.net", dns.TypeNS, true).Answer); got != want {
		t.Errorf("NS: %q; want %q", got, want)
	}
	if got := text(s.test("phones.example.net", dns.TypeSOA, true).Answer); !strings.HasPrefix(got, "phones.example.net. SOA ns1.example.net.") {
		t.Errorf("SOA: %q", got)
	}
	for _, name := range []string{"ns.phones.example.net", "a..b", ""} {
		if _, err := newServer(Options{Zone: "phones.example.net", NameServers: []string{name}}); !errors.Is(err, wire.ErrInvalid) {
			t.Errorf("name server %q: %v; want ErrInvalid", name, err)
		}
	}
}

// FuzzAnswer: every question has an answer that can be sent, in its size.
func FuzzAnswer(f *testing.F) {
	s := serve(f, trust.Policy{})
	for _, q := range []struct {
		name string
		kind uint16
	}{{"101.phones.example.net.", dns.TypeA}, {"_sip._udp.101.phones.example.net.", dns.TypeSRV}, {"02-00-5e-00-53-01.phones.example.net.", dns.TypeNAPTR}, {".", dns.TypeNS}} {
		m := new(dns.Msg)
		m.SetQuestion(q.name, q.kind)
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		m.SetEdns0(4096, true)
		if b, err = m.Pack(); err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		for _, udp := range []bool{true, false} {
			r := s.answer(m, from, udp, time.Now())
			if r == nil {
				continue
			}
			out, err := r.Pack()
			if err != nil {
				t.Fatalf("%v is answered with %v: %v", m, r, err)
			}
			if udp && len(out) > ednsSize {
				t.Errorf("%v is answered with %d bytes", m, len(out))
			}
			if err := new(dns.Msg).Unpack(out); err != nil || r.Id != m.Id {
				t.Errorf("%v is answered with %v: %v", m, r, err)
			}
		}
	})
}

// The zone's own server has addresses, whatever the policy, and says them where
// it is named.
func TestNameServer(t *testing.T) {
	for _, p := range []trust.Policy{{}, {Resolve: trust.ResolveEnrolled}, {Lookups: trust.NewLookups(0.001, nil)}} {
		s := serve(t, p)
		s.addrs = []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")}
		for range 30 { // more than a client may look up
			for kind, want := range map[uint16]string{
				dns.TypeA: "ns.phones.example.net. A 192.0.2.53", dns.TypeAAAA: "ns.phones.example.net. AAAA 2001:db8::53", dns.TypeSRV: "",
			} {
				r := s.test("ns.phones.example.net", kind, true)
				if r.Rcode != dns.RcodeSuccess || text(r.Answer) != want || !r.Authoritative || (want == "") != (len(r.Ns) == 1) {
					t.Errorf("ns %s: %v", dns.TypeToString[kind], r)
				}
			}
		}
		r := s.test("phones.example.net", dns.TypeNS, true)
		if text(r.Answer) != "phones.example.net. NS ns.phones.example.net." || text(r.Extra) != "ns.phones.example.net. A 192.0.2.53\nns.phones.example.net. AAAA 2001:db8::53" {
			t.Errorf("NS: %v", r)
		}
	}
	// Names elsewhere are others' to answer for, and ns is then none.
	s := serve(t, trust.Policy{})
	s.names, s.own = []string{"ns1.example.com."}, ""
	if r := s.test("phones.example.net", dns.TypeNS, true); text(r.Answer) != "phones.example.net. NS ns1.example.com." || text(r.Extra) != "" {
		t.Errorf("NS elsewhere: %v", r)
	}
	if r := s.test("ns.phones.example.net", dns.TypeA, true); r.Rcode != dns.RcodeNameError {
		t.Errorf("ns with a server elsewhere: %v", r)
	}
	// Without addresses of the operator's they are those that it has.
	for listen, want := range map[string]bool{"127.0.0.1:0": true, ":0": false} {
		s, err := Listen(t.Context(), Options{Listen: listen, Zone: "phones.example.net"})
		if err != nil {
			t.Fatal(err)
		}
		own := s.reachable()
		if got := slices.Contains(own, netip.MustParseAddr("127.0.0.1")); got != want {
			t.Errorf("listening on %s it is reached at %v", listen, own)
		}
		s.udp.Close()
		s.tcp.Close()
	}
}
