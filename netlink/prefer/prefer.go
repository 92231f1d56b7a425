package prefer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"flexphone/netlink"
	"flexphone/netlink/internal/resolvconf"
)

// New returns a Source that tells the events of the best of several which
// has an address, such as Ethernet before Wi-Fi; the first is best. All of them
// run, so that another is ready when the best fails; give them rising Metrics.
// A better one that comes back is used once it has held for three seconds. One
// whose lease nobody confirms comes after all others, though it may have a carrier:
// likely its network is dead. The name servers of the one that is used go to the file
// resolvConf, if not empty; the sources' own ResolvConf should be empty then.
//
// One with an address through which nothing is reached (netlink.Unreached) for half a minute
// comes after others for five minutes, and then for longer and longer, with its routes.
func New(resolvConf string, log *slog.Logger, sources ...netlink.Source) (netlink.Source, error) {
	p, err := newPrefer(resolvConf, log, failbackWait, sources)
	if err != nil {
		return nil, err
	}
	for rank, s := range sources {
		p.election.candidates[rank].yields = netlink.Shun(s, false)
	}
	return p, nil
}

// AtOnce is as New, but a better one that comes back is used at once, and is never left
// for what is not reached through it.
func AtOnce(resolvConf string, log *slog.Logger, sources ...netlink.Source) (netlink.Source, error) {
	return newPrefer(resolvConf, log, 0, sources)
}

func newPrefer(resolvConf string, log *slog.Logger, failback time.Duration, sources []netlink.Source) (*prefer, error) {
	if len(sources) == 0 {
		return nil, errors.New("netlink: configure: no interface")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &prefer{
		names: resolvconf.File{Path: resolvConf}, log: log, sources: sources, events: netlink.NewQueue(),
		election: newElection(len(sources), failback), unreached: make(chan struct{}, 1), reached: make(chan struct{}, 1),
	}, nil
}

// A prefer runs an election.
type prefer struct {
	names              resolvconf.File
	log                *slog.Logger
	sources            []netlink.Source
	events             *netlink.Queue
	election           election
	reached, unreached chan struct{}
}

// Next implements netlink.Source.
func (p *prefer) Next(ctx context.Context) (netlink.Event, error) { return p.events.Next(ctx) }

// Doubt passes a doubt on to all: the one that is used is one of them.
func (p *prefer) Doubt() {
	for _, s := range p.sources {
		netlink.Doubt(s)
	}
}

// Unreached tells that the one that is used is of no use.
func (p *prefer) Unreached() { wake(p.unreached) }

// Reached tells that the one that is used is of use.
func (p *prefer) Reached() { wake(p.reached) }

// Shun passes it on to all.
func (p *prefer) Shun(yes bool) bool {
	all := true
	for _, s := range p.sources {
		all = netlink.Shun(s, yes) && all
	}
	return all
}

// wake fills a channel of one slot.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run implements netlink.Source. It ends when one of the sources cannot run.
func (p *prefer) Run(ctx context.Context) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	said := make(chan says)
	ended := p.start(inner, cancel, said)
	p.loop(inner, said)
	cancel()
	err := errors.Join(ended(), p.names.Restore())
	p.do(p.election.step(time.Now(), stopped{}))
	return err
}

// start runs the sources until ctx is done, and ends all by cancel when one ends. What
// they say goes to said. It returns a function that waits for them.
func (p *prefer) start(ctx context.Context, cancel func(), said chan<- says) (ended func() error) {
	errs := make([]error, len(p.sources))
	var all sync.WaitGroup
	for rank, s := range p.sources {
		all.Go(func() {
			errs[rank] = s.Run(ctx)
			cancel()
		})
		all.Go(func() {
			for {
				e, err := s.Next(ctx)
				if err != nil {
					return
				}
				select {
				case said <- says{rank, e}:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	return func() error {
		all.Wait()
		return errors.Join(errs...)
	}
}

// loop hands the election what happens, until ctx is done.
func (p *prefer) loop(ctx context.Context, said <-chan says) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		if d := p.election.deadline(now); d.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(d.Sub(now))
		}
		var in any = tick{}
		select {
		case <-ctx.Done():
			return
		case in = <-said:
		case <-p.unreached:
			in = unreached{}
		case <-p.reached:
			in = reached{}
		case <-timer.C:
		}
		p.do(p.election.step(time.Now(), in))
	}
}

// do does what the election wants.
func (p *prefer) do(actions []any) {
	for _, a := range actions {
		switch a := a.(type) {
		case shun:
			if a.yes {
				p.log.Warn("nothing is reached through an interface that has an address, trying another", "interface", p.election.candidates[a.rank].lease.Interface)
			}
			netlink.Shun(p.sources[a.rank], a.yes)
		case tell:
			p.tell(a.event)
		}
	}
}

// tell passes an event on, and has the name servers be those of the one that is used.
func (p *prefer) tell(e netlink.Event) {
	p.events.Push(e)
	p.log.Debug(e.Kind.String(), "interface", e.Lease.Interface, "address", e.Lease.Prefix, "reason", e.Reason)
	if e.Kind == netlink.Lost {
		return
	}
	if err := p.names.Write(resolvconf.Network{Leased: e.Lease.Addr(), Domains: e.Lease.Domains, DNS: e.Lease.DNS}); err != nil {
		p.log.Error("cannot use the name servers", "error", err)
	}
}
