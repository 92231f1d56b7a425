package srtp

import (
	"crypto/rand"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/stun/v4"

	"flexphone/audio/seek"
	"flexphone/internal/pass"
)

// A Relay is where a pass is shown.
type Relay struct {
	At   netip.AddrPort
	Pass pass.Pass
}

// seeking reports whether the peer has said where it may be. The lock is held.
func (p *Path) seeking() bool {
	return p.agreed != nil && len(p.agreed.Candidates) > 0 && p.prove.peer.usable()
}

// lead leads the stream to the best place that has answered, unless one is on trial
// that the peer has sent from since. It reports whether that is another than before: a
// handshake goes there too. The lock is held.
func (p *Path) lead() bool {
	c, ok := p.finder.Current()
	if !ok || !p.seeking() || p.follow.trial.IsValid() || c.Addr == p.follow.home {
		return false
	}
	p.told(c.Addr)
	return true
}

// found reports whether any place has answered. The lock is held.
func (p *Path) found() bool {
	_, ok := p.finder.Current()
	return ok
}

// rouse makes the goroutine that receives look for what is due. The lock is held.
func (p *Path) rouse() {
	p.deadline = past
	_ = p.conn.SetReadDeadline(past) // fails only when it is closed
}

// led: the peer says that it is at a. Where the stream goes to an address of the peer's own,
// it is led there at once, and back if it was in vain; where it has to find its way, that
// place is asked first. The lock is held.
func (p *Path) led(a netip.AddrPort, now time.Time) {
	kind := seek.Host
	if a.Addr().Is6() {
		kind = seek.Host6
	}
	c := seek.Candidate{Addr: a, Kind: kind}
	if !p.seeking() {
		p.told(a)
		return
	}
	switch used, ok := p.finder.Current(); {
	case !ok:
		p.told(a)
	case used.Kind <= seek.Host6 && sendable(a):
		p.finder.Try(c, now)
		p.told(a)
	case sendable(a):
		p.finder.Name(c, now)
	}
	p.rouse()
}

// seekFrom begins to ask the places that the present agreement names; before is the last
// one, nil: there was none. The lock is held.
func (p *Path) seekFrom(before *Agreement) {
	if !p.seeking() || before != nil && slices.Equal(before.Candidates, p.agreed.Candidates) && p.found() {
		return
	}
	now := time.Now()
	p.finder.Start(p.agreed.Candidates, now)
	if p.entry != nil && p.entry.in {
		p.finder.Name(seek.Candidate{Addr: p.entry.At, Kind: seek.Relayed}, now)
	}
	p.rouse()
}

// A question is a Binding request to a place, by its transaction.
type question struct {
	tx [stun.TransactionIDSize]byte
	to netip.AddrPort
}

// outstanding is for how many questions an answer is waited for: a second's worth.
const outstanding = 64

// questions are those that were sent last.
type questions struct {
	sent [outstanding]question
	next int
}

// add notes a question that is about to be sent.
func (q *questions) add(to netip.AddrPort) (tx [stun.TransactionIDSize]byte) {
	rand.Read(tx[:]) // never fails
	q.sent[q.next] = question{tx, to}
	q.next = (q.next + 1) % outstanding
	return tx
}

// has reports whether tx was asked of source, and takes it out if so.
func (q *questions) has(tx [stun.TransactionIDSize]byte, source netip.AddrPort) bool {
	for i, s := range q.sent {
		if s.to.IsValid() && s.tx == tx && s.to == source {
			q.sent[i] = question{}
			return true
		}
	}
	return false
}

// Times of showing a pass.
const (
	firstShow = 100 * time.Millisecond // until it is shown again; each further wait is twice as long
	showTries = 5
	keepShown = 15 * time.Second // while it is in: no NAT forgets so soon
	shownAnew = time.Second      // when that was not answered
	rareShow  = 30 * time.Second // where nobody answers
)

// An entry is a pass that is shown to a relay.
type entry struct {
	Relay
	side  pass.Side
	in    bool
	nonce []byte
	tx    [stun.TransactionIDSize]byte
	tries int // since the last answer
	next  time.Time
}

// show makes the next request.
func (e *entry) show(now time.Time) []byte {
	rand.Read(e.tx[:])
	wait := firstShow << e.tries
	switch {
	case e.tries >= showTries:
		wait = rareShow
	case e.in:
		wait = shownAnew
	}
	e.tries++
	e.next = now.Add(wait)
	var m stun.Message
	if e.Pass.Show(&m, e.tx, e.side, e.nonce) != nil {
		return nil
	}
	return m.Raw
}

// take takes an answer of the relay's.
func (e *entry) take(m *stun.Message, b []byte, now time.Time) (taken bool) {
	nonce, mapped, err := e.Pass.Answer(m, b, e.tx)
	switch {
	case err != nil:
		return false
	case mapped.IsValid():
		e.in, e.tries, e.next = true, 0, now.Add(keepShown)
	case e.tries <= showTries:
		e.nonce, e.next = nonce, now
	default: // one that was away, or one that always wants another nonce, and is not to be asked without end
		e.nonce, e.next = nonce, now.Add(shownAnew)
	}
	return true
}

// Enter shows a pass to a relay from now on, and lets the stream be relayed there; another
// relay is left.
func (p *Path) Enter(r Relay, s pass.Side) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entry != nil && p.entry.Relay == r && p.entry.side == s || p.closed || !sendable(r.At) {
		return
	}
	p.entry = &entry{Relay: r, side: s, next: time.Now()}
	p.rouse()
}

