package phone

import (
	"log/slog"
	"time"

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
	lingerWait     = 4 * time.Second  // a tone with the handset on the phone
)

// Reasons for an end that come from here. Those that come from the peer are
// package sip's.
const (
	ReasonNetwork = "network down"
	ReasonOffline = "not connected"  // the storing server knows that the phone is away
	ReasonServer  = "no server"      // the storing server does not answer
	ReasonInvalid = "invalid number" // outside the dial plan
	ReasonNoDigit = "nothing dialled"
	ReasonStopped = "phone stopped"
	ReasonLost    = "connection lost" // nothing comes from the peer any more
	ReasonSound   = "no sound"        // no RTP port or no sound device
)

// model is all that call control remembers. It is a value: step takes one and
// returns the next.
type model struct {
	state      State
	hook       hal.HookState
	leased     bool
	addr       string
	everOnline bool   // registered at least once since there is an address
	registered bool   // and the storing server still knows it, as far as we know
	number     string // our short number
	digits     string
	peer       string // whom we talk to, as shown
	peerRings  bool
	reached    bool // the peer's phone has answered in any way
	incoming   bool // the present call came from the peer
	proved     bool // who is who it says
	answering  bool
	talked     bool
	local      bool // the present end was asked for here
	codec      string
	private    bool
	reason     string // why there is no call
	missed     int
	broken     string // the part that failed last
	call       int    // generation of the present call; events of older ones are stale
	active     bool   // the present call's function runs
	timer      timer
}

// timer is the one thing that the phone waits for. A new seq restarts it.
type timer struct {
	seq int
	d   time.Duration // 0: stopped
}

type (
	event any

	keyPressed   struct{ key hal.Key }
	hookMoved    struct{ to hal.HookState }
	dialled      struct{ number string } // without the handset
	answered     struct{}
	hungUp       struct{}
	networkUp    struct{ addr string }
	networkDown  struct{ reason string }
	registration struct {
		ok     bool
		number string
	}
	offered struct {
		call Call
		from string
	}
	callResolved struct {
		call int
		peer Peer
	}
	callerProved    struct{ call int }
	callProgress    struct{ call int }
	callEstablished struct {
		call    int
		codec   string
		private bool
	}
	callChanged struct {
		call int
		what string // "local" or "peer": whose address is new
	}
	callEnded struct {
		call   int
		reason string
	}
	timedOut   struct{ seq int }
	partFailed struct{ part string }
	asked      struct{} // whether call control lives
)

type (
	action any

	place struct {
		call int
		to   Destination
	}
	ring struct {
		call int
		line Call
	}
	refuse    struct{ line Call }
	answer    struct{}
	release   struct{ reason string }
	move      struct{}
	sendDigit struct{ key hal.Key }
	click     struct{ key hal.Key }
	report    struct {
		name  string
		attrs []slog.Attr
	}
)

func tell(name string, attrs ...slog.Attr) report { return report{name, attrs} }

// step is call control: what a phone in state m makes of e. It does nothing
// itself.
func step(m model, e event) (model, []action) {
	switch e := e.(type) {
	case keyPressed:
		return m.key(e.key)
	case hookMoved:
		return m.moveHook(e.to)
	case dialled:
		if m.state != Standby && m.state != Dialing && !(m.state == Initial && m.leased) {
			return m, nil
		}
		m.digits = e.number
		return m.dial()
	case answered:
		if m.state != Ringing || m.answering {
			return m, nil
		}
		m.answering = true
		return m.wait(0), []action{answer{}}
	case hungUp:
		return m.hangUp()
	case networkUp, networkDown, registration:
		return m.network(e)
	case offered:
		return m.offer(e)
	case partFailed:
		m.broken = e.part
		return m, nil
	case asked:
		return m, nil
	case timedOut:
		if e.seq != m.timer.seq || m.timer.d == 0 {
			return m, nil
		}
		return m.timeOut()
	}
	return m.progress(e)
}

func (m model) wait(d time.Duration) model {
	m.timer = timer{m.timer.seq + 1, d}
	return m
}

