package phone

import (
	"net/netip"
	"slices"
	"time"

	"flexphone/firmware/internal/events"
	"flexphone/firmware/internal/sip"
	"flexphone/hal"
)

// A State is where the phone is in the method.
type State string

// The states of a phone.
const (
	Initial   State = "initial"   // no address, or not yet registered (S30)
	Standby   State = "standby"   // leased and registered: can call and be called
	Dialing   State = "dialing"   // off hook, or digits are coming in (S24)
	Resolving State = "resolving" // the storing server is asked for the address (S25)
	Calling   State = "calling"   // connecting to it, or it rings there (S26)
	Ringing   State = "ringing"   // it rings here
	Talking   State = "talking"   // established (S27)
	Releasing State = "releasing" // being released (S28), or a tone tells why there is no call
)

// How long the phone waits for people. The values are those that users know
// from other telephones; ITU-T E.180 and Q.118 leave them to the administration.
const (
	firstDigitWait = 15 * time.Second // dial tone without a digit
	interDigitWait = 4 * time.Second  // then what has been dialled is the number
	noAnswerWait   = 60 * time.Second // ringing there
	ringWait       = 90 * time.Second // ringing here; longer than any caller's patience
	turnedWait     = 2 * time.Second  // the display tells how loud something is now
	lingerWait     = 4 * time.Second  // the display tells of an end, with the handset on the phone, or how good a call is
)

// A desk is what the handset and the keys are used for while no call is in focus.
type desk int

const (
	idle     desk = iota
	dialling      // digits are coming in, or the dial tone is heard
	told          // the handset is off, and a tone tells why there is no call
)

// model is all that call control remembers: the handset, the network and the
// calls. It is a value: step takes one and returns the next.
type model struct {
	hook   hal.HookState
	desk   desk
	digits string
	notice notice
	timer  timer // of the desk

	leased     bool
	addr       string       // the last that there was
	others     []netip.Addr // beside it
	everOnline bool         // registered at least once since there is an address
	registered bool         // and the storing server still knows it, as far as we know
	number     string       // our short number
	away       timer        // for how long calls wait for an address

	calls []call // oldest first; one that is over stays until it is released
	focus int    // id of the call that the user is busy with; 0: none
	last  int    // id of the newest call

	muted  bool   // nobody hears what is said here
	turned string // what the display tells of a volume; empty: nothing
	turns  timer  // for how long it does

	missed int
	broken []string // parts that do not work, the last one last
}

// A notice tells of the end of the last call.
type notice struct {
	peer   string
	reason Reason // "": there is none
	asked  bool   // the user wanted it, and needs no tone to know
}

// step is call control: what a phone in state m makes of e. It does nothing
// itself.
func step(m model, e event) (model, []action) {
	m.calls = slices.Clone(m.calls)
	m, did := m.step(e)
	return m.settle(did)
}

func (m model) step(e event) (model, []action) {
	switch e := e.(type) {
	case keyPressed:
		return m.key(e.key)
	case hookMoved:
		return m.moveHook(e.to)
	case dialled:
		if !m.leased || m.focus != 0 {
			return m, nil
		}
		m.digits = e.number
		return m.dial()
	case answered:
		return m.answer()
	case accepted:
		return m.accept()
	case hungUp:
		return m.hangUp()
	case putOnHold:
		return m.hold(e.is)
	case muted:
		return m.mute(e.is)
	case turned:
		m.turned, m.turns = e.line, m.turns.set(turnedWait)
	case networkUp, networkDown, registration:
		return m.network(e)
	case offered:
		return m.offer(e)
	case partFailed:
		m.broken = append(without(m.broken, e.part), e.part)
	case partWorks:
		m.broken = without(m.broken, e.part)
	case timedOut:
		return m.timeOut(e)
	case callEvent:
		return m.of(e)
	}
	return m, nil
}

func without(parts []string, part string) []string {
	return slices.DeleteFunc(slices.Clone(parts), func(p string) bool { return p == part })
}

// state is where the phone is in the method.
func (m model) state() State {
	c, busy := m.focused()
	switch {
	case busy:
		return c.state()
	case m.desk == dialling:
		return Dialing
	case m.desk == told:
		return Releasing
	case !m.leased || !m.everOnline:
		return Initial
	}
	return Standby
}

// focused returns the call that the user is busy with.
func (m model) focused() (call, bool) {
	if i := m.find(m.focus); i >= 0 {
		return m.calls[i], true
	}
	return call{}, false
}

