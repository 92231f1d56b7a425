package linklocal

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/netlink"
	"flexphone/netlink/internal/arp"
	"flexphone/netlink/internal/link"
	"flexphone/netlink/prefer"
)

// Beside returns a Source that tells the events of four, and while four
// has no address for eight seconds and more, an IPv4 link-local one (RFC 3927)
// at which phones on the same link can be called. It never stands in the way of
// a server: four goes on asking, and its address takes over at once.
func Beside(cfg netlink.Config, four netlink.Source) (netlink.Source, error) {
	return beside(cfg, four, localWait)
}

func beside(cfg netlink.Config, four netlink.Source, wait time.Duration) (netlink.Source, error) {
	cfg, err := cfg.Check()
	if err != nil {
		return nil, err
	}
	l := &linkLocal{
		cfg: cfg, machine: local{ifname: cfg.Interface, wait: wait}, events: netlink.NewQueue(),
		hints: make(chan struct{}, 1), arps: make(chan []byte, 8),
	}
	return prefer.AtOnce(cfg.ResolvConf, cfg.Log, &overheard{four, l}, l)
}

// An overheard is a Source whose events another learns of.
type overheard struct {
	netlink.Source
	by *linkLocal
}

// Doubt passes a doubt on.
func (o *overheard) Doubt() { netlink.Doubt(o.Source) }

// Shun passes it on.
func (o *overheard) Shun(yes bool) bool { return netlink.Shun(o.Source, yes) }

// Next implements Source.
func (o *overheard) Next(ctx context.Context) (netlink.Event, error) {
	e, err := o.Source.Next(ctx)
	if err == nil {
		o.by.fourHas(e.Kind != netlink.Lost)
	}
	return e, err
}

// A linkLocal runs a local on a real interface.
type linkLocal struct {
	cfg     netlink.Config
	machine local
	events  *netlink.Queue
	link    link.State
	tap     *link.Tap
	watched netip.Addr
	readers sync.WaitGroup
	hints   chan struct{}
	arps    chan []byte

	mu   sync.Mutex
	four bool // has an address
}

// Shun has nothing to do: there are no routes to others by a link-local address.
func (l *linkLocal) Shun(bool) bool { return true }

// Next implements Source.
func (l *linkLocal) Next(ctx context.Context) (netlink.Event, error) { return l.events.Next(ctx) }

func (l *linkLocal) fourHas(address bool) {
	l.mu.Lock()
	l.four = address
	l.mu.Unlock()
	select {
	case l.hints <- struct{}{}:
	default:
	}
}

// Run implements Source.
func (l *linkLocal) Run(ctx context.Context) error {
	h, err := link.OpenHinter(link.Hints4()...)
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	l.readers.Go(func() { h.Run(inner, l.hints) })
	defer l.readers.Wait()
	defer cancel()
	defer l.closeTap()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return l.step(ctx, stopped{})
		case <-l.hints:
			err = l.look(ctx)
		case <-timer.C:
			err = l.look(ctx)
		case b := <-l.arps:
			if a, parseErr := arp.Parse(b); parseErr == nil {
				err = l.step(ctx, a)
			}
		}
		if err != nil {
			return err
		}
		if d := l.machine.deadline(); d.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(d))
		}
	}
}

func (l *linkLocal) look(ctx context.Context) error {
	link, err := link.Read(l.cfg.Interface)
	if err != nil {
		return err
	}
	if link.Index != l.link.Index {
		l.closeTap()
	}
	l.link = link
	l.mu.Lock()
	four := l.four
	l.mu.Unlock()
	if err := l.step(ctx, alone{yes: link.Running && !four, mac: link.MAC}); err != nil {
		return err
	}
	return l.step(ctx, tick{})
}

func (l *linkLocal) step(ctx context.Context, in any) error {
	for inputs := []any{in}; len(inputs) > 0; inputs = inputs[1:] {
		actions := l.machine.step(time.Now(), inputs[0])
		if err := l.listen(); err != nil && !link.IsGone(err) {
			return err
		}
		for _, a := range actions {
			switch a := a.(type) {
			case sendProbe:
				l.send(arp.Packet(l.machine.mac, a.addr, false))
			case sendAnnounce:
				l.send(arp.Packet(l.machine.mac, a.addr, true))
			case install:
				a.lease.Metric = l.cfg.Metric
				inputs = append(inputs, installed{netlink.Install(a.lease)})
			case remove:
				if err := netlink.Uninstall(a.lease); err != nil {
					l.cfg.Log.Error("cannot remove the address", "error", err)
				}
			case tell:
				l.events.Push(a.event)
			case note:
				l.cfg.Log.Log(ctx, a.level, a.text, a.args...)
			}
		}
	}
	return nil
}

// listen has the tap hear what is said of the machine's address.
func (l *linkLocal) listen() error {
	a := l.machine.watched()
	switch {
	case !a.IsValid():
		l.closeTap()
	case l.tap == nil:
		t, err := link.OpenTap(l.link.Index, unix.ETH_P_ARP, arp.Filter(l.machine.mac, a), l.arps)
		if err != nil {
			return err
		}
		l.tap, l.watched = t, a
		l.readers.Go(t.Read)
	case a != l.watched:
		l.watched = a
		return l.tap.Filter(arp.Filter(l.machine.mac, a))
	}
	return nil
}

func (l *linkLocal) send(b []byte) {
	if l.tap == nil {
		return
	}
	if err := l.tap.Broadcast(b); err != nil {
		l.cfg.Log.Debug("cannot send ARP", "error", err)
	}
}

func (l *linkLocal) closeTap() {
	if l.tap != nil {
		l.tap.Close()
		l.tap = nil
	}
}
