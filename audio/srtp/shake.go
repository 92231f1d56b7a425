package srtp

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"flexphone/audio"
)

const (
	// greetPause is the least time between two hellos from one place that each begin a
	// handshake.
	greetPause = flightTime
	// mostHands is how many handshakes the host that is called may have begun before
	// its description says which of its places counts: one of a call before, one of
	// this, and one that is neither.
	mostHands = 3
	// firstRetry is between the beginnings of a handshake that failed and of the next;
	// each time that is twice as long, up to mostRetry. One that was not answered in all
	// the time that it may take is begun anew at once, and counts for nothing.
	firstRetry = 500 * time.Millisecond
	mostRetry  = 8 * time.Second
	// yieldTime is how long the end that is called upon to begin may take until the other
	// one does.
	yieldTime = 2 * time.Second
)

// shake begins a handshake, in the place of the one that counted. The lock is held.
func (p *Path) shake() error {
	h, err := p.newHand(true)
	if err != nil {
		return err
	}
	p.count(h)
	return nil
}

// count makes h the handshake that counts. The lock is held.
func (p *Path) count(h *handshake) {
	if p.hand != nil && p.hand != h {
		p.hand.close()
	}
	p.hand = h
}

// newHand begins a handshake. The lock is held.
func (p *Path) newHand(client bool) (h *handshake, err error) {
	h, err = newHandshake(client, p.cfg.Certificate,
		func(b []byte) error { return p.toPeer(h, b) },
		func(der []byte) error { return p.judge(h, der) }, time.Now())
	if err == nil {
		p.spawn(func(ctx context.Context) { p.carry(ctx, h) })
	}
	return h, err
}

// toPeer sends a datagram of a handshake.
func (p *Path) toPeer(h *handshake, b []byte) error {
	p.mu.Lock()
	p.introduce()
	to := h.from
	if !to.IsValid() {
		to = p.follow.remote()
	}
	p.mu.Unlock()
	if !sendable(to) {
		return audio.ErrNoPeer
	}
	_, err := p.conn.WriteToUDPAddrPort(b, to)
	return err
}

// introduce asks the peer something before each datagram of a handshake until it answers,
// which shows it whence we speak: of a host with two networks that need not be the place
// that we describe. Where places are sought, that is done anyway. The lock is held.
func (p *Path) introduce() {
	to := p.follow.remote()
	if p.met || p.agreed == nil || p.agreed.DTLS == nil || p.seeking() || !p.prove.peer.usable() || !sendable(to) {
		return
	}
	if !p.follow.trial.IsValid() {
		p.prove.begin()
	}
	q, err := p.prove.question()
	if err == nil {
		_, err = p.conn.WriteToUDPAddrPort(q, to)
	}
	if err != nil {
		p.cfg.Log.Debug("not introduced", "err", err)
	}
}

// introduced: who is at from knows our password, which the peer was told and nobody else
// (RFC 8445, section 7.3.1.3: a peer-reflexive candidate). Until there are keys, by which
// its packets would show it, it may be the peer there, and shake hands, as long as that
// proves itself. It reports whether from is to be asked. The lock is held.
func (p *Path) introduced(from netip.AddrPort, now time.Time) (ask bool) {
	if p.agreed.DTLS == nil || p.in != nil || !p.prove.peer.usable() {
		return false
	}
	if ask = p.follow.heard(from, now); ask {
		p.prove.begin()
	}
	return ask
}

func sendable(to netip.AddrPort) bool {
	return to.IsValid() && to.Port() != 0 && !to.Addr().IsUnspecified()
}

