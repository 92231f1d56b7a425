// Package reach chooses among the addresses of a phone the one to call.
//
// It knows the order in which addresses are tried (RFC 6724) and how to try them
// without making somebody wait for a dead one (Happy Eyeballs, RFC 8305). It
// refuses to know what is spoken at the address.
package reach

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"
)

// attemptDelay is RFC 8305's Connection Attempt Delay, section 5.
const attemptDelay = 250 * time.Millisecond

// Order returns addrs in the order of RFC 6724, section 6, without those that
// cannot be reached at all. source tells which of our addresses the kernel would
// call dst from, the zero Addr if it has no route. Rules 3, 4 and 7 do not apply
// to a phone: it has no deprecated, home or encapsulated address of its peers.
func Order(addrs []netip.Addr, source func(dst netip.Addr) netip.Addr) []netip.Addr {
	type candidate struct{ dst, src netip.Addr }
	var all []candidate
	for _, a := range addrs {
		if src := source(a); src.IsValid() { // rule 1: avoid unusable destinations
			all = append(all, candidate{a, src.Unmap()})
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		for _, c := range []int{
			prefer(scope(a.dst) == scope(a.src), scope(b.dst) == scope(b.src)),                                     // rule 2: matching scope
			prefer(policyOf(a.dst).label == policyOf(a.src).label, policyOf(b.dst).label == policyOf(b.src).label), // rule 5: matching label
			policyOf(b.dst).precedence - policyOf(a.dst).precedence,                                                // rule 6: higher precedence
			prefer(!elsewhere(a.dst, a.src), !elsewhere(b.dst, b.src)),
			scope(a.dst) - scope(b.dst), // rule 8: smaller scope
		} {
			if c != 0 {
				return c
			}
		}
		if a.dst.Is6() && b.dst.Is6() { // rule 9: longest matching prefix
			return common(b.dst, b.src) - common(a.dst, a.src)
		}
		return 0 // rule 10: as they came
	})
	var out []netip.Addr
	for _, c := range all {
		out = append(out, c.dst)
	}
	return out
}

// elsewhere reports whether dst is most likely of another private network than src's:
// what is behind a router by that address is somebody else's here. Ours is an addition to
// the rules, for phones that name the address of their router as well, and takes
// private networks for /24s, as homes have them.
func elsewhere(dst, src netip.Addr) bool {
	return dst.Is4() && dst.IsPrivate() && !netip.PrefixFrom(src, 24).Contains(dst)
}

func prefer(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

type policy struct {
	prefix            netip.Prefix
	precedence, label int
}

// policyOf returns a's row of the default policy table (RFC 6724, section 2.1).
// IPv4 stands there as ::ffff:0:0/96.
func policyOf(a netip.Addr) policy {
	if a.Is4() {
		return policy{precedence: 35, label: 4}
	}
	for _, p := range policies() {
		if p.prefix.Contains(a) {
			return p
		}
	}
	return policy{precedence: 40, label: 1}
}

func policies() []policy {
	return []policy{
		{netip.MustParsePrefix("::1/128"), 50, 0},
		{netip.MustParsePrefix("2002::/16"), 30, 2},
		{netip.MustParsePrefix("2001::/32"), 5, 5},
		{netip.MustParsePrefix("fc00::/7"), 3, 13},
		{netip.MustParsePrefix("fec0::/10"), 1, 11},
		{netip.MustParsePrefix("3ffe::/16"), 1, 12},
	}
}

// Scopes of unicast addresses (RFC 6724, section 3.1; RFC 4291, section 2.7).
const (
	linkScope   = 2
	globalScope = 14
)

func scope(a netip.Addr) int {
	if a.IsLinkLocalUnicast() || a.IsLoopback() {
		return linkScope
	}
	return globalScope // private IPv4 and fc00::/7 too: section 3.2
}

// common returns how many leading bits a and b share, at most the 64 of an
// IPv6 prefix (section 2.2).
func common(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	for i := range 64 {
		if bit := byte(0x80 >> (i % 8)); x[i/8]&bit != y[i/8]&bit {
			return i
		}
	}
	return 64
}

// Source returns the address that the kernel would call dst from, the zero Addr
// if it has no route there. Nothing is sent.
func Source(dst netip.Addr) netip.Addr {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(dst, 9)))
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// First returns the first of addrs that dial gets through to. The next one is
// tried when the one before has failed, or has not answered for 250 ms. When
// none answers it returns the first of them, and ctx's or the last error. All
// dials have ended when it returns.
func First(ctx context.Context, addrs []netip.Addr, dial func(context.Context, netip.Addr) error) (netip.Addr, error) {
	ctx, cancel := context.WithCancel(ctx)
	type outcome struct {
		addr netip.Addr
		err  error
	}
	outcomes := make(chan outcome)
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			<-outcomes
		}
	}()
	timer := time.NewTimer(attemptDelay)
	defer timer.Stop()
	rest := addrs
	tryNext := func() {
		if len(rest) == 0 {
			return
		}
		a := rest[0]
		rest = rest[1:]
		running++
		go func() { outcomes <- outcome{a, dial(ctx, a)} }()
		timer.Reset(attemptDelay)
	}
	tryNext()
	for {
		select {
		case o := <-outcomes:
			running--
			if o.err == nil {
				return o.addr, nil
			}
			if tryNext(); running == 0 {
				return addrs[0], o.err
			}
		case <-timer.C:
			tryNext()
		case <-ctx.Done():
			return addrs[0], ctx.Err()
		}
	}
}
