package netlink

import (
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"flexphone/netlink/internal/link"
	"flexphone/netlink/internal/moment"
)

// What can happen to an agent6, beside advice, routerSays, and what happens to its
// machine6 on the wire.
type (
	// linkSeen: the interface is like this. It is followed by held6.
	linkSeen struct{ state link.State }
	// opened6 answers open6: messages of DHCPv6 can be sent.
	opened6  struct{}
	fourSays struct{ event Event } // IPv4 tells this
	gone     struct{}              // what was held is given back, IPv4 too
)

// held6 is what the kernel holds of IPv6 on the interface; the zero value when there is
// none of its name.
type held6 struct {
	sight          sight6
	answering      []netip.Addr // of the routers in sight
	local          netip.Addr   // the link-local address, once it can be used
	doubled        netip.Addr   // a leased address that another host has
	managed, other bool         // M and O of the routers (RFC 4861 §4.2)
}

// What an agent6 wants done, in order, beside what its machine6 does, tell and note.
type (
	prepare6   struct{ state link.State } // have the kernel listen to routers there
	listen6    struct{}                   // hear the routers, unless they are heard
	open6      struct{ from netip.Addr }  // the socket of DHCPv6; answered with opened6
	shut6      struct{}                   // both: the interface is another
	flush6     struct{}                   // take away what routers gave
	deprecate6 struct{ addr heldAddress } // begin nothing new from it
	// metric6: have the routes of routers this metric. The kernel changes it when it hears
	// them next, so that they are asked to speak.
	metric6 struct{ metric int }
)

// An agent6 is all that is done about the IPv6 of an interface, without I/O and without
// a clock: it hears the routers, runs DHCPv6 where they ask for it, says which addresses
// are good, and joins them with IPv4.
type agent6 struct {
	ifname string
	metric int  // of the routes; 0: the kernel's own
	shun   bool // they are to come after all others
	manage bool // the interface's addresses are our business
	pair   pair
	dhcp   machine6

	out     []any
	link    link.State
	down    time.Time  // since when there is no carrier
	flushed bool       // what routers gave was removed since
	held    held6      // at the last look
	open    bool       // the socket of DHCPv6
	router  netip.Addr // in use; zero: none

	// What the routers of the link say.
	prefixes hearsay[netip.Prefix]
	dns      hearsay[netip.Addr]
	domains  hearsay[string]
}

// step takes an input and returns what to do.
func (a *agent6) step(now time.Time, in any) []any {
	a.out = nil
	switch in := in.(type) {
	case linkSeen:
		a.follow(now, in.state)
	case held6:
		a.look(now, in)
	case opened6:
		a.open = true
		a.follow6(now)
	case fourSays:
		a.tell(a.pair.fourEvent(now, in.event))
	case advice:
		a.advise(now, in)
	case routerSays:
		for _, p := range in.prefixes {
			a.prefixes.say(now, in.router, p.valid, p.prefix)
		}
	case shunned:
		if changed := a.shun != in.yes; changed && a.manage && a.metric != 0 {
			a.shun = in.yes
			a.do(metric6{a.routeMetric()})
		}
	case gone:
		a.tell(a.pair.end(now))
	default:
		a.ask(now, in)
	}
	return a.out
}

// deadline returns when a look is wanted though nothing is known to have changed; zero:
// never.
func (a *agent6) deadline(now time.Time) time.Time {
	return moment.Earliest(a.dhcp.deadline(), a.prefixes.deadline(now), a.dns.deadline(now), a.domains.deadline(now),
		a.pair.deadline(), a.flushAt())
}

// routeMetric is that of the routes which routers give, beside the kernel's own for them
// (IP6_RT_PRIO_USER).
func (a *agent6) routeMetric() int {
	if a.shun {
		return 1024 + a.metric + doubtMetric
	}
	return 1024 + a.metric
}

// flushAt is when the addresses of routers that are gone are removed.
func (a *agent6) flushAt() time.Time {
	if a.flushed || !a.manage || a.link.Index == 0 { // an interface takes them with it
		return time.Time{}
	}
	return moment.Later(a.down, link.Grace)
}

func (a *agent6) do(action any) { a.out = append(a.out, action) }

