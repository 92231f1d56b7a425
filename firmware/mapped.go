package main

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"flexphone/firmware/internal/sip"
	"flexphone/netlink"
	"flexphone/netlink/portmap"
	registry "flexphone/registry-client"
)

const (
	// mappedFor is for how long a router is asked to let connections in. RFC 6887 (15)
	// and RFC 6886 (3.3) have two hours; a router that was switched off forgets, and is
	// asked again after half of this.
	mappedFor = 10 * time.Minute
	// mappedAgain is after how long one that has refused, or has not answered, is asked
	// again: most never will do otherwise, and a call goes by the storing server meanwhile.
	mappedAgain = 15 * time.Minute
	// mappedBack bounds how long a phone that is switched off waits to give a port back.
	mappedBack = 250 * time.Millisecond
)

// mapped has the router of a phone that is behind a NAT let calls in, if it can be asked,
// and tells where. A mapping is used at the same port alone, since a row has one, and where
// the storing server sees the phone at the same address: else another NAT stands behind.
type mapped struct {
	announce func() // has the row say something else
	log      *slog.Logger
	changed  chan struct{} // one slot

	mu       sync.Mutex
	behind   behind
	external netip.Addr
}

// behind is a router that translates our address; zero: none does.
type behind struct{ router, own, seen netip.Addr }

func newMapped(announce func(), log *slog.Logger) *mapped {
	return &mapped{announce: announce, log: log, changed: make(chan struct{}, 1)}
}

// registered takes what a receipt shows of the way to the storing server.
func (m *mapped) registered(l netlink.Lease, o registry.Outcome) {
	var now behind
	seen := o.Receipt.Reflexive.Addr().Unmap()
	if l.Router.Is4() && l.Addr().Is4() && seen.Is4() && !slices.Contains(l.Addrs(), seen) {
		now = behind{l.Router, l.Addr(), seen}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.behind == now {
		return
	}
	m.behind = now
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// at is the address at which the router lets calls in; zero: it does not.
func (m *mapped) at() netip.Addr {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.external
}

// run asks for as long as ctx lasts.
func (m *mapped) run(ctx context.Context) error {
	nonce := portmap.NewNonce()
	for {
		m.mu.Lock()
		b := m.behind
		m.mu.Unlock()
		var again <-chan time.Time
		if external, wait := m.ask(ctx, b, nonce); wait > 0 {
			m.found(external)
			again = time.After(wait)
		} else {
			m.found(netip.Addr{})
		}
		select {
		case <-m.changed:
		case <-again:
		case <-ctx.Done():
			m.giveBack(ctx, b, nonce)
			return ctx.Err()
		}
	}
}

// ask asks the router, and returns when to ask again; 0: there is none.
func (m *mapped) ask(ctx context.Context, b behind, nonce [12]byte) (external netip.Addr, again time.Duration) {
	if b == (behind{}) {
		return external, 0
	}
	got, err := portmap.Ask(ctx, netip.AddrPortFrom(b.router, portmap.Port), b.own, sip.SecurePort, mappedFor, nonce)
	switch {
	case err != nil:
		m.log.Debug("the router lets no calls in", "router", b.router, "err", err)
	case got.External != netip.AddrPortFrom(b.seen, sip.SecurePort) || got.Lifetime <= 0:
		m.log.Debug("the port that the router lets calls in at is of no use", "router", b.router, "at", got.External, "seen", b.seen)
	default:
		return b.seen, min(got.Lifetime, mappedFor) / 2
	}
	return external, mappedAgain
}

// found tells of a change.
func (m *mapped) found(external netip.Addr) {
	m.mu.Lock()
	was := m.external
	m.external = external
	m.mu.Unlock()
	if was != external {
		m.log.Info("the router lets calls in", "at", external, "before", was)
		m.announce()
	}
}

// giveBack has the router let nobody in any more.
func (m *mapped) giveBack(ctx context.Context, b behind, nonce [12]byte) {
	if !m.at().IsValid() {
		return
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), mappedBack)
	defer cancel()
	_, err := portmap.Ask(bounded, netip.AddrPortFrom(b.router, portmap.Port), b.own, sip.SecurePort, 0, nonce)
	if err != nil {
		m.log.Debug("port not given back", "router", b.router, "err", err)
	}
}