// carry is the life of a handshake.
func (p *Path) carry(ctx context.Context, h *handshake) {
	defer h.conn.Close()
	made, err := h.shake(ctx)
	p.mu.Lock()
	h.done = true
	counts := p.hand == h && !p.closed
	if err == nil && counts && p.agreed != nil {
		err = p.useDTLS(made)
	}
	if err == nil {
		h.made = made
	}
	again := err != nil && counts && !h.wrong && p.agreed != nil
	if again {
		took := time.Since(h.began)
		if p.failures++; took >= mostRetry {
			p.failures = 0
		}
		p.seek(min(firstRetry<<min(max(p.failures-1, 0), 8), mostRetry) - took)
	}
	p.mu.Unlock()
	if err != nil {
		if counts {
			p.cfg.Log.Warn("keys of a call not made", "err", err, "again", again)
		}
		return
	}
	p.cfg.Log.Debug("keys of a call made", "suite", made.suite, "took", time.Since(h.began))
	h.linger()
}

// seek begins a handshake after wait, unless another has begun by then. It is for the
// end that is active; the other one does it as well, where it has waited in vain and the
// peer is a phone of ours, whose keys may have been made with a path that is forgotten
// here. The lock is held.
func (p *Path) seek(wait time.Duration) {
	switch d := p.agreed.DTLS; {
	case d == nil, !d.Active && d.Pin == [32]byte{}:
		return
	case !d.Active:
		wait = max(wait, yieldTime)
	}
	if p.again != nil {
		p.again.Stop()
	}
	p.again = time.AfterFunc(wait, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.closed || p.agreed == nil || p.agreed.DTLS == nil || !p.idle() {
			return
		}
		if err := p.shake(); err != nil {
			p.cfg.Log.Warn("handshake not begun", "err", err)
		}
	})
}

// idle reports whether no keys are there or on their way. The lock is held.
func (p *Path) idle() bool { return p.hand == nil || p.hand.done && p.hand.made == nil }

// settle chooses, once it is agreed where the peer is, the handshake that counts among
// those that its host has begun: that of the path which its description is of, if that has
// asked us, or of its place, or else, since it may be behind an address that it does not
// know, the newest that has come to something. The lock is held.
func (p *Path) settle(remote netip.AddrPort) {
	rank := func(h *handshake) int {
		of := p.ufragAt(h.from)
		switch {
		case h.done && h.made == nil:
			return 0
		case of != "" && of == p.prove.peer.Ufrag:
			return 3
		case h.from == remote:
			return 2
		}
		return 1
	}
	for _, h := range p.early {
		if p.hand == nil || rank(h) >= rank(p.hand) {
			p.count(h)
		} else {
			h.close()
		}
	}
	p.early = nil
	h := p.hand
	if h != nil && p.seeking() && p.finder.Known(h.from) {
		remote = h.from // where the peer is for certain; else it may be behind a NAT
	}
	asker := p.askedFrom(p.prove.peer.Ufrag)
	elsewhere := !p.seeking() && asker.IsValid() && asker != remote && (h == nil || h.from == asker)
	p.told(remote)
	if elsewhere { // it speaks from there
		p.follow.trial, p.follow.began, p.follow.asked = asker, time.Now(), 0
		p.prove.begin()
		if h != nil {
			h.from = netip.AddrPort{}
		}
	}
}

// told: the peer is at remote. Its handshake goes on there, unless it began it from
// another port of that host. The lock is held.
func (p *Path) told(remote netip.AddrPort) {
	p.follow.told(remote)
	if h := p.hand; h != nil && (h.done || h.from == remote || h.from.Addr() != remote.Addr()) {
		h.from = netip.AddrPort{}
	}
}

// arriveDTLS gives b to the handshake that it belongs to, and begins one if the
// peer wishes that.
func (p *Path) arriveDTLS(b []byte, from netip.AddrPort, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || !p.mayShake(from) {
		return
	}
	h := p.handWith(from)
	if isClientHello(b) {
		h = p.greeted(h, b, from, now)
	}
	if h != nil {
		if h.from.IsValid() {
			h.from = from // it is answered where it has spoken last
		}
		h.give(b, now)
	}
}

