package netlink

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"flexphone/netlink/internal/arp"
)

// A suspicion finds out whether who answers for an address has it, or is a proxy
// that answers for every address (RFC 1027): it is asked for some that nobody is
// likely to have. Without I/O and without a clock.
type suspicion struct {
	until  time.Time // of the hearing; zero: there is none
	claim  arp.Claim
	decoys []netip.Addr // that the accused has not answered for

	proxy MAC         // convicted on this link; zero: nobody
	last  []arp.Claim // what was conceded
}

const (
	// hearing is how long the accused has to answer. Who answered the probe
	// before an address was used answers within a fraction of it.
	hearing = 250 * time.Millisecond
	// decoys is how many more addresses it must answer for: one alone may be
	// another address of a host that has many.
	decoys = 3
)

// pending reports whether a claim is being looked into.
func (s *suspicion) pending() bool { return !s.until.IsZero() }

// accuse begins a hearing of who claims an address of network, and returns what to
// ask; nothing when the claim needs none.
func (s *suspicion) accuse(now time.Time, r *rand.Rand, network netip.Prefix, claim arp.Claim) (probes []any) {
	if claim.Probe || !network.IsValid() || network.Bits() > 28 {
		return nil
	}
	s.claim, s.decoys = claim, nil
	hosts := uint32(1)<<(32-network.Bits()) - 2
	for tries := 0; len(s.decoys) < decoys && tries < 100; tries++ {
		a := hostAt(network, 1+r.Uint32N(hosts))
		if a != claim.Addr && a != network.Addr() && !slices.Contains(s.decoys, a) {
			s.decoys = append(s.decoys, a)
			probes = append(probes, sendProbe{a})
		}
	}
	s.until = now.Add(hearing)
	return probes
}

// hostAt returns the n-th address of network.
func hostAt(network netip.Prefix, n uint32) netip.Addr {
	b := network.Masked().Addr().As4()
	for i := 3; i >= 0; i, n = i-1, n>>8 {
		b[i] |= byte(n)
	}
	return netip.AddrFrom4(b)
}

// hears takes what somebody says, and reports whether it convicts the accused.
func (s *suspicion) hears(c arp.Claim) bool {
	if !s.pending() || c.Probe || c.From != s.claim.From {
		return false
	}
	if i := slices.Index(s.decoys, c.Addr); i >= 0 {
		s.decoys = slices.Delete(s.decoys, i, i+1)
	}
	if len(s.decoys) > 0 {
		return false
	}
	s.proxy, s.until = s.claim.From, time.Time{}
	return true
}

// concede ends the hearing: the claim is believed. Who claims one address after
// another is a proxy all the same, one that was slow to answer.
func (s *suspicion) concede(claim arp.Claim) {
	s.until, s.decoys = time.Time{}, nil
	if claim.Probe {
		return
	}
	for _, c := range s.last {
		if c.From == claim.From && c.Addr != claim.Addr {
			s.proxy = claim.From
		}
	}
	if s.last = append(s.last, claim); len(s.last) > 8 {
		s.last = s.last[1:]
	}
}