func (a *agent6) tell(events []Event) {
	for _, e := range events {
		a.do(tell{e})
	}
}

// ask hands DHCPv6 an input.
func (a *agent6) ask(now time.Time, in any) { a.out = append(a.out, a.dhcp.step(now, in)...) }

// follow takes the state of the interface. Another one of its name is to be prepared;
// one without a carrier may be plugged in at another network next.
func (a *agent6) follow(now time.Time, l link.State) {
	if l.Index != a.link.Index {
		if a.manage && l.Index != 0 {
			a.do(prepare6{l})
		}
		a.forget()
		a.open = false
		a.do(shut6{})
	}
	a.link = l
	if a.manage && l.Index != 0 && l.Enabled && l.MAC != (MAC{}) {
		a.do(listen6{})
	}
	switch {
	case l.Running:
		a.down, a.flushed = time.Time{}, false
	case a.down.IsZero():
		a.down = now
	case moment.Passed(now, a.flushAt()):
		// The next cable may lead to other routers; these would be believed
		// for hours (RFC 4861 §6.3.4).
		a.flushed = true
		a.forget()
		a.do(flush6{})
	}
}

// forget is for another link.
func (a *agent6) forget() {
	a.prefixes, a.dns, a.domains = hearsay[netip.Prefix]{}, hearsay[netip.Addr]{}, hearsay[string]{}
}

// look takes what the kernel holds, and tells what is new.
func (a *agent6) look(now time.Time, held held6) {
	a.held = held
	if held.doubled.IsValid() {
		a.ask(now, duplicate{held.doubled})
	}
	if a.manage {
		a.follow6(now)
	}
	seen := held.sight
	seen.mac, seen.running = a.link.MAC, a.link.Running
	seen.dns = appendNew(a.dhcp.dns, a.dns.known(now)...)
	seen.domains = appendDomains(slices.Clone(a.dhcp.domains), a.domains.known(now)...)
	a.rank(now, seen, held.answering)
	a.tell(a.pair.sixSeen(now, seen))
}

// follow6 tells DHCPv6 what the routers ask for, once there is a socket to do it with.
func (a *agent6) follow6(now time.Time) {
	says := linkSays{ready: a.link.Running && a.held.local.IsValid(), mac: a.link.MAC, managed: a.held.managed, other: a.held.other}
	if wanted := says.managed || says.other; says.ready && wanted && !a.open {
		says.ready = false
		a.do(open6{a.held.local})
	}
	if says != a.dhcp.link {
		a.ask(now, says)
	}
	a.ask(now, tick{})
}

// advise takes what a router says of name servers.
func (a *agent6) advise(now time.Time, says advice) {
	if says.index != a.link.Index {
		return
	}
	for _, d := range says.dns {
		if d.IsLinkLocalUnicast() {
			d = d.WithZone(a.ifname)
		}
		a.dns.say(now, says.router, says.life, d)
	}
	a.domains.say(now, says.router, says.life, says.domains...)
}

// rank says of each address how it stands, and has the kernel use those no more
// whose prefix is gone, when there is a better one.
func (a *agent6) rank(now time.Time, seen sight6, answering []netip.Addr) {
	a.router = routerInUse(a.router, seen.routers, answering)
	known := a.prefixes.known(now)
	better, left := false, []heldAddress(nil)
	for i := range seen.addrs {
		h := &seen.addrs[i]
		if !a.manage && h.six.age < maxAdvertise {
			h.six.age = 0 // routers take turns, and cannot be told apart
		}
		at := slices.IndexFunc(known, func(p netip.Prefix) bool { return p.Contains(h.prefix.Addr()) })
		if at < 0 {
			continue
		}
		var forGood bool
		h.six.heard, h.six.inUse, h.six.leftOut, forGood = a.prefixes.standing(now, known[at], a.router)
		better = better || !h.six.leftOut
		if forGood && h.prefix.Addr() != a.dhcp.held.addr {
			left = append(left, *h)
		}
	}
	if !a.manage || !better {
		return
	}
	for _, h := range left {
		a.do(note{slog.LevelInfo, "routers left out a prefix, not using it", []any{"prefix", h.prefix.Masked()}})
		a.do(deprecate6{h})
	}
}
