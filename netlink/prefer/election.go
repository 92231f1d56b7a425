package prefer

import (
	"time"

	"flexphone/netlink"
	"flexphone/netlink/internal/moment"
)

// failbackWait keeps a flapping cable from moving every call with it.
const failbackWait = 3 * time.Second

// What can happen to an election.
type (
	// says: the source with this rank tells this.
	says struct {
		rank  int
		event netlink.Event
	}
	tick    struct{} // deadline may have passed
	stopped struct{} // all of them have ended
)

// An election chooses the source that is used, without I/O and without a clock.
type election struct {
	candidates []candidate
	failback   time.Duration // how long a better one must have held
	chosen     int
	told       netlink.Lease
}

func newElection(sources int, failback time.Duration) election {
	return election{candidates: make([]candidate, sources), failback: failback}
}

type candidate struct {
	lease netlink.Lease // zero: none
	since time.Time
}

// step takes an input and returns what is to be told.
func (c *election) step(now time.Time, in any) []netlink.Event {
	switch in := in.(type) {
	case says:
		return c.hear(now, in.rank, in.event)
	case tick:
		return c.failBack(now)
	case stopped:
		return c.lose(netlink.Event{Kind: netlink.Lost, Reason: "released", At: now})
	}
	return nil
}

// hear takes an event of the source with this rank.
func (c *election) hear(now time.Time, rank int, e netlink.Event) []netlink.Event {
	c.candidates[rank].hear(now, e)
	best := c.best(now, 0)
	used := c.told.Prefix.IsValid() && rank == c.chosen
	switch {
	case used && e.Kind != netlink.Lost && e.Lease.Doubtful && c.before(best, rank):
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

// hear takes an event of this candidate.
func (w *candidate) hear(now time.Time, e netlink.Event) {
	if e.Kind == netlink.Lost {
		*w = candidate{}
		return
	}
	if !w.lease.Prefix.IsValid() || w.lease.Doubtful && !e.Lease.Doubtful {
		w.since = now
	}
	w.lease = e.Lease
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
	held := c.failback
	if c.told.Doubtful {
		held = 0
	}
	if best := c.best(now, held); c.before(best, c.chosen) {
		return c.choose(now, best)
	}
	return nil
}

// deadline returns when step wants a tick; zero: never.
func (c *election) deadline() (d time.Time) {
	for rank, who := range c.candidates {
		if c.told.Prefix.IsValid() && who.lease.Prefix.IsValid() && c.before(rank, c.chosen) {
			d = moment.Earliest(d, who.since.Add(c.failback))
		}
	}
	return d
}

// before reports whether the source with rank a is better than that with rank b; one
// of rank -1 is not.
func (c *election) before(a, b int) bool {
	if a < 0 || b < 0 || a == b {
		return a >= 0 && b < 0
	}
	if x, y := c.candidates[a].lease.Doubtful, c.candidates[b].lease.Doubtful; x != y {
		return y
	}
	return a < b
}

// best returns the rank of the best source that has held for a time, -1 for none.
func (c *election) best(now time.Time, held time.Duration) int {
	best := -1
	for rank, who := range c.candidates {
		if who.lease.Prefix.IsValid() && !now.Before(who.since.Add(held)) && c.before(rank, best) {
			best = rank
		}
	}
	return best
}

func (c *election) choose(now time.Time, rank int) []netlink.Event {
	c.chosen, c.told = rank, c.candidates[rank].lease
	return []netlink.Event{{Kind: netlink.Bound, Lease: c.told, At: now}}
}
