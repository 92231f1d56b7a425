package netlink

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"flexphone/netlink/internal/link"
	"flexphone/netlink/internal/moment"
)

// A sight6 is what an interface holds of IPv6 that others can reach.
type sight6 struct {
	mac     MAC
	running bool
	addrs   []heldAddress // not tentative, deprecated or temporary
	routed  bool
	router  netip.Addr   // of a default route; zero for one without
	routers []netip.Addr // of all default routes
	dns     []netip.Addr
	domains []string
}

// A standing6 says how an IPv6 address stands beside others.
type standing6 struct {
	// leftOut: its prefix was said by routers, and they say others now.
	leftOut bool
	// inUse: its prefix is said by the router that is used (RFC 6724 §5, rule 5.5).
	inUse bool
	// heard: its prefix is known from a router. Otherwise age says how long ago the
	// kernel was last told.
	heard bool
	age   time.Duration
}

// compare orders a before b: what routers say before what they left out (RFC
// 8978, 9096), then what the router in use says, then what was said last.
func (a standing6) compare(b standing6) int {
	first := func(a, b bool) int {
		switch {
		case a == b:
			return 0
		case a:
			return -1
		}
		return 1
	}
	order := cmp.Or(first(!a.leftOut, !b.leftOut), first(a.inUse, b.inUse), first(a.heard, b.heard))
	if order == 0 && !a.heard && (a.age-b.age).Abs() > oneBreath {
		return cmp.Compare(a.age, b.age)
	}
	return order
}

// routerInUse is the one that is used, of those that there are and those that
// answer: the one that was, as long as it is no worse than another.
func routerInUse(was netip.Addr, routers, answering []netip.Addr) netip.Addr {
	if len(answering) > 0 {
		routers = answering
	}
	switch {
	case slices.Contains(routers, was):
		return was
	case len(routers) > 0:
		return routers[0]
	}
	return netip.Addr{}
}

// maxIPv6 is how many IPv6 addresses are told: one of each of two providers, and
// their unique local company.
const maxIPv6 = 4

// usable returns the addresses to announce, global before unique local ones
// (RFC 6724 §2.1 prefers those only within a site), those that routers stand by
// before others, in an order that does not change with the kernel's.
func (s sight6) usable() []netip.Prefix {
	if !s.running || !s.routed {
		return nil
	}
	list := slices.Clone(s.addrs)
	slices.SortFunc(list, func(a, b heldAddress) int {
		x, y := a.prefix.Addr(), b.prefix.Addr()
		if x.IsPrivate() != y.IsPrivate() {
			if y.IsPrivate() {
				return -1
			}
			return 1
		}
		return cmp.Or(a.six.compare(b.six), x.Compare(y))
	})
	var out []netip.Prefix
	for _, a := range list {
		if isHost6(a.prefix.Addr()) && len(out) < maxIPv6 {
			out = append(out, a.prefix)
		}
	}
	return out
}

// A pair joins the events of IPv4 with what is seen of IPv6: the pure half of
// WithIPv6.
type pair struct {
	ifname string
	four   Lease // zero: none
	six    sight6
	told   Lease
	lose   time.Time // when the loss of the last address is told
	reason string
	// alone: no IPv4 is to be expected. Else the first address waits for it
	// until patience, so as not to be announced and replaced in a moment.
	alone    bool
	patience time.Time
}

// fourEvent takes an event of IPv4.
func (p *pair) fourEvent(now time.Time, e Event) []Event {
	p.four = e.Lease
	if e.Kind == Lost {
		p.four, p.reason = Lease{}, e.Reason
		p.lose = now // it has waited already
	}
	return p.tell(now, e.Kind == Renewed || e.Kind == Bound)
}

// sixSeen takes what is seen of IPv6.
func (p *pair) sixSeen(now time.Time, s sight6) []Event {
	before := p.six.usable()
	p.six = s
	if len(before) > 0 && len(s.usable()) == 0 {
		p.reason, p.lose = "address removed", now.Add(gapGrace)
		if !s.running {
			p.reason, p.lose = "link down", now.Add(link.Grace)
		}
	}
	return p.tell(now, false)
}

// deadline returns when sixSeen must be called though nothing changed; zero: never.
func (p *pair) deadline() time.Time {
	return moment.Earliest(p.lose, p.patience)
}

// end tells that the last address is given back, if there was one.
func (p *pair) end(now time.Time) []Event {
	if !p.told.Prefix.IsValid() {
		return nil
	}
	e := Event{Kind: Lost, Lease: p.told, Reason: "released", At: now}
	p.told = Lease{}
	return []Event{e}
}

// lease is the state as one lease.
func (p *pair) lease(now time.Time) Lease {
	l := p.four
	six := p.six.usable()
	for _, a := range six {
		l.IPv6 = append(l.IPv6, a.Addr())
	}
	if len(six) > 0 || l.Prefix.IsValid() {
		l.DNS = appendNew(l.DNS, p.six.dns...)
		l.Domains = appendDomains(slices.Clone(l.Domains), p.six.domains...)
	}
	if l.Prefix.IsValid() || len(six) == 0 {
		return l
	}
	l.MAC, l.Interface, l.Prefix, l.Router, l.Start = p.six.mac, p.ifname, six[0], p.six.router, now
	for _, a := range p.six.addrs {
		if a.prefix == six[0] && a.life > 0 {
			l.Expiry = now.Add(a.life)
		}
	}
	return l
}

// tell says what is new. A gap without any address is told once its grace is over.
func (p *pair) tell(now time.Time, renewed bool) []Event {
	l := p.lease(now)
	if !l.Prefix.IsValid() {
		p.patience = time.Time{}
		if p.lose.IsZero() || now.Before(p.lose) {
			return nil
		}
		p.lose = time.Time{}
		if !p.told.Prefix.IsValid() {
			return nil
		}
		e := Event{Kind: Lost, Lease: p.told, Reason: p.reason, At: now}
		p.told = Lease{}
		return []Event{e}
	}
	if len(l.IPv6) == 0 && len(p.told.IPv6) > 0 && now.Before(p.lose) && l.Prefix == p.told.Prefix && !renewed {
		return nil // IPv6 may come back
	}
	if !p.told.Prefix.IsValid() && !p.four.Prefix.IsValid() && !p.alone {
		if p.patience.IsZero() {
			p.patience = now.Add(fourGrace)
		}
		if now.Before(p.patience) {
			return nil
		}
	}
	p.lose, p.patience = time.Time{}, time.Time{}
	kind := Renewed
	switch {
	case l.Prefix != p.told.Prefix:
		kind = Bound
	case renewed, !slices.Equal(l.IPv6, p.told.IPv6), !slices.Equal(l.DNS, p.told.DNS), !slices.Equal(l.Domains, p.told.Domains):
	case !p.four.Prefix.IsValid() && l.Router == p.told.Router && !muchLater(now, l.Expiry, p.told.Expiry),
		p.four.Prefix.IsValid():
		return nil
	}
	p.told = l
	return []Event{{Kind: kind, Lease: l, At: now}}
}

// appendNew returns list with those of more that it does not have; list itself
// stays as it is.
func appendNew(list []netip.Addr, more ...netip.Addr) []netip.Addr {
	list = slices.Clone(list)
	for _, a := range more {
		if !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// muchLater reports whether an expiry moved by more than a tenth of what was
// left of it: each router advertisement moves it a little.
func muchLater(now, a, b time.Time) bool {
	if a.IsZero() || b.IsZero() {
		return a.IsZero() != b.IsZero()
	}
	return a.Sub(b).Abs() > max(b.Sub(now)/10, renewSlack)
}
