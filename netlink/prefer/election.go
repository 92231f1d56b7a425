package prefer

import (
	"time"

	"flexphone/netlink"
	"flexphone/netlink/internal/moment"
)

const (
	// failbackWait keeps a flapping cable from moving every call with it.
	failbackWait = 3 * time.Second
	// reachWait is how long nothing must be reached through an interface that has an
	// address before another is tried: longer than a server takes to start anew.
	reachWait = 30 * time.Second
	// reachGap: doubts that are further apart are not of one outage. Who needs something
	// tries for it at least this often.
	reachGap = time.Minute
	// settleWait: a doubt so soon after another interface was chosen may be of a try
	// through the one before.
	settleWait = 2 * time.Second
	// An interface through which nothing was reached is tried again after firstPenalty,
	// and each further time after twice as long, up to mostPenalty: each try is a moment
	// in which the phone cannot be called. Once it was used for mostPenalty without a
	// doubt it is as new.
	firstPenalty = 5 * time.Minute
	mostPenalty  = time.Hour
)

// What can happen to an election.
type (
	// says: the source with this rank tells this.
	says struct {
		rank  int
		event netlink.Event
	}
	// unreached: what is needed is not reached from the address in use, and reached that
	// it is.
	unreached struct{}
	reached   struct{}
	tick      struct{} // deadline may have passed
	stopped   struct{} // all of them have ended
)

// What an election wants done, in order.
type (
	// shun: have the routes of the source with this rank come after all others, or not.
	shun struct {
		rank int
		yes  bool
	}
	tell struct{ event netlink.Event }
)

// An election chooses the source that is used, without I/O and without a clock.
type election struct {
	candidates []candidate
	failback   time.Duration // how long a better one must have held
	patience   time.Duration // reachWait
	chosen     int
	since      time.Time // it is chosen
	told       netlink.Lease
}

func newElection(sources int, failback time.Duration) election {
	return election{candidates: make([]candidate, sources), failback: failback, patience: reachWait}
}

// A candidate is a source as the election knows it.
type candidate struct {
	yields  bool // its routes can come after others'
	shunned bool // and do

	lease netlink.Lease // zero: none
	since time.Time

	begun   time.Time // the first doubt of this outage; zero: there is none
	last    time.Time // the last doubt
	proven  bool      // something was reached through it since it was chosen
	beyond  time.Time // until then nothing is believed to be reached through it
	penalty time.Duration
}

// step takes an input and returns what to do.
func (c *election) step(now time.Time, in any) []any {
	var events []netlink.Event
	switch in := in.(type) {
	case says:
		events = c.hear(now, in.rank, in.event)
	case unreached:
		c.doubt(now)
		events = c.failBack(now)
	case reached:
		c.reach(now)
		events = c.failBack(now)
	case tick:
		events = c.failBack(now)
	case stopped:
		events = c.lose(netlink.Event{Kind: netlink.Lost, Reason: "released", At: now})
	}
	out := c.shuns(now)
	for _, e := range events {
		out = append(out, tell{e})
	}
	return out
}

// hear takes an event of the source with this rank.
func (c *election) hear(now time.Time, rank int, e netlink.Event) []netlink.Event {
	c.candidates[rank].hear(now, e)
	best := c.best(now, 0)
	used := c.told.Prefix.IsValid() && rank == c.chosen
	switch {
	case used && e.Kind != netlink.Lost && e.Lease.Doubtful && c.before(now, best, rank):
		return c.choose(now, best)
	case used && e.Kind != netlink.Lost:
		return c.follow(e)
	case c.told.Prefix.IsValid() && rank != c.chosen:
		return c.failBack(now)
	case best >= 0:
		return c.choose(now, best)
	}
	return c.lose(e)
}

// hear takes an event of this candidate. What is known of what lies behind it holds as
// long as its address.
func (w *candidate) hear(now time.Time, e netlink.Event) {
	if e.Kind == netlink.Lost || w.lease.Prefix.IsValid() && e.Lease.Prefix != w.lease.Prefix {
		*w = candidate{yields: w.yields, shunned: w.shunned}
	}
	if e.Kind == netlink.Lost {
		return
	}
	if !w.lease.Prefix.IsValid() || w.lease.Doubtful && !e.Lease.Doubtful {
		w.since = now
	}
	w.lease = e.Lease
}

// doubt takes that nothing is reached through the one that is chosen. When that is so for
// long enough, and there is another to try, it is banished; one that is only tried again
// is given no time.
func (c *election) doubt(now time.Time) {
	w := &c.candidates[c.chosen]
	if !c.told.Prefix.IsValid() || now.Sub(c.since) < settleWait {
		return
	}
	if w.begun.IsZero() || now.Sub(w.last) > reachGap {
		w.begun = now
	}
	if now.Sub(w.last) > mostPenalty && now.Sub(c.since) > mostPenalty {
		w.penalty = 0
	}
	w.last = now
	tried := w.penalty > 0 && !w.proven
	if w.yields && (tried || now.Sub(w.begun) >= c.patience) && c.another(now) {
		w.banish(now)
	}
}

