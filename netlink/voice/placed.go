package voice

import (
	"context"
	"sync"

	"flexphone/netlink"
)

// A placed is a Source that runs on a VLAN.
type placed struct {
	source netlink.Source
	vlan   int
	name   string // of the interface
	cancel context.CancelFunc
	all    sync.WaitGroup
	events chan netlink.Event
	ended  chan struct{}
	err    error // once ended is closed
}

// run runs a Source until end, or until it ends itself. What it tells while it ends is
// not passed on: another address follows, or the end.
func run(ctx context.Context, source netlink.Source, vlan int, name string) *placed {
	inner, cancel := context.WithCancel(ctx)
	p := &placed{
		source: source, vlan: vlan, name: name, cancel: cancel,
		events: make(chan netlink.Event), ended: make(chan struct{}),
	}
	p.all.Go(func() {
		p.err = source.Run(inner)
		close(p.ended)
	})
	p.all.Go(func() {
		for {
			e, err := source.Next(inner)
			if err != nil {
				return
			}
			select {
			case p.events <- e:
			case <-inner.Done():
				return
			}
		}
	})
	return p
}

// tells returns what it tells, and when it has ended by itself; of nil: never.
func (p *placed) tells() (<-chan netlink.Event, <-chan struct{}) {
	if p == nil {
		return nil, nil
	}
	return p.events, p.ended
}

// end ends the Source, and returns its error.
func (p *placed) end() error {
	p.cancel()
	p.all.Wait()
	return p.err
}