// rest is where the phone goes when there is nothing to do.
func (m model) rest() model {
	m = m.wait(0)
	m.state, m.digits, m.peer, m.codec, m.reason = Standby, "", "", "", ""
	m.peerRings, m.reached, m.incoming, m.proved, m.answering, m.talked, m.local, m.private = false, false, false, false, false, false, false, false
	switch {
	case !m.leased || !m.everOnline:
		m.state = Initial
	case m.hook == hal.OffHook:
		m.state = Dialing
		return m.wait(firstDigitWait)
	}
	return m
}

// fail is the end of an attempt: a tone says why until the handset is put back,
// or for a while when it was never lifted.
func (m model) fail(reason string) model {
	m.state, m.reason = Releasing, reason
	m.answering, m.peerRings = false, false
	if m.hook == hal.OnHook {
		return m.wait(lingerWait)
	}
	return m.wait(0)
}

func (m model) key(k hal.Key) (model, []action) {
	switch {
	case m.state == Talking:
		return m, []action{click{k}, sendDigit{k}}
	case m.state == Standby:
		m.state, m.digits = Dialing, ""
	case m.state != Dialing:
		return m, nil
	}
	if k != '#' && len(m.digits) < dialMost {
		m.digits += string(k)
	}
	did := []action{click{k}}
	switch {
	case k == '#' && m.digits == "":
		return m, did
	case k == '#', complete(m.digits):
		m, dialled := m.dial()
		return m, append(did, dialled...)
	}
	return m.wait(interDigitWait), did
}

// dial ends the dialling: the number is what m.digits holds.
func (m model) dial() (model, []action) {
	did := tell("dialed", slog.String("number", m.digits))
	to, err := ParseNumber(m.digits)
	m.peer = m.digits
	if err != nil {
		return m.fail(ReasonInvalid), []action{did, tell("ended", slog.String("reason", ReasonInvalid), slog.String("number", m.digits))}
	}
	m = m.wait(0)
	m.state, m.active, m.call = Resolving, true, m.call+1
	m.reached, m.peerRings, m.incoming, m.proved, m.talked, m.local, m.missed = false, false, false, false, false, false, 0
	return m, []action{did, place{m.call, to}}
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
	switch m.state {
	case Standby, Initial:
		if m.leased { // without registration an address can still be dialled
			m.state, m.digits = Dialing, ""
			return m.wait(firstDigitWait), nil
		}
	case Ringing:
		return step(m, answered{})
	case Releasing:
		if !m.active {
			return m.rest(), nil
		}
	}
	return m, nil
}

// hangUp is the user's wish to end whatever goes on.
func (m model) hangUp() (model, []action) {
	if !m.active {
		if m.state == Initial || m.state == Standby {
			return m, nil
		}
		return m.rest(), nil
	}
	m.local = true
	return m.let(sip.ReasonHangup)
}

// let releases the present call for reason.
func (m model) let(reason string) (model, []action) {
	m.state, m.reason = Releasing, reason
	return m.wait(0), []action{release{reason}}
}

func (m model) network(e event) (model, []action) {
	switch e := e.(type) {
	case networkUp:
		moved := m.leased && m.addr != e.addr
		m.leased, m.addr = true, e.addr
		if moved && m.active {
			return m, []action{move{}}
		}
	case networkDown:
		m.leased, m.everOnline, m.registered, m.addr = false, false, false, ""
		if m.active {
			return m.let(ReasonNetwork)
		}
		return m.rest(), nil
	case registration:
		m.registered = e.ok
		if !e.ok || !m.leased {
			return m, nil
		}
		m.everOnline, m.number = true, e.number
		if m.state == Initial {
			return m.rest(), nil
		}
	}
	return m, nil
}

func (m model) offer(e offered) (model, []action) {
	lingering := m.state == Releasing && !m.active
	free := m.state == Standby || m.state == Initial && m.leased || lingering
	if !free || m.hook == hal.OffHook {
		return m, []action{refuse{e.call}}
	}
	m = m.rest()
	m.state, m.peer, m.incoming, m.active, m.call = Ringing, e.from, true, true, m.call+1
	return m.wait(ringWait), []action{ring{m.call, e.call}, tell("ringing", slog.String("from", e.from))}
}

func (m model) timeOut() (model, []action) {
	switch m.state {
	case Dialing:
		if m.digits != "" {
			return m.dial()
		}
		return m.fail(ReasonNoDigit), nil
	case Calling, Ringing:
		return m.let(sip.ReasonNoAnswer)
	case Releasing:
		return m.rest(), nil
	}
	return m, nil
}