// arriveRelay takes b if it is an answer of the relay's. The lock is held.
func (p *Path) arriveRelay(b []byte, from netip.AddrPort, now time.Time) bool {
	e := p.entry
	if e == nil || from != e.At || !e.take(&p.prove.in, b, now) {
		return false
	}
	if e.in && p.seeking() {
		p.finder.Name(seek.Candidate{Addr: e.At, Kind: seek.Relayed}, now)
	}
	return true
}

// A datagram is what is to be sent when the lock is free.
type datagram struct {
	b  []byte
	to netip.AddrPort
}

// due does what finding a way has to do now, and returns what is to be sent for it, and
// when there is more to do; zero: not at all. The lock is held.
func (p *Path) due(now time.Time) (out []datagram, next time.Time) {
	if p.seeking() {
		var doubts bool
		p.asks, doubts = p.finder.Tick(p.asks[:0], now)
		for _, to := range p.asks {
			if q, err := p.prove.questionOf(p.prove.open.add(to)); err == nil && sendable(to) {
				out = append(out, datagram{q, to})
			}
		}
		if e := p.entry; doubts && e != nil && e.in {
			e.next = now // it may be a NAT that has forgotten us
		}
		next = p.finder.Due()
	}
	if e := p.entry; e != nil {
		if !now.Before(e.next) {
			if b := e.show(now); b != nil {
				out = append(out, datagram{b, e.At})
			}
		}
		if next.IsZero() || e.next.Before(next) {
			next = e.next
		}
	}
	return out, next
}

// heard: something of the peer's, newer than all before, came from from. It reports whether
// a trial begins. A place that is known is no reason for one, once any has answered: the
// better one is used, whichever the peer uses. But one that spoke from the place in use until
// now has left it; where it has gone may be known by a question that it asked a moment before.
// The lock is held.
func (p *Path) heard(from netip.AddrPort, now time.Time) (ask bool) {
	left := p.spoke == p.follow.home && from != p.spoke
	p.spoke = from
	if p.seeking() {
		p.finder.Heard(from, now)
		if p.found() && p.finder.Known(from) && !left {
			if p.follow.trial.IsValid() && from != p.follow.trial {
				p.follow.giveUp(now)
			}
			return false
		}
	}
	if ask = p.follow.heard(from, now); ask {
		p.prove.begin()
	}
	return ask
}

// repeat sends the handshake's last flight once more: there is a way now.
func (p *Path) repeat() {
	p.mu.Lock()
	h := p.hand
	if h == nil || h.done {
		p.mu.Unlock()
		return
	}
	flight := h.last()
	p.mu.Unlock()
	for _, b := range flight {
		_ = h.write(b) // it is sent again
	}
}

// An asker is who has asked us by our password, which the peer alone was told. A peer that was
// not described yet is known by that, wherever it speaks from: each of its paths has a ufrag
// of its own.
type asker struct {
	at    netip.AddrPort
	ufrag string
}

// mostAskers is how many are remembered: places of one path, and of one of a call before.
const mostAskers = 8

// asked: who is at from has just asked us. The lock is held.
func (p *Path) asked(from netip.AddrPort) {
	p.askers = slices.DeleteFunc(p.askers, func(a asker) bool { return a.at == from })
	if len(p.askers) == mostAskers {
		p.askers = slices.Delete(p.askers, 0, 1)
	}
	p.askers = append(p.askers, asker{from, p.prove.asker})
}

// ufragAt is whose path has asked from there; empty: none has. The lock is held.
func (p *Path) ufragAt(from netip.AddrPort) string {
	for _, a := range p.askers {
		if a.at == from {
			return a.ufrag
		}
	}
	return ""
}

// askedFrom is where the path with that ufrag has asked from last; zero: it has not. The lock is held.
func (p *Path) askedFrom(ufrag string) (at netip.AddrPort) {
	for _, a := range p.askers {
		if a.ufrag == ufrag {
			at = a.at
		}
	}
	return at
}

// arriveSTUN takes an answer to one of our questions, or answers the peer's.
func (p *Path) arriveSTUN(b []byte, from netip.AddrPort, now time.Time) {
	p.mu.Lock()
	if p.arriveAnswer(b, from) || p.arriveRelay(b, from, now) {
		p.mu.Unlock()
		return
	}
	answer, shows := p.prove.take(b, from)
	ask := false
	if shows != nothing && p.entry != nil && from == p.entry.At {
		p.finder.Name(seek.Candidate{Addr: from, Kind: seek.Relayed}, now)
	}
	switch shows {
	case ofTrial:
		p.met = true
		if p.follow.trial == from && p.seeking() {
			p.finder.Moved(from, now)
		}
		p.follow.proved(from)
	case ofPlace:
		p.finder.Proved(from, now)
	case ofQuestion:
		if p.agreed == nil || p.seeking() {
			p.finder.Asked(from, now)
			p.asked(from)
		} else {
			ask = p.introduced(from, now)
		}
	}
	p.mu.Unlock()
	if ask {
		p.ask()
	}
	if answer != nil {
		if _, err := p.conn.WriteToUDPAddrPort(answer, from); err != nil {
			p.cfg.Log.Debug("question of the peer's path not answered", "err", err)
		}
	}
}
