package netlink

import (
	"net/netip"
	"time"

	"flexphone/netlink/internal/link"
	"flexphone/netlink/internal/moment"
)

// A sight is what an interface holds at one moment.
type sight struct {
	mac     MAC
	running bool // with a carrier
	held    []heldAddress
	// router and source of the best default route over the interface.
	routed bool
	router netip.Addr // zero for a route without a router, as on PPP
	source netip.Addr // zero when the route does not say
}

// A heldAddress is a global IPv4 address of an interface.
type heldAddress struct {
	prefix    netip.Prefix
	life      time.Duration // what is left; 0: for ever
	secondary bool
	six       standing6
}

// A watcher turns sights of an interface into events: the pure half of Watch.
type watcher struct {
	ifname string
	base   Lease // what the network cannot be seen to say: storing server, DNS
	told   Lease
	since  netip.Prefix // address that waits for its route
	ready  time.Time    // when it is taken without one
	lose   time.Time    // when Lost is told
	reason string
}

// step compares what is seen with what was told.
func (w *watcher) step(now time.Time, s sight) []Event {
	l, ok := w.choose(now, s)
	switch {
	case !s.running && s.mac == (MAC{}): // PPP, which dials in again, or a link that is gone
		w.pause(now, "link down", gapGrace)
	case !s.running:
		w.pause(now, "link down", link.Grace)
	case !ok:
		w.pause(now, "address removed", gapGrace)
	default:
		if !s.routed && (l.Prefix != w.told.Prefix || w.told.Router.IsValid()) {
			if w.since != l.Prefix {
				w.since, w.ready = l.Prefix, now.Add(routeGrace)
			}
			if now.Before(w.ready) {
				return w.due(now)
			}
		}
		w.since, w.ready, w.lose = netip.Prefix{}, time.Time{}, time.Time{}
		return w.tell(now, l)
	}
	w.since, w.ready = netip.Prefix{}, time.Time{}
	return w.due(now)
}

// deadline returns when step must be called again though nothing changed; zero:
// never.
func (w *watcher) deadline() time.Time {
	return moment.Earliest(w.lose, w.ready)
}

// choose picks the address that connections leave from: the default route's
// source, else the first on the router's network, else the first.
func (w *watcher) choose(now time.Time, s sight) (Lease, bool) {
	best, found := heldAddress{}, false
	rank := -1
	for _, a := range s.held {
		r := 0
		switch {
		case a.prefix.Addr() == s.source:
			r = 3
		case s.router.IsValid() && a.prefix.Contains(s.router) && !a.secondary:
			r = 2
		case !a.secondary:
			r = 1
		}
		if r > rank {
			best, found, rank = a, true, r
		}
	}
	l := w.base
	l.MAC, l.Interface, l.Prefix, l.Router, l.Start = s.mac, w.ifname, best.prefix, s.router, now
	if best.life > 0 {
		l.Expiry = now.Add(best.life)
	}
	return l, found
}

// pause sets the end of what was told, once.
func (w *watcher) pause(now time.Time, reason string, grace time.Duration) {
	if w.told.Prefix.IsValid() && (w.lose.IsZero() || now.Add(grace).Before(w.lose)) {
		w.lose, w.reason = now.Add(grace), reason
	}
}

func (w *watcher) due(now time.Time) []Event {
	if w.lose.IsZero() || now.Before(w.lose) {
		return nil
	}
	e := Event{Kind: Lost, Lease: w.told, Reason: w.reason, At: now}
	w.lose, w.told = time.Time{}, Lease{}
	return []Event{e}
}

func (w *watcher) tell(now time.Time, l Lease) []Event {
	kind := Renewed
	switch {
	case l.Prefix != w.told.Prefix:
		kind = Bound
	case l.Router == w.told.Router && l.MAC == w.told.MAC && sameExpiry(l.Expiry, w.told.Expiry):
		return nil
	}
	w.told = l
	return []Event{{Kind: kind, Lease: l, At: now}}
}

// sameExpiry reports whether the lease was not renewed between two readings of
// how long it still lasts.
func sameExpiry(a, b time.Time) bool {
	if a.IsZero() || b.IsZero() {
		return a.IsZero() == b.IsZero()
	}
	return a.Sub(b).Abs() < renewSlack
}
