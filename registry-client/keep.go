package registry

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"time"

	"flexphone/netlink"
	"flexphone/registry-client/wire"
)

// How long a registered phone is silent. What is between it and the server forgets
// who was silent for too long, after which nothing reaches the phone before it speaks
// again. RFC 4787, REQ-5, asks NATs for two minutes; some forget after 30 s, others
// never, and the firewall of a home's router does so without a NAT.
const (
	// keepNAT is tried first where the server sees another address than the phone's,
	// and is the most in a call, when it matters that the peer's row is heard of.
	keepNAT = 25 * time.Second
	// keepDirect is the same where it sees the phone's own.
	keepDirect = 60 * time.Second
	// keepUrgent is while a call is set up: whose server was killed just then does not
	// hear where the other end is, which has half a minute to be found by that.
	keepUrgent = 5 * time.Second
	// keepLeast is for those who forget sooner than any that is known.
	keepLeast = 15 * time.Second
	// keepMost bounds how long a server that was killed, and so knows no session, is
	// not found out: its rows are on its disk, but what it would tell does not come.
	keepMost = 4 * time.Minute
	// keepAnew is after how much silence in all, once it is known how long a network
	// keeps, longer is tried again: the router may be another.
	keepAnew = 24 * time.Hour
	// keepMisses is how many words must fail to come, in a row, to be no accident.
	keepMisses = 2
	// keepCloser is the part of what works by which what does not is known closely
	// enough.
	keepCloser = 6
)

// A keeping is what is known of how long a network keeps the way to a phone that is
// silent. It is a value; heard and missed return the next.
type keeping struct {
	good  time.Duration // the longest silence after which the server was heard; zero: none
	bad   time.Duration // the shortest after which it was not; zero: none
	every time.Duration // the next silence
	miss  int           // words that did not come, in a row
	calm  time.Duration // silence since good and bad have met
}

func newKeeping(direct bool) keeping {
	if direct {
		return keeping{every: keepDirect}
	}
	return keeping{every: keepNAT}
}

// asked returns how long to be silent now: phones that began together do not speak
// together for ever, and no margin is needed beside that. No more than most is asked.
func (k keeping) asked(most time.Duration) time.Duration {
	every := min(k.every, most)
	return (every - rand.N(every/8+1)).Truncate(time.Second)
}

// heard is that the server was heard after a silence of d.
func (k keeping) heard(d time.Duration) keeping {
	k.miss = 0
	k.good = max(k.good, d)
	if k.bad > 0 && k.bad <= k.good { // the network keeps for longer than it did
		k.bad = 0
	}
	switch {
	case d < k.every-k.every/8: // shorter than what was to be tried
	case k.bad == 0:
		k.every, k.calm = min(2*k.every, keepMost), 0
	case k.bad-k.good > k.good/keepCloser:
		k.every = k.good + (k.bad-k.good)/2
	default:
		k.every = k.good
		if k.calm += d; k.calm >= keepAnew {
			k.bad, k.calm = 0, 0
		}
	}
	return k
}

// missed is that it was not, after a silence of d, though it is there.
func (k keeping) missed(d time.Duration) keeping {
	k.calm = 0
	if k.miss++; k.miss < keepMisses {
		return k
	}
	k.miss = 0
	if k.bad = d; k.good >= k.bad { // another network than it was
		k.good = 0
	}
	k.every = max(keepLeast, k.good)
	if k.good == 0 {
		k.every = max(keepLeast, k.bad/2)
	}
	return k
}

// A network is what a keeping holds for: as much as the phone sees of the routers
// between it and the server.
type network struct {
	prefix, router string
	seen           netip.Addr // as which the server sees the phone
}

func networkOf(l netlink.Lease, r wire.Receipt) network {
	return network{l.Prefix.Masked().String(), l.Router.String(), r.Reflexive.Addr().Unmap()}
}

// networksKept is of how many networks it is known how long they keep.
const networksKept = 16

// probe asks whether the server still knows the session. A server that was
// restarted does not, and is told the address again.
func (a *Announcer) probe(ctx context.Context, p *plan) {
	try, done, ok := a.begin(ctx, p.version)
	if !ok {
		return
	}
	defer done()
	missed := p.word != nil && !p.asked && len(p.word) == 0 && p.silence > keepUrgent // no network forgets so soon
	session, err := a.cfg.Link.Alive(try)
	v, _, _ := a.state()
	switch {
	case ctx.Err() != nil || v != p.version: // cut short by something newer
	case err != nil:
		a.failed(ctx, p, Outcome{Kind: Failed, Err: err})
	case session != p.session:
		a.cfg.Log.Debug("server lost the session; announcing again")
		p.announced = false
	default:
		if missed {
			a.learn(p, a.keeping(p).missed(p.silence))
		}
		a.keep(p)
	}
}

// keep plans the next silence, and asks for the server's word after it.
func (a *Announcer) keep(p *plan) {
	most := keepMost
	switch {
	case p.asked, a.cfg.Urgent != nil && a.cfg.Urgent(): // or it may soon be
		most = keepUrgent
	case a.cfg.Peers != nil && len(a.cfg.Peers()) > 0:
		most = keepNAT
	}
	p.silence, p.word, p.asked = a.keeping(p).asked(most), nil, false
	p.probe = time.Now().Add(p.silence)
	if p.pings {
		return
	}
	var err error
	if p.word, err = a.cfg.Link.Knock(p.silence); err != nil {
		a.cfg.Log.Debug("no word asked for", "err", err)
		return
	}
	p.probe = p.probe.Add(overdue)
}

// heard takes the server's word. ok is false where it gives none.
func (a *Announcer) heard(p *plan, quiet, ok bool) {
	p.word = nil
	switch {
	case !p.announced:
		return
	case !ok:
		p.pings = true
		a.learn(p, newKeeping(p.direct))
	case quiet:
		a.learn(p, a.keeping(p).heard(p.silence))
	}
	a.keep(p)
}

// keeping returns what is known of p's network.
func (a *Announcer) keeping(p *plan) keeping {
	if k, ok := a.networks[p.network]; ok {
		return k
	}
	return newKeeping(p.direct)
}

// learn notes what is known of p's network from now on.
func (a *Announcer) learn(p *plan, k keeping) {
	if was := a.keeping(p); k.every != was.every {
		a.cfg.Log.Debug("how long the network keeps the way to here", "at least", k.good, "less than", k.bad, "next", k.every)
	}
	if _, known := a.networks[p.network]; !known && len(a.networks) >= networksKept {
		clear(a.networks)
	}
	a.networks[p.network] = k
}
