package media

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"flexphone/internal/pass"
)

// MaxCandidates bounds how many of a peer's are read.
const MaxCandidates = 8

// A CandidateKind is the type of a candidate (RFC 8445, section 5.1.1). The better ones
// come first.
type CandidateKind uint8

// The kinds.
const (
	Host      CandidateKind = iota // an address of the end's own
	Reflexive                      // which a NAT has given it
	Relayed                        // a relay's
)

// names are the kinds' in a=candidate, and their type preferences (RFC 8445, section
// 5.1.2.2).
var candidateNames = []struct {
	name       string
	preference uint32
}{{"host", 126}, {"srflx", 100}, {"relay", 0}}

// A Candidate is a place where an end may be (RFC 8839, section 5.1). It is a place to ask,
// and nothing else before it has answered.
type Candidate struct {
	Addr netip.AddrPort
	Kind CandidateKind
	Pass pass.Pass // that lets the other end into a relay of ours; zero: it needs none
	// Also is the relay's address of the other family, at the same port; zero: none is known.
	Also netip.Addr
}

// passName is the extension that carries a pass, as RFC 8839 allows them, and alsoName the one
// that carries the other address of its relay: others pass over them.
const passName, alsoName = "pass", "also"

// attribute writes c, which is the n-th.
func (c Candidate) attribute(n int) sdp.Attribute {
	of := candidateNames[c.Kind]
	local := uint32(65535 - n)
	if c.Addr.Addr().Is6() {
		local -= 1 << 8
	}
	v := fmt.Sprintf("%d 1 udp %d %s %d typ %s", n+1, of.preference<<24|local<<8|255, c.Addr.Addr(), c.Addr.Port(), of.name)
	if c.Kind != Host { // where it is seen from says nothing here (RFC 8839, section 5.1)
		v += " raddr 0.0.0.0 rport 0"
	}
	if c.Pass != (pass.Pass{}) {
		v += " " + passName + " " + c.Pass.Text()
		if c.Also.IsValid() {
			v += " " + alsoName + " " + c.Also.String()
		}
	}
	return sdp.Attribute{Key: "candidate", Value: v}
}

// candidateOf reads FOUNDATION COMPONENT TRANSPORT PRIORITY ADDRESS PORT typ TYPE, and
// names with values after that. What is not UDP, of RTP, of an address as it is, and of a
// host that could be the peer is none.
func candidateOf(v string) (Candidate, bool) {
	f := strings.Fields(v)
	if len(f) < 8 || len(f) > 32 || len(f)%2 != 0 || f[1] != "1" || !strings.EqualFold(f[2], "udp") || f[6] != "typ" {
		return Candidate{}, false
	}
	if n, err := strconv.ParseUint(f[3], 10, 32); err != nil || n == 0 || n > 1<<31-1 || len(f[0]) > 32 {
		return Candidate{}, false
	}
	addr, err := netip.ParseAddr(f[4])
	if err != nil || addr.Zone() != "" {
		return Candidate{}, false
	}
	port, err := strconv.ParseUint(f[5], 10, 16)
	if err != nil || port == 0 {
		return Candidate{}, false
	}
	c := Candidate{Addr: netip.AddrPortFrom(addr.Unmap(), uint16(port))}
	if !unicast(c.Addr.Addr()) {
		return Candidate{}, false
	}
	kind := slices.IndexFunc(candidateNames, func(n struct {
		name       string
		preference uint32
	}) bool {
		return n.name == f[7] || n.name == "srflx" && f[7] == "prflx"
	})
	if kind < 0 {
		return Candidate{}, false
	}
	c.Kind = CandidateKind(kind)
	for i := 8; i+1 < len(f); i += 2 {
		switch f[i] {
		case passName:
			var ok bool
			if c.Pass, ok = pass.Parse(f[i+1]); !ok || c.Kind != Relayed {
				return Candidate{}, false
			}
		case alsoName:
			if a, err := netip.ParseAddr(f[i+1]); err == nil && a.Zone() == "" && unicast(a.Unmap()) {
				c.Also = a.Unmap()
			}
		}
	}
	if c.Pass == (pass.Pass{}) {
		c.Also = netip.Addr{} // it says where a pass is shown, and nothing else
	}
	return c, true
}

// unicast reports whether a is of one host, and not of this one.
func unicast(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255}) && !(a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240))
}

// hearCandidate takes an attribute's value in. The first that name a place count.
func (s *security) hearCandidate(v string) {
	c, ok := candidateOf(v)
	if !ok || len(s.candidates) == MaxCandidates || slices.ContainsFunc(s.candidates, func(o Candidate) bool { return o.Addr == c.Addr }) {
		return
	}
	s.candidates = append(slices.Clip(s.candidates), c) // streams share those of the session
}

// passes reports whether one of them is a pass for a relay.
func passes(of []Candidate) bool {
	return slices.ContainsFunc(of, func(c Candidate) bool { return c.Pass != pass.Pass{} })
}

// candidateAttributes are those of this end, the best first.
func candidateAttributes(own []Candidate) (out []sdp.Attribute) {
	sorted := slices.Clone(own)
	slices.SortStableFunc(sorted, func(a, b Candidate) int { return cmp.Compare(a.Kind, b.Kind) })
	for i, c := range sorted[:min(len(sorted), MaxCandidates)] {
		out = append(out, c.attribute(i))
	}
	return out
}
