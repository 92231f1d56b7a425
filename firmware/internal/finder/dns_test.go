package finder

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// A zone is what a name server of a test does.
type zone struct {
	records string        // in the form of a zone file
	silent  bool          // it never answers
	slow    time.Duration // until it does
	code    int           // what it says to everything, if not 0
	drops   int           // questions that are lost before one is answered
	late    time.Duration // from the first question on: nothing is answered before
	first   time.Time     // question
}

// answer returns what z says to q; nil: nothing.
func (z *zone) answer(t *testing.T, q *dns.Msg) *dns.Msg {
	if z.first.IsZero() {
		z.first = time.Now()
	}
	if time.Since(z.first) < z.late {
		return nil
	}
	if z.drops > 0 {
		z.drops--
		return nil
	}
	a := new(dns.Msg)
	a.SetRcode(q, z.code)
	known := false
	for line := range strings.Lines(z.records) {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Error(err)
			continue
		}
		if !strings.EqualFold(rr.Header().Name, q.Question[0].Name) {
			continue
		}
		known = true
		if kind := rr.Header().Rrtype; kind == q.Question[0].Qtype || kind == dns.TypeCNAME {
			a.Answer = append(a.Answer, rr)
		}
	}
	if !known && z.code == 0 {
		a.Rcode = dns.RcodeNameError
	}
	return a
}

// resolve runs f with a Resolver whose name servers are zones, 192.0.2.1 and on.
func resolve(t *testing.T, zones []*zone, domains []string, f func(t *testing.T, r *Resolver)) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var servers []netip.Addr
		for i := range zones {
			servers = append(servers, netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}))
		}
		r := NewResolver()
		r.hosts = nobody{}
		r.exchange = func(ctx context.Context, server netip.AddrPort, m *dns.Msg) (*dns.Msg, error) {
			z := zones[slices.Index(servers, server.Addr())]
			select {
			case <-time.After(z.slow):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			mu.Lock()
			a := z.answer(t, m)
			mu.Unlock()
			if z.silent || a == nil {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return a, nil
		}
		r.Use(servers, domains)
		f(t, r)
	})
}

type nobody struct{}

func (nobody) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, ErrNoName
}

func TestLookupNetIP(t *testing.T) {
	const store = "store.test. A 192.0.2.50\nstore.test. AAAA 2001:db8::50\nstore.test. A 192.0.2.51\n"
	const alias = "alias.test. CNAME deep.test.\ndeep.test. CNAME store.test.\nround.test. CNAME round.test.\n"
	good := func() *zone {
		return &zone{records: store + alias + "only6.test. AAAA 2001:db8::6\nshort.office.test. A 192.0.2.60\n"}
	}
	for _, tt := range []struct {
		name    string
		zones   []*zone
		network string
		host    string
		want    string
		took    time.Duration
	}{
		{"both families", []*zone{good()}, "ip", "store.test", "2001:db8::50 192.0.2.50 192.0.2.51", 0},
		{"one family", []*zone{good()}, "ip4", "store.test", "192.0.2.50 192.0.2.51", 0},
		{"the other", []*zone{good()}, "ip6", "store.test", "2001:db8::50", 0},
		{"only one is there", []*zone{good()}, "ip", "only6.test", "2001:db8::6", 0},
		{"aliases", []*zone{good()}, "ip4", "alias.test", "192.0.2.50 192.0.2.51", 0},
		{"an alias of itself", []*zone{good()}, "ip4", "round.test", "", 0},
		{"a short name", []*zone{good()}, "ip", "short", "192.0.2.60", 0},
		{"an address", nil, "ip", "2001:db8::1", "2001:db8::1", 0},
		{"unknown", []*zone{good(), good()}, "ip", "nobody.test", "", 0},
		{"the first is dead", []*zone{{silent: true}, good()}, "ip4", "store.test", "192.0.2.50 192.0.2.51", nextServer},
		{"two are dead", []*zone{{silent: true}, {silent: true}, good()}, "ip4", "store.test", "192.0.2.50 192.0.2.51", 2 * nextServer},
		{"the first refuses", []*zone{{code: dns.RcodeRefused}, good()}, "ip4", "store.test", "192.0.2.50 192.0.2.51", 0},
		{"the first fails", []*zone{{code: dns.RcodeServerFailure}, good()}, "ip4", "store.test", "192.0.2.50 192.0.2.51", 0},
		{"the first does not know", []*zone{{}, good()}, "ip4", "store.test", "192.0.2.50 192.0.2.51", 0},
		{"the second does not know", []*zone{{slow: time.Second}, {}}, "ip4", "store.test", "", 2 * nextServer},
		{"a lost question", []*zone{{records: store, drops: 2}}, "ip4", "store.test", "192.0.2.50 192.0.2.51", 3 * nextServer},
		{"one that comes up", []*zone{{records: store, late: 3500 * time.Millisecond}}, "ip4", "store.test", "192.0.2.50 192.0.2.51", 4200 * time.Millisecond},
		{"all are dead", []*zone{{silent: true}, {silent: true}}, "ip4", "store.test", "", questionMost},
	} {
		resolve(t, tt.zones, []string{"lab.test", "office.test"}, func(t *testing.T, r *Resolver) {
			start := time.Now()
			got, err := r.LookupNetIP(t.Context(), tt.network, tt.host)
			took := time.Since(start)
			var texts []string
			for _, a := range got {
				texts = append(texts, a.String())
			}
			if strings.Join(texts, " ") != tt.want || (err == nil) != (tt.want != "") || took != tt.took {
				t.Errorf("%s: %v, %v after %v; want %s after %v", tt.name, texts, err, took, tt.want, tt.took)
			}
		})
	}
}

