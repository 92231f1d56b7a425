package netlink

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"flexphone/netlink/internal/moment"
	"flexphone/netlink/internal/resolvconf"
)

// Prefer returns a Source that tells the events of the best of several which
// has an address, such as Ethernet before Wi-Fi; the first is best. All of them
// run, so that another is ready when the best fails; give them rising Metrics.
// A better one that comes back is used once it has held for three seconds. One
// whose lease nobody confirms comes after all others, though it may have a carrier:
// likely its network is dead. The name servers of the one that is used go to the file resolvConf, if not empty;
// the sources' own ResolvConf should be empty then.
func Prefer(resolvConf string, log *slog.Logger, sources ...Source) (Source, error) {
	if len(sources) == 0 {
		return nil, errors.New("netlink: configure: no interface")
	}
	return newPrefer(resolvConf, log, failbackWait, sources...), nil
}

func newPrefer(resolvConf string, log *slog.Logger, failback time.Duration, sources ...Source) *prefer {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &prefer{
		names: resolvconf.File{Path: resolvConf}, log: log, sources: sources, events: newQueue(),
		election: election{candidates: make([]candidate, len(sources)), failback: failback},
	}
}

// failbackWait keeps a flapping cable from moving every call with it.
const failbackWait = 3 * time.Second

// An election chooses: the pure half of Prefer.
type election struct {
	candidates []candidate
	failback   time.Duration // how long a better one must have held
	chosen     int
	told       Lease
}

type candidate struct {
	lease Lease // zero: none
	since time.Time
}

// event takes an event of the source with this rank.
func (c *election) event(now time.Time, rank int, e Event) []Event {
	who := &c.candidates[rank]
	if e.Kind == Lost {
		*who = candidate{}
	} else {
		if !who.lease.Prefix.IsValid() || who.lease.Doubtful && !e.Lease.Doubtful {
			who.since = now
		}
		who.lease = e.Lease
	}
	told := c.told.Prefix.IsValid()
	if best := c.best(now, 0); told && rank == c.chosen && e.Lease.Doubtful && c.before(best, rank) {
		return c.choose(now, best)
	}
	if told && rank == c.chosen && e.Kind != Lost {
		if e.Lease.Prefix != c.told.Prefix {
			e.Kind = Bound
		}
		c.told = e.Lease
		return []Event{e}
	}
	if told && c.candidates[c.chosen].lease.Prefix.IsValid() {
		return c.due(now) // somebody else's
	}
	best := c.best(now, 0)
	if best < 0 {
		if !told {
			return nil
		}
		e.Lease, c.told = c.told, Lease{}
		return []Event{e}
	}
	return c.choose(now, best)
}

// due changes to a better source that has held.
func (c *election) due(now time.Time) []Event {
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

// deadline returns when due may have something to do; zero: never.
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

func (c *election) choose(now time.Time, rank int) []Event {
	c.chosen, c.told = rank, c.candidates[rank].lease
	return []Event{{Kind: Bound, Lease: c.told, At: now}}
}

// A prefer runs an election.
type prefer struct {
	names    resolvconf.File
	log      *slog.Logger
	sources  []Source
	events   *queue
	election election
}

// Next implements Source.
func (p *prefer) Next(ctx context.Context) (Event, error) { return p.events.next(ctx) }

// Doubt passes a doubt on to all: the one that is used is one of them.
func (p *prefer) Doubt() {
	for _, s := range p.sources {
		Doubt(s)
	}
}

// Run implements Source. It ends when one of the sources cannot run.
func (p *prefer) Run(ctx context.Context) error {
	inner, cancel := context.WithCancel(ctx)
	type ranked struct {
		rank  int
		event Event
	}
	in, ended := make(chan ranked), make(chan error, len(p.sources))
	var readers sync.WaitGroup
	for rank, s := range p.sources {
		readers.Go(func() {
			err := s.Run(inner)
			cancel() // one for all
			ended <- err
		})
		readers.Go(func() {
			for {
				e, err := s.Next(inner)
				if err != nil {
					return
				}
				select {
				case in <- ranked{rank, e}:
				case <-inner.Done():
					return
				}
			}
		})
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for inner.Err() == nil {
		var events []Event
		if d := p.election.deadline(); d.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(d))
		}
		select {
		case <-inner.Done():
		case r := <-in:
			events = p.election.event(time.Now(), r.rank, r.event)
		case <-timer.C:
			events = p.election.due(time.Now())
		}
		for _, e := range events {
			p.events.push(e)
			p.log.Debug(e.Kind.String(), "interface", e.Lease.Interface, "address", e.Lease.Prefix, "reason", e.Reason)
			if e.Kind != Lost {
				if err := p.names.Write(e.Lease.names()); err != nil {
					p.log.Error("cannot use the name servers", "error", err)
				}
			}
		}
	}
	cancel()
	readers.Wait()
	close(ended)
	var err error
	for e := range ended {
		err = errors.Join(err, e)
	}
	err = errors.Join(err, p.names.Restore())
	if told := p.election.told; told.Prefix.IsValid() {
		p.events.push(Event{Kind: Lost, Lease: told, Reason: "released", At: time.Now()})
	}
	return err
}