func (m model) find(id int) int {
	return slices.IndexFunc(m.calls, func(c call) bool { return c.id == id })
}

// timers are all that is waited for, by the ids of events.
func (m model) timers() map[int]timer {
	ts := map[int]timer{}
	set := func(id int, t timer) {
		if t.d > 0 {
			ts[id] = t
		}
	}
	set(deskTimer, m.timer)
	set(awayTimer, m.away)
	set(turnTimer, m.turns)
	for _, c := range m.calls {
		set(c.id, c.timer)
	}
	return ts
}

func (m model) wait(d time.Duration) model {
	m.timer = m.timer.set(d)
	return m
}

// rest is where the phone goes when there is nothing to do.
func (m model) rest() model {
	m = m.wait(0)
	m.desk, m.digits, m.notice, m.focus = idle, "", notice{}, 0
	if m.hook == hal.OffHook && m.leased && m.everOnline {
		m.desk = dialling
		return m.wait(firstDigitWait)
	}
	return m
}

// fail is the end of an attempt. Who listens is told by a tone, until the handset
// is put back; else the display says why for a while, and the phone is free.
func (m model) fail(n notice) model {
	m = m.rest()
	if !m.leased {
		return m
	}
	if m.hook == hal.OffHook {
		m.desk, m.notice = told, n
		return m.wait(0)
	}
	if n.asked {
		return m
	}
	m.notice = n
	return m.wait(lingerWait)
}

// dial ends the dialling: the number is what m.digits holds.
func (m model) dial() (model, []action) {
	number := m.digits
	did := report{events.Dialed{Number: number}}
	to, err := ParseNumber(number)
	if err != nil {
		return m.fail(notice{peer: number, reason: ReasonInvalid}),
			[]action{did, report{events.Misdialled{Reason: string(ReasonInvalid), Number: number}}}
	}
	m = m.rest().wait(0)
	m.missed = 0
	m = m.begin(call{number: number, peer: number, phase: resolving})
	m.desk, m.focus = idle, m.last
	return m, []action{did, place{m.last, to}}
}

// begin adds a new call.
func (m model) begin(c call) model {
	m.last++
	c.id = m.last
	m.calls = append(m.calls, c)
	return m
}

func (m model) moveHook(to hal.HookState) (model, []action) {
	if m.hook == to {
		return m, nil
	}
	m.hook = to
	if to == hal.OnHook {
		return m.hangUp()
	}
	m.missed = 0
	c, busy := m.focused()
	switch {
	case busy && c.phase == ringing:
		return m.answer()
	case !busy && m.desk == idle && m.leased: // without registration an address can still be dialled
		m.desk, m.digits, m.notice = dialling, "", notice{}
		return m.wait(firstDigitWait), nil
	}
	return m, nil
}

func (m model) answer() (model, []action) {
	i := m.find(m.focus)
	if i < 0 || m.calls[i].phase != ringing {
		return m, nil
	}
	c := m.calls[i].wait(0)
	c.phase = answering
	m.calls[i] = c
	return m, []action{answer{c.id}}
}

// hold is the user's wish to have the peer wait, or to talk again.
func (m model) hold(is bool) (model, []action) {
	i := m.find(m.focus)
	if i < 0 || m.calls[i].phase != talking || m.calls[i].holds == is {
		return m, nil
	}
	m.calls[i].holds = is
	return m, []action{hold{m.focus, is}}
}

// accept is the user's word that the new key of the other end may be believed.
func (m model) accept() (model, []action) {
	i := m.find(m.focus)
	if i < 0 {
		return m, nil
	}
	c, did := m.calls[i].accept()
	m.calls[i] = c
	return m, did
}

// hangUp is the user's wish to end whatever goes on.
func (m model) hangUp() (model, []action) {
	if m.focus != 0 {
		return m.end(m.focus, sip.ReasonHangup, true)
	}
	return m.rest(), nil
}

