package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"flexphone/audio/seek"
	"flexphone/audio/srtp"
	"flexphone/firmware/internal/media"
	"flexphone/internal/pass"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

const (
	// placesTime bounds what is asked of the storing server about where a call's sound
	// may reach this phone.
	placesTime = 2 * time.Second
	// placesWait is how long a description waits for that. It began when the number
	// was dialled, and takes as long as the look-up.
	placesWait = 250 * time.Millisecond
)

// A neighbourhood is what is between this phone and the storing server, which sound has
// to find its way through.
type neighbourhood struct {
	addrs  func() []netip.Addr // of the lease
	server func() (*registry.Client, bool)
	log    *slog.Logger

	mu     sync.Mutex
	beside wire.Beside
	behind bool // a NAT
}

// registered takes what a receipt says.
func (n *neighbourhood) registered(r wire.Registration, receipt wire.Receipt) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.beside = receipt.Beside
	n.behind = !slices.Contains(r.Addrs, receipt.Reflexive.Addr().Unmap())
}

// translated reports whether a NAT is there, as is known since the phone is registered.
func (n *neighbourhood) translated() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.behind
}

// also is an address of the storing server's relay of the other family; zero: none is known.
func (n *neighbourhood) also() netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.beside.Also
}

// helpers are where the storing server's host helps sound to find its way; zero: nowhere.
func (n *neighbourhood) helpers() (stun []netip.AddrPort, relay netip.AddrPort) {
	n.mu.Lock()
	beside := n.beside
	n.mu.Unlock()
	client, ok := n.server()
	if !ok {
		return nil, relay
	}
	host := client.Address().Addr().Unmap()
	if !host.IsValid() {
		return nil, relay
	}
	for _, port := range beside.STUN {
		if port != 0 {
			stun = append(stun, netip.AddrPortFrom(host, port))
		}
	}
	if beside.Relay != 0 {
		relay = netip.AddrPortFrom(host, beside.Relay)
	}
	return stun, relay
}

// mirrors are whom a phone that is behind a NAT asks as what it is seen; none: there is no NAT.
func (n *neighbourhood) mirrors() []netip.AddrPort {
	if !n.translated() {
		return nil
	}
	stun, _ := n.helpers()
	return stun
}

// has reports whether the phone has an address of the family of a.
func (n *neighbourhood) has(a netip.Addr) bool {
	return slices.ContainsFunc(n.addrs(), func(own netip.Addr) bool {
		return own.Unmap().Is4() == a.Unmap().Is4() && !own.IsLinkLocalUnicast() && !own.IsLoopback()
	})
}

// places are where the sound of one call may reach this phone, as the other end is told.
type places struct {
	*neighbourhood
	path *srtp.Path
	ctx  context.Context // of the call's sound: what is asked ends with it
	end  context.CancelFunc
	work sync.WaitGroup

	mu     sync.Mutex
	asked  []netip.Addr  // the lease's, when the server was asked last
	done   chan struct{} // closed when it has answered; nil: it is not asked
	seen   []netip.AddrPort
	told   []netip.AddrPort // of seen, the other end last
	relay  srtp.Relay       // zero: none of ours
	named  bool             // the other end was told of that
	guest  bool             // the other end has told of its own, which counts
	called bool             // the other end has called: its pass counts, if it has one
	apart  bool             // the other end, which was called, has no address of a family that is here
	renews int              // calls of renew
}

func newPlaces(ctx context.Context, n *neighbourhood, path *srtp.Path) *places {
	p := &places{neighbourhood: n, path: path}
	p.ctx, p.end = context.WithCancel(ctx)
	return p
}

// close waits for what is asked.
func (p *places) close() {
	p.end()
	p.work.Wait()
}

// renew is for another phone at the other end, which gets another pass.
func (p *places) renew() {
	p.mu.Lock()
	p.asked, p.done, p.seen, p.told, p.relay, p.named, p.guest, p.called, p.apart = nil, nil, nil, nil, srtp.Relay{}, false, false, false, false
	p.renews++
	p.mu.Unlock()
	p.ask()
}

// calls says where the other end is called. Where that is of a family that this phone has no
// address of, sound goes by the relay or not at all.
func (p *places) calls(at netip.Addr) {
	apart := at.IsValid() && !p.has(at)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.apart = apart
}

// ask begins to ask the storing server, where there is a NAT or only the relay can help,
// unless it was since the last change of an address.
func (p *places) ask() (done <-chan struct{}) {
	behind := p.translated()
	stun, relay := p.helpers()
	addrs := p.addrs()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !behind && !p.apart {
		p.asked, p.done, p.seen = nil, nil, nil
		return nil
	}
	if p.done != nil && slices.Equal(p.asked, addrs) {
		return p.done
	}
	over := make(chan struct{})
	p.asked, p.done = addrs, over
	wanted, of := p.relay == (srtp.Relay{}) && !p.guest && relay.IsValid(), p.renews
	p.work.Go(func() {
		defer close(over)
		ctx, cancel := context.WithTimeout(p.ctx, placesTime)
		defer cancel()
		var both sync.WaitGroup
		if wanted {
			both.Go(func() { p.askPass(ctx, relay, of) })
		}
		seen := p.path.Reflexive(ctx, stun)
		p.mu.Lock()
		if p.renews == of {
			p.seen = seen
		}
		p.mu.Unlock()
		both.Wait()
	})
	return over
}

