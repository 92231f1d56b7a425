package media

import (
	"net/netip"
	"strings"
	"testing"

	"flexphone/internal/pass"
)

var somePass, _ = pass.Of([]byte("0123456789abcdef0123456789abcdef"))

func TestCandidate(t *testing.T) {
	for _, want := range []Candidate{
		{Addr: netip.MustParseAddrPort("192.168.1.2:4000")},
		{Addr: netip.MustParseAddrPort("[2001:db8::2]:4000")},
		{Addr: netip.MustParseAddrPort("192.0.2.2:9"), Kind: Reflexive},
		{Addr: netip.MustParseAddrPort("198.51.100.1:3480"), Kind: Relayed, Pass: somePass},
	} {
		at := want.attribute(3)
		if got, ok := candidateOf(at.Value); !ok || got != want {
			t.Errorf("%s is read as %+v", at.Value, got)
		}
	}
	// As a browser and as RFC 8839 write them.
	for text, kind := range map[string]CandidateKind{
		"842163049 1 udp 1677729535 203.0.113.9 46154 typ srflx raddr 10.0.0.1 rport 9 generation 0 network-cost 999": Reflexive,
		"1 1 UDP 2130706431 203.0.113.141 8998 typ host":                                                              Host,
		"1 1 udp 9 203.0.113.141 8998 typ prflx raddr 10.0.0.1 rport 9":                                               Reflexive,
	} {
		if got, ok := candidateOf(text); !ok || got.Kind != kind {
			t.Errorf("%s is read as %+v, %v", text, got, ok)
		}
	}
	for _, bad := range []string{
		"", "1 1 udp 1 192.0.2.1 1 typ", "1 2 udp 1 192.0.2.1 1 typ host", "1 1 tcp 1 192.0.2.1 9 typ host tcptype active",
		"1 1 udp 0 192.0.2.1 1 typ host", "1 1 udp 1 192.0.2.1 0 typ host", "1 1 udp 1 192.0.2.1 65536 typ host",
		"1 1 udp 1 f1b2.local 1 typ host", "1 1 udp 1 127.0.0.1 1 typ host", "1 1 udp 1 ::1 1 typ host", "1 1 udp 1 224.0.0.1 1 typ host",
		"1 1 udp 1 255.255.255.255 1 typ host", "1 1 udp 1 0.0.0.0 1 typ host", "1 1 udp 1 fe80::1%eth0 1 typ host", "1 1 udp 1 ::ffff:127.0.0.1 1 typ host",
		"1 1 udp 1 192.0.2.1 1 typ other", "1 1 udp 1 192.0.2.1 1 typ relay pass short", "1 1 udp 1 192.0.2.1 1 typ host pass " + somePass.Text(),
		"1 1 udp 1 192.0.2.1 1 typ host odd",
	} {
		if c, ok := candidateOf(bad); ok {
			t.Errorf("%q is read as %+v", bad, c)
		}
	}
}

// Of many candidates the first eight places count, and each once.
func TestManyCandidates(t *testing.T) {
	var s security
	for i := range 100 {
		c := Candidate{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i/2 + 1)}), 9)}
		s.hearCandidate(c.attribute(0).Value)
	}
	if len(s.candidates) != MaxCandidates || s.candidates[1].Addr.Addr().As4()[3] != 2 {
		t.Errorf("%d: %v", len(s.candidates), s.candidates)
	}
}

// Between phones of ours offer and answer tell candidates; to others they are the same as
// without.
func TestCandidatesAreForOurs(t *testing.T) {
	own := []Candidate{
		{Addr: netip.MustParseAddrPort("198.51.100.1:3480"), Kind: Relayed, Pass: somePass},
		{Addr: netip.MustParseAddrPort("192.0.2.2:9"), Kind: Reflexive},
		{Addr: netip.MustParseAddrPort("192.168.1.2:4000")},
	}
	for _, ours := range []bool{true, false} {
		a, b := privately('a', ours, true), privately('b', ours, true)
		a.Private.Candidates = own
		b.Private.Candidates = own[1:]
		caller, callee := NewCall().With(a), NewCall().With(b)
		offer, err := caller.Offer()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(offer), "a=candidate:"); got != map[bool]int{true: 3, false: 0}[ours] {
			t.Errorf("ours %v: %d candidates offered:\n%s", ours, got, offer)
		}
		answer, agreed, err := callee.Answer(offer, netip.MustParseAddr("192.0.2.1"))
		if err != nil {
			t.Fatal(err)
		}
		if !ours {
			continue
		}
		got := agreed.Terms.(RTP).Protection.Candidates
		if len(got) != 3 || got[0] != own[2] || got[1] != own[1] || got[2] != own[0] {
			t.Errorf("of %v the callee takes %v", own, got)
		}
		taken, err := caller.Take(answer, netip.MustParseAddr("192.0.2.2"))
		if err != nil {
			t.Fatal(err)
		}
		if got := taken.Terms.(RTP).Protection.Candidates; len(got) != 2 || got[0] != own[2] || got[1] != own[1] {
			t.Errorf("the caller takes %v", got)
		}
	}
}

// What can be read can be written, and is the same then.
func FuzzCandidate(f *testing.F) {
	f.Add("1 1 udp 2130706431 203.0.113.141 8998 typ host")
	f.Add("3 1 udp 1 2001:db8::1 9 typ relay raddr 0.0.0.0 rport 0 pass " + somePass.Text())
	f.Add("3 1 udp 1 2001:db8::1 9 typ relay raddr 0.0.0.0 rport 0 pass " + somePass.Text() + " also 192.0.2.1")
	f.Add("842163049 1 udp 1677729535 203.0.113.9 46154 typ srflx raddr 10.0.0.1 rport 9 generation 0")
	f.Fuzz(func(t *testing.T, v string) {
		c, ok := candidateOf(v)
		if !ok {
			return
		}
		if a := c.Addr.Addr(); a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || a.Is4In6() || c.Addr.Port() == 0 {
			t.Fatalf("%q is read as %v", v, c)
		}
		if again, ok := candidateOf(c.attribute(0).Value); !ok || again != c {
			t.Fatalf("%+v became %+v", c, again)
		}
	})
}
