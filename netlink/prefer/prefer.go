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
func New(resolvConf string, log *slog.Logger, sources ...netlink.Source) (netlink.Source, error) {
	return newPrefer(resolvConf, log, failbackWait, sources)
}

// AtOnce is as New, and a better one that comes back is used at once.
func AtOnce(resolvConf string, log *slog.Logger, sources ...netlink.Source) (netlink.Source, error) {
	return newPrefer(resolvConf, log, 0, sources)
}

func newPrefer(resolvConf string, log *slog.Logger, failback time.Duration, sources []netlink.Source) (netlink.Source, error) {
	if len(sources) == 0 {
		return nil, errors.New("netlink: configure: no interface")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &prefer{
		names: resolvconf.File{Path: resolvConf}, log: log, sources: sources, events: netlink.NewQueue(),
		election: newElection(len(sources), failback),
	}, nil
}

// A prefer runs an election.
type prefer struct {
	names    resolvconf.File
	log      *slog.Logger
	sources  []netlink.Source
	events   *netlink.Queue
	election election
}

// Next implements netlink.Source.
func (p *prefer) Next(ctx context.Context) (netlink.Event, error) { return p.events.Next(ctx) }

// Doubt passes a doubt on to all: the one that is used is one of them.
func (p *prefer) Doubt() {
	for _, s := range p.sources {
		netlink.Doubt(s)
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
	p.tell(p.election.step(time.Now(), stopped{}))
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
		if d := p.election.deadline(); d.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(d))
		}
		var in any = tick{}
		select {
		case <-ctx.Done():
			return
		case in = <-said:
		case <-timer.C:
		}
		p.tell(p.election.step(time.Now(), in))
	}
}

// tell passes events on, and has the name servers be those of the one that is used.
func (p *prefer) tell(events []netlink.Event) {
	for _, e := range events {
		p.events.Push(e)
		p.log.Debug(e.Kind.String(), "interface", e.Lease.Interface, "address", e.Lease.Prefix, "reason", e.Reason)
		if e.Kind == netlink.Lost {
			continue
		}
		if err := p.names.Write(resolvconf.Network{Leased: e.Lease.Addr(), Domains: e.Lease.Domains, DNS: e.Lease.DNS}); err != nil {
			p.log.Error("cannot use the name servers", "error", err)
		}
	}
}