// A name server that does not answer for one family does not hold up the other.
func TestOneFamilyIsSlow(t *testing.T) {
	resolve(t, []*zone{{records: "store.test. A 192.0.2.50\n"}}, nil, func(t *testing.T, r *Resolver) {
		all := r.exchange
		r.exchange = func(ctx context.Context, server netip.AddrPort, m *dns.Msg) (*dns.Msg, error) {
			if m.Question[0].Qtype == dns.TypeAAAA {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return all(ctx, server, m)
		}
		start := time.Now()
		got, err := r.LookupNetIP(t.Context(), "ip", "store.test")
		if took := time.Since(start); err != nil || len(got) != 1 || took != otherFamily {
			t.Errorf("%v, %v after %v; want one address after %v", got, err, took, otherFamily)
		}
	})
}

func TestServices(t *testing.T) {
	const name = "_coaps._udp.office.test. SRV "
	for _, tt := range []struct{ name, records, want string }{
		{"by priority", name + "20 0 5684 b.test.\n" + name + "10 0 7 A.Test.\n", "a.test:7 b.test:5684"},
		{"no such service", name + "0 0 0 .\n", ""},
		{"a name that is none", name + "1 0 5684 a\\032b.test.\n" + name + "2 0 5684 b.test.\n", "b.test:5684"},
		{"nothing", "", ""},
		{"other records", "_coaps._udp.office.test. TXT x\n", ""},
	} {
		resolve(t, []*zone{{records: tt.records}}, nil, func(t *testing.T, r *Resolver) {
			got, err := r.services(t.Context(), "office.test")
			if strings.Join(got, " ") != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("%s: %v, %v; want %q", tt.name, got, err, tt.want)
			}
			if tt.want == "" && !errors.Is(err, ErrNoName) {
				t.Errorf("%s: %v; want ErrNoName", tt.name, err)
			}
		})
	}
}

// RFC 2782: the weights are how often each is the first.
func TestWeights(t *testing.T) {
	const runs = 4000
	first := map[string]int{}
	for range runs {
		rs := []*net.SRV{{Target: "late", Priority: 2, Weight: 99}, {Target: "one", Priority: 1, Weight: 10}, {Target: "three", Priority: 1, Weight: 30}, {Target: "none", Priority: 1}}
		inOrder(rs)
		if rs[3].Target != "late" {
			t.Fatalf("order %v", rs)
		}
		first[rs[0].Target]++
	}
	// Of 40 + 1 parts, with six standard deviations of room.
	for target, parts := range map[string]float64{"one": 10, "three": 30, "none": 1} {
		if got, want := float64(first[target])/runs, parts/41; got < want-0.05 || got > want+0.05 {
			t.Errorf("%s is first in %.3f; want %.3f", target, got, want)
		}
	}
}

