package phone

import (
	"slices"

	"flexphone/firmware/internal/events"
	"flexphone/firmware/internal/sip"
	"flexphone/hal"
)

// mostWaiting is how many callers may be asked for their proof at the same time
// while a stranger rings, and as many more of those who have proved it before: keys
// that anybody makes keep nobody out. Each takes a goroutine and a question to the
// storing server, and whoever comes in a flood is nobody's friend.
const mostWaiting = 4

// mostCalls is how many calls there may be, most of which are being released,
// before callers are told at once that this phone is engaged.
const mostCalls = 16

// offer decides about a call that comes in. While a stranger rings, one that may
// be able to prove who it is waits for its proof; everybody else is told that
// this phone is engaged.
func (m model) offer(e offered) (model, []action) {
	secure := e.by != caller{}
	if i := m.unanswered(e.by); secure && i >= 0 && len(m.calls) < mostCalls {
		return m.again(i, e)
	}
	c := call{incoming: true, peer: e.from, by: e.by, page: e.page, known: e.known, phase: waiting, trust: stranger}
	if secure {
		c.trust = asked
	}
	f, busy := m.focused()
	mayWait := busy && f.phase == ringing && f.trust != proved && secure && m.waiting(e.known) < mostWaiting
	if !m.free() && !mayWait || len(m.calls) >= mostCalls {
		return m, []action{refuse{e.call}}
	}
	m = m.begin(c)
	return m, []action{take{m.last, e.call, secure}} // and it rings, if nothing does
}

// unanswered finds a call of that caller that is not established; -1: there is none.
func (m model) unanswered(by caller) int {
	return slices.IndexFunc(m.calls, func(c call) bool { return c.incoming && c.by == by && c.phase <= answering })
}

// again is a caller of ours that calls anew: one of the two phones has moved while
// it rang, and the peer cannot hear of what becomes of its first call. Nobody
// notices: the new call is where the first one was.
func (m model) again(i int, e offered) (model, []action) {
	was := m.calls[i]
	m = m.begin(call{incoming: true, peer: e.from, by: e.by, known: e.known, phase: was.phase, trust: was.trust})
	did := []action{take{m.last, e.call, was.trust == asked}}
	if m.focus == was.id {
		m.focus = m.last
	}
	switch was.phase {
	case ringing:
		n := m.find(m.last)
		m.calls[n] = m.calls[n].wait(ringWait)
		did = append(did, ring{m.last})
	case answering:
		did = append(did, answer{m.last})
	}
	old, let := was.leave(sip.ReasonCancelled)
	m.calls[i] = old
	return m, append(did, let)
}

// free reports whether a call may ring.
func (m model) free() bool {
	return m.focus == 0 && m.desk == idle && m.leased && m.hook == hal.OnHook
}

// waiting counts those who wait for their proof, known ones or others.
func (m model) waiting(known bool) int {
	n := 0
	for _, c := range m.calls {
		if c.phase == waiting && c.known == known {
			n++
		}
	}
	return n
}

// settle decides which of the calls that came in rings: the first, until one is
// proved while a stranger rings. The others are told that this phone is engaged
// as soon as there is nothing for them to wait for.
func (m model) settle(did []action) (model, []action) {
	for _, c := range m.calls {
		if c.phase != waiting {
			continue
		}
		f, busy := m.focused()
		var more []action
		switch {
		case m.free():
			m, more = m.letRing(c.id)
		case busy && f.phase == ringing && f.trust == stranger && c.trust == proved:
			m, more = m.end(f.id, busyWith, false)
			did = append(did, more...)
			m, more = m.letRing(c.id)
		case busy && f.phase == ringing && f.trust != proved && c.trust != stranger: // one of them is still being asked for
		default:
			m, more = m.end(c.id, busyWith, false)
		}
		did = append(did, more...)
	}
	if m.away.d > 0 && !slices.ContainsFunc(m.calls, call.live) {
		m.away = m.away.set(0)
	}
	return m, did
}

// letRing makes a call that came in the one that the user hears of.
func (m model) letRing(id int) (model, []action) {
	m = m.rest()
	c := m.calls[m.find(id)].wait(ringWait)
	c.phase = ringing
	m.calls[m.find(id)], m.focus = c, id
	return m, []action{ring{id}, report{events.RingingHere{From: c.peer}}}
}
