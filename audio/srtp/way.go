package srtp

import (
	"net/netip"

	"flexphone/audio/seek"
)

// A Way is how a stream goes to its peer.
type Way string

// The ways.
const (
	Nowhere Way = ""
	Direct  Way = "direct"  // to an address of the peer's own
	Punched Way = "punched" // to one that a NAT has given it
	Relayed Way = "relayed" // by a relay
)

// Way returns how the stream goes now.
func (p *Path) Way() Way {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.way()
}

// way is Way. The lock is held.
func (p *Path) way() Way {
	c, ok := p.finder.Current()
	switch {
	case ok && c.Kind == seek.Relayed:
		return Relayed
	case ok && c.Kind == seek.Reflexive, p.follow.trial.IsValid():
		return Punched
	case p.follow.home.IsValid():
		return Direct
	}
	return Nowhere
}

// tellWay tells the owner what has become of the way. The lock is held.
func (p *Path) tellWay() {
	if way := p.way(); way != p.went {
		if p.went = way; p.cfg.Turned != nil {
			p.cfg.Turned()
		}
	}
	if p.finder.Lost() && p.cfg.Lost != nil {
		p.cfg.Lost()
	}
}

// Remote returns where the path sends now; zero: nowhere yet.
func (p *Path) Remote() netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.follow.remote()
}