// On the wire: guesses and garbage are passed over, what was cut comes by TCP, and
// a closed port is told at once.
func TestExchange(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	answer := func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg)
		a.SetReply(q)
		if w.LocalAddr().Network() == "udp" {
			w.Write([]byte("junk"))
			w.Write(make([]byte, 40))
			guess := a.Copy()
			guess.Id++
			w.WriteMsg(guess)
			other := a.Copy()
			other.Question[0].Name = "other.test."
			w.WriteMsg(other)
			w.WriteMsg(q) // an echo
			a.Truncated = q.Question[0].Name == "long.test."
		}
		for i := range 3 {
			rr, _ := dns.NewRR(fmt.Sprintf("%s A 192.0.2.%d", q.Question[0].Name, i))
			a.Answer = append(a.Answer, rr)
		}
		w.WriteMsg(a)
	}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: dns.HandlerFunc(answer)}, {Listener: tcp, Handler: dns.HandlerFunc(answer)}} {
		go s.ActivateAndServe()
		t.Cleanup(func() { s.Shutdown() })
	}
	server := netip.MustParseAddrPort(pc.LocalAddr().String())
	for _, name := range []string{"short.test.", "long.test."} {
		q := new(dns.Msg)
		q.SetQuestion(name, dns.TypeA)
		a, err := exchange(t.Context(), server, q)
		if err != nil || a.Truncated || len(a.Answer) != 3 || a.Question[0].Name != name {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
	closed, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	q := new(dns.Msg)
	q.SetQuestion("short.test.", dns.TypeA)
	if _, err := exchange(t.Context(), netip.MustParseAddrPort(closed.LocalAddr().String()), q); err == nil {
		t.Error("a closed port answered")
	}
}

// Without name servers of a lease it is the system's business.
func TestSystemResolver(t *testing.T) {
	r := NewResolver()
	got, err := r.LookupNetIP(t.Context(), "ip4", "localhost")
	if err != nil || len(got) == 0 || !got[0].Unmap().IsLoopback() {
		t.Errorf("localhost: %v, %v", got, err)
	}
	r.Use([]netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil)
	if got, err = r.LookupNetIP(t.Context(), "ip4", "localhost"); err != nil || len(got) == 0 || !got[0].Unmap().IsLoopback() {
		t.Errorf("localhost beside a lease's servers: %v, %v", got, err)
	}
}

// FuzzAnswer has a name server say anything to what a phone asks. Whatever it says,
// addresses are of the family that was asked for, and servers can be called.
func FuzzAnswer(f *testing.F) {
	for _, records := range []string{
		"store.office.test. A 192.0.2.50\nstore.office.test. A 192.0.2.51\n",
		"store.office.test. AAAA 2001:db8::50\n", "store.office.test. AAAA ::ffff:192.0.2.1\n",
		"store.office.test. CNAME a.test.\na.test. CNAME store.office.test.\n",
		"_coaps._udp.office.test. SRV 10 0 5684 b.test.\n_coaps._udp.office.test. SRV 1 65535 0 .\n_coaps._udp.office.test. SRV 1 9 5684 a\\000b.test.\n",
	} {
		m := new(dns.Msg)
		for line := range strings.Lines(records) {
			rr, err := dns.NewRR(line)
			if err != nil {
				f.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		m.SetQuestion(m.Answer[0].Header().Name, m.Answer[0].Header().Rrtype)
		m.Response = true
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewResolver()
		r.hosts = nobody{}
		r.Use([]netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil)
		r.exchange = func(_ context.Context, _ netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
			b := slices.Clone(b)
			if len(b) >= 2 { // it has seen the question
				b[0], b[1] = byte(q.Id>>8), byte(q.Id)
			}
			a, err := answerTo(q, b)
			if err == nil && (!a.Response || a.Id != q.Id) {
				t.Error("what is no answer is taken for one")
			}
			return a, err
		}
		for _, network := range []string{"ip4", "ip6"} {
			addrs, err := r.LookupNetIP(t.Context(), network, "store.office.test")
			if len(addrs) > 0 && err != nil {
				t.Errorf("%v and %v", addrs, err)
			}
			for _, a := range addrs {
				if !a.IsValid() || a.Is4() != (network == "ip4") {
					t.Errorf("%v is an address of %s", a, network)
				}
			}
		}
		servers, err := r.services(t.Context(), "office.test")
		if (len(servers) == 0) != (err != nil) || len(servers) > maxServers {
			t.Errorf("services: %q, %v", servers, err)
		}
		for _, s := range servers {
			if again, err := Parse(s); err != nil || len(again) != 1 || again[0].Address != s {
				t.Errorf("service %q is read as %v, %v", s, again, err)
			}
		}
	})
}