// askAgain asks at stun where the path is seen now, though the phone has the address that it had: what
// a NAT had given it may be given to others since. It reports whether the other end is to be
// told of that, and whether there was an answer, if anybody could be asked.
func (p *places) askAgain(stun []netip.AddrPort) (other, answered bool) {
	p.mu.Lock()
	asked, of := p.asked, p.renews
	p.mu.Unlock()
	if !p.translated() || len(stun) == 0 {
		return false, true
	}
	ctx, cancel := context.WithTimeout(p.ctx, placesTime)
	defer cancel()
	seen := slices.DeleteFunc(p.path.Reflexive(ctx, stun), func(a netip.AddrPort) bool { return !a.IsValid() })
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.renews != of || !slices.Equal(p.asked, asked): // it is asked for another phone, or another address
		return false, true
	case len(seen) == 0:
		return false, false
	}
	p.seen = seen
	return slices.ContainsFunc(seen, func(a netip.AddrPort) bool { return !slices.Contains(p.told, a) }), true
}

// askPass asks for a pass for the relay.
func (p *places) askPass(ctx context.Context, at netip.AddrPort, of int) {
	client, ok := p.server()
	if !ok {
		return
	}
	got, err := client.Pair(ctx)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, registry.ErrRefused) && !errors.Is(err, registry.ErrUnknown) {
			p.log.Info("no relay for a call's sound", "err", err)
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.renews == of {
		p.relay = srtp.Relay{At: at, Pass: got}
	}
}

// candidates are what the other end is told.
func (p *places) candidates(port uint16) (out []media.Candidate) {
	if done := p.ask(); done != nil {
		p.mu.Lock()
		wait := placesWait
		if p.apart {
			wait = placesTime
		}
		p.mu.Unlock()
		patience := time.NewTimer(wait)
		select {
		case <-done:
		case <-patience.C:
		case <-p.ctx.Done():
		}
		patience.Stop()
	}
	add := func(c media.Candidate) {
		if c.Addr.IsValid() && !slices.ContainsFunc(out, func(o media.Candidate) bool { return o.Addr == c.Addr }) {
			out = append(out, c)
		}
	}
	for _, a := range p.addrs() {
		if !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			add(media.Candidate{Addr: netip.AddrPortFrom(a.Unmap().WithZone(""), port), Kind: media.Host})
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.seen {
		add(media.Candidate{Addr: a, Kind: media.Reflexive})
	}
	p.told = p.seen
	if p.relay != (srtp.Relay{}) && !p.guest {
		p.named = true
		p.path.Enter(p.relay, pass.Owner)
		relay := media.Candidate{Addr: p.relay.At, Kind: media.Relayed, Pass: p.relay.Pass}
		if p.apart {
			relay.Also = p.also()
		}
		add(relay)
	}
	return out
}

// answers says that the other end has called.
func (p *places) answers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.called = true
}

// yields reports whether the other end's pass counts, and not one of ours. Where both ends have
// told the other of one, both take the same. The lock is held.
func (p *places) yields(to pass.Pass) bool {
	return !p.named || p.called || bytes.Compare(to.Name[:], p.relay.Pass.Name[:]) < 0
}

// of are what the other end has told, as the path has them.
func (p *places) of(told []media.Candidate) (out []seek.Candidate) {
	for _, c := range told {
		kind := seek.Host
		switch {
		case c.Kind == media.Relayed && c.Pass != pass.Pass{}:
			p.mu.Lock()
			if p.yields(c.Pass) {
				p.guest, p.named = true, false
				p.path.Enter(srtp.Relay{At: p.relayAt(c), Pass: c.Pass}, pass.Guest)
			}
			p.mu.Unlock()
			continue
		case c.Kind == media.Relayed:
			kind = seek.Relayed
		case c.Kind == media.Reflexive:
			kind = seek.Reflexive
		case c.Addr.Addr().Is6():
			kind = seek.Host6
		}
		out = append(out, seek.Candidate{Addr: c.Addr, Kind: kind})
	}
	return out
}

// relayAt is where to come to a relay that the other end has told of. It may know an
// address of the other family alone: then the relay is believed to be this phone's own
// server's, which is true where both phones are at one server.
func (p *places) relayAt(told media.Candidate) netip.AddrPort {
	if p.has(told.Addr.Addr()) {
		return told.Addr
	}
	if told.Also.IsValid() && p.has(told.Also) {
		return netip.AddrPortFrom(told.Also, told.Addr.Port())
	}
	if _, own := p.helpers(); own.IsValid() {
		return own
	}
	return told.Addr
}