// end is the end of a live call for reason, asked for by the user or not. The
// phone is free at once; the peer is told meanwhile.
func (m model) end(id int, reason Reason, asked bool) (model, []action) {
	i := m.find(id)
	if i < 0 || !m.calls[i].live() {
		return m, nil
	}
	was := m.calls[i]
	c, let := was.leave(reason)
	m.calls[i] = c
	did := []action{let}
	if id != m.focus {
		if was.phase != waiting {
			did = append(did, ended(was, reason))
		}
		return m, did
	}
	switch {
	case was.unheard() && !asked:
		m.missed++
		m = m.rest()
	default:
		m = m.fail(notice{was.peer, reason, asked})
	}
	if m.muted {
		var open []action
		m, open = m.mute(false)
		did = append(did, open...)
	}
	if (asked || !was.unheard()) && m.state() != Releasing { // it passes so fast that only who reads the events sees it
		did = append(did, report{events.State{State: string(Releasing)}})
	}
	return m, append(did, ended(was, reason))
}

func ended(c call, reason Reason) report {
	return report{events.Ended{Reason: string(reason), Peer: c.peer}}
}

// of follows one call.
func (m model) of(e callEvent) (model, []action) {
	i := m.find(e.of())
	if i < 0 {
		return m, nil
	}
	switch e := e.(type) {
	case callOver:
		return m.end(e.of(), e.reason, false)
	case callGone:
		m, did := m.end(e.of(), e.reason, false)
		m.calls = slices.Delete(m.calls, i, i+1)
		return m, did
	}
	c, did := m.calls[i].step(e)
	m.calls[i] = c
	return m, did
}

func (m model) network(e event) (model, []action) {
	switch e := e.(type) {
	case networkUp:
		// A call may run over any of the addresses. What is new beside them is no move.
		lost := slices.ContainsFunc(m.others, func(a netip.Addr) bool { return !slices.Contains(e.others, a) && a.String() != e.addr })
		moved, gap := m.addr != "" && (m.addr != e.addr || lost), !m.leased
		m.leased, m.addr, m.others, m.away = true, e.addr, e.others, m.away.set(0)
		var did []action
		for _, c := range m.calls {
			// After a gap a connection waits for up to as long again before it tries
			// the network (RFC 6298, 5.5): too long for who waits for an answer.
			if c.live() && (moved || gap && c.unanswered()) {
				did = append(did, move{c.id})
			}
		}
		return m, did
	case networkDown:
		m.leased, m.everOnline, m.registered = false, false, false
		if m.focus == 0 {
			m = m.rest()
		}
		if m.away.d == 0 && slices.ContainsFunc(m.calls, call.live) {
			m.away = m.away.set(lostAfter)
		}
	case registration:
		m.registered = e.ok
		if !e.ok || !m.leased {
			return m, nil
		}
		m.everOnline, m.number = true, e.number
		if m.focus == 0 && m.desk == idle && m.notice.reason == "" {
			return m.rest(), nil
		}
	}
	return m, nil
}

func (m model) timeOut(e timedOut) (model, []action) {
	if m.timers()[e.id].seq != e.seq || m.timers()[e.id].d == 0 {
		return m, nil
	}
	switch e.id {
	case turnTimer:
		m.turned, m.turns = "", m.turns.set(0)
		return m, nil
	case awayTimer:
		m.away = m.away.set(0)
		var did []action
		for _, c := range m.calls {
			var more []action
			m, more = m.end(c.id, ReasonNetwork, false)
			did = append(did, more...)
		}
		return m, did
	case deskTimer:
		if m.desk != dialling {
			return m.rest(), nil
		}
		if m.digits != "" {
			return m.dial()
		}
		return m.fail(notice{reason: ReasonNoDigit}), nil
	}
	if i := m.find(e.id); m.calls[i].phase == talking {
		m.calls[i] = m.calls[i].rated(0)
		return m, nil
	}
	return m.end(e.id, sip.ReasonNoAnswer, false)
}

// safe is the model to go on from when step itself has failed: what is known of
// the network and the handset, and no call. What there was of calls is released.
func (m model) safe() (model, []action) {
	var did []action
	next := model{hook: m.hook, leased: m.leased, addr: m.addr, others: m.others, everOnline: m.everOnline, registered: m.registered,
		number: m.number, last: m.last, missed: m.missed, broken: m.broken}
	next.timer, next.away, next.turns = m.timer.set(0), m.away.set(0), m.turns.set(0)
	if m.muted {
		did = append(did, mute{false})
	}
	for _, c := range m.calls {
		if c.live() {
			did = append(did, ended(c, ReasonBroken))
		}
		c, let := c.leave(ReasonBroken)
		next.calls, did = append(next.calls, c), append(did, let)
	}
	return next.rest(), did
}
