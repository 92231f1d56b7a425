package trust

import (
	"fmt"
	"net/netip"
)

// Exempt are networks that limits by source do not hold for: many clients come
// from there by one address, as a PBX's, a proxy's or a public resolver's do.
// Limits by key, and of guesses at passwords, hold for them too.
type Exempt []netip.Prefix

// ParseExempt reads networks or single addresses. One of IPv6 has 64 bits at
// the most, as what counts as one source.
func ParseExempt(texts []string) (e Exempt, err error) {
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a, err := netip.ParseAddr(text)
			if err != nil || a.Zone() != "" {
				return nil, fmt.Errorf("%q is no network, such as 192.0.2.0/24 or 2001:db8::/64", text)
			}
			a = a.Unmap()
			p = netip.PrefixFrom(a, min(a.BitLen(), 64))
		}
		if p.Addr().Is4In6() || p.Addr().Is6() && p.Bits() > 64 {
			return nil, fmt.Errorf("%q: a network of IPv6 has at most 64 bits", text)
		}
		e = append(e, p.Masked())
	}
	return e, nil
}

// Has reports whether n is exempt.
func (e Exempt) Has(n Network) bool {
	if len(e) == 0 {
		return false
	}
	a, ok := n.addr()
	if !ok {
		return false
	}
	for _, p := range e {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// addr returns the first address of a network.
func (n Network) addr() (netip.Addr, bool) {
	switch n[0] {
	case 4:
		return netip.AddrFrom4([4]byte(n[1:5])), true
	case 6:
		var b [16]byte
		copy(b[:], n[1:])
		return netip.AddrFrom16(b), true
	}
	return netip.Addr{}, false
}