// mayShake reports whether a handshake with from is wanted: with the peer alone.
func (p *Path) mayShake(from netip.AddrPort) bool {
	host := from.Addr().WithZone("")
	if p.agreed == nil {
		return p.expected.pin != [32]byte{} && (host == p.expected.host || p.finder.Known(from) || p.ufragAt(from) != "")
	}
	return p.agreed.DTLS != nil && (p.finder.Known(from) || host == p.follow.home.Addr().WithZone("") || host == p.follow.trial.Addr().WithZone(""))
}

// handWith is the handshake in which from takes part; nil: none. A peer with several places
// may go on from another than where it began: before its description is there, the path that
// asks us from both is the same by its ufrag.
func (p *Path) handWith(from netip.AddrPort) *handshake {
	if p.agreed == nil {
		for _, h := range p.early {
			if h.from == from {
				return h
			}
		}
		if of := p.ufragAt(from); of != "" { // it has found a better place to speak from
			for _, h := range p.early {
				if p.ufragAt(h.from) == of {
					return h
				}
			}
		}
		return nil
	}
	if h := p.hand; h != nil && (h.from == from || !h.from.IsValid() && p.atHome(from)) {
		return h
	}
	return nil
}

// atHome reports whether the peer is known to be at from, or may be.
func (p *Path) atHome(from netip.AddrPort) bool {
	return from == p.follow.home || from == p.follow.trial || p.agreed != nil && p.finder.Known(from)
}

// helloRandom is where a ClientHello's random is, in its datagram: behind the headers
// of the record and of the message, and the version.
const helloRandom = 13 + 12 + 2

// greeted takes a hello from where h, if there is one, has been begun, and returns whose
// it is.
func (p *Path) greeted(h *handshake, b []byte, from netip.AddrPort, now time.Time) *handshake {
	var random [32]byte
	if len(b) >= helloRandom+len(random) {
		copy(random[:], b[helloRandom:])
	}
	for _, o := range slices.Concat(p.early, []*handshake{p.hand}) {
		if o != nil && !o.client && o.random == random && (!o.done || o.made != nil) {
			return o // once more, maybe from another place of the peer's
		}
	}
	if !p.begins(h, from, now) {
		return nil
	}
	n, err := p.newHand(false)
	if err != nil {
		p.cfg.Log.Debug("handshake not begun", "err", err)
		return nil
	}
	n.random = random
	switch {
	case p.agreed == nil:
		n.from = from
		p.early = slices.DeleteFunc(p.early, func(o *handshake) bool {
			if o == h {
				o.close()
			}
			return o == h
		})
		if len(p.early) == mostHands {
			p.early[0].close()
			p.early = slices.Delete(p.early, 0, 1)
		}
		p.early = append(p.early, n)
	default:
		if !p.atHome(from) {
			n.from = from
		}
		p.count(n)
	}
	return n
}

// begins reports whether a hello from there begins a handshake, where h is the one with
// from until now. One that comes from where the peer is not said to be ends none with
// the peer.
func (p *Path) begins(h *handshake, from netip.AddrPort, now time.Time) bool {
	recent := func(h *handshake) bool { return now.Sub(h.began) < greetPause }
	if p.agreed == nil {
		if h != nil {
			return !recent(h)
		}
		return len(p.early) < mostHands || !recent(p.early[mostHands-1])
	}
	switch {
	case p.hand == nil:
		return !p.agreed.DTLS.Active
	case h != nil:
	case p.atHome(from): // and what there is comes from elsewhere
		return true
	case p.in != nil, !p.hand.from.IsValid() && !p.idle():
		return false
	default:
		h = p.hand
	}
	switch {
	case !h.client && recent(h):
		return false
	case h.done:
		return true
	case h.client && p.agreed.DTLS.Active:
		// Both have begun, and who did at first goes on; but a peer that has begun to
		// answer would not begin if it still knew of that. What it said before it answered
		// may come after the answer, and must not: each would wait for the other to go on.
		return !h.heard.IsZero() && now.Sub(h.heard) >= greetPause && !recent(h)
	}
	return true
}