// banish has others come before the candidate for a time.
func (w *candidate) banish(now time.Time) {
	w.penalty = min(max(2*w.penalty, firstPenalty), mostPenalty)
	w.beyond, w.begun = now.Add(w.penalty), time.Time{}
}

// reach takes that something is reached through the one that is chosen. If that was out
// of reach through it as well, it was not for the others: they may be tried again.
func (c *election) reach(now time.Time) {
	w := &c.candidates[c.chosen]
	if !w.begun.IsZero() && now.Sub(w.begun) >= c.patience {
		for rank := range c.candidates {
			c.candidates[rank].beyond = time.Time{}
		}
	}
	w.proven, w.begun, w.beyond = true, time.Time{}, time.Time{}
}

// another reports whether there is another one through which more may be reached.
func (c *election) another(now time.Time) bool {
	for rank, w := range c.candidates {
		if rank != c.chosen && w.lease.Prefix.IsValid() && w.class(now) == 0 {
			return true
		}
	}
	return false
}

// shuns says whose routes are to come after others': of those that were banished, until
// they are chosen again or lose their address.
func (c *election) shuns(now time.Time) (out []any) {
	for rank := range c.candidates {
		w := &c.candidates[rank]
		yes := rank != c.chosen && w.lease.Prefix.IsValid() && (w.shunned || now.Before(w.beyond))
		if yes != w.shunned {
			w.shunned = yes
			out = append(out, shun{rank, yes})
		}
	}
	return out
}

// follow tells what the source that is used says.
func (c *election) follow(e netlink.Event) []netlink.Event {
	if e.Lease.Prefix != c.told.Prefix {
		e.Kind = netlink.Bound
	}
	c.told = e.Lease
	return []netlink.Event{e}
}

// lose tells that the last address is gone, if it was told.
func (c *election) lose(e netlink.Event) []netlink.Event {
	if !c.told.Prefix.IsValid() {
		return nil
	}
	e.Lease, c.told = c.told, netlink.Lease{}
	return []netlink.Event{e}
}

// failBack changes to a better source that has held.
func (c *election) failBack(now time.Time) []netlink.Event {
	if !c.told.Prefix.IsValid() {
		return nil
	}
	if best := c.best(now, c.hold(now)); c.before(now, best, c.chosen) {
		return c.choose(now, best)
	}
	return nil
}

// hold returns how long a better source must have held: no time when the one in use is
// of little use.
func (c *election) hold(now time.Time) time.Duration {
	if c.candidates[c.chosen].class(now) > 0 {
		return 0
	}
	return c.failback
}

// deadline returns when step wants a tick; zero: never.
func (c *election) deadline(now time.Time) (d time.Time) {
	for rank, w := range c.candidates {
		at := w.since.Add(c.hold(now))
		if at.Before(w.beyond) {
			at = w.beyond
		}
		then := now
		if then.Before(at) {
			then = at
		}
		if c.told.Prefix.IsValid() && w.lease.Prefix.IsValid() && c.before(then, rank, c.chosen) {
			d = moment.Earliest(d, at)
		}
	}
	return d
}

// class orders candidates before their ranks do: those behind which nothing is reached
// come late, and those whose network is likely dead come last.
func (w candidate) class(now time.Time) int {
	switch {
	case w.lease.Doubtful:
		return 2
	case now.Before(w.beyond):
		return 1
	}
	return 0
}

// before reports whether the source with rank a is better than that with rank b; one
// of rank -1 is not.
func (c *election) before(now time.Time, a, b int) bool {
	if a < 0 || b < 0 || a == b {
		return a >= 0 && b < 0
	}
	if x, y := c.candidates[a].class(now), c.candidates[b].class(now); x != y {
		return x < y
	}
	return a < b
}

// best returns the rank of the best source that has held for a time, -1 for none.
func (c *election) best(now time.Time, held time.Duration) int {
	best := -1
	for rank, w := range c.candidates {
		if w.lease.Prefix.IsValid() && !now.Before(w.since.Add(held)) && c.before(now, rank, best) {
			best = rank
		}
	}
	return best
}

func (c *election) choose(now time.Time, rank int) []netlink.Event {
	c.chosen, c.since, c.told = rank, now, c.candidates[rank].lease
	c.candidates[rank].proven, c.candidates[rank].begun = false, time.Time{}
	return []netlink.Event{{Kind: netlink.Bound, Lease: c.told, At: now}}
}
