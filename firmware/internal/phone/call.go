package phone

import (
	"encoding/hex"
	"time"

	"flexphone/firmware/internal/events"
	"flexphone/firmware/internal/sip"
	"flexphone/hal"
)

// A phase is how far a call has come.
type phase int

const (
	waiting   phase = iota // came in while another rings; it rings once it is proved
	ringing                // came in, and rings here
	answering              // the user has lifted the handset for it
	resolving              // made here: the storing server is asked for the address
	calling                // connecting to it
	reached                // the peer's phone has answered in any way, and rings
	talking                // established
	leaving                // over, and being released behind the user's back
)

// trust is what is known of who a caller says it is.
type trust int

const (
	asked    trust = iota // not yet known
	proved                // it is who it says
	stranger              // anybody can say that he is 102
)

// A caller is who is at the other end of a call over TLS: the fingerprint of the key
// that it has proved to own, or has to, and who it says it is, since a gateway calls
// for many. Zero: the call is over plain SIP.
type caller struct {
	key  [32]byte
	user string
}

func callerOf(p sip.Peer) caller {
	if !p.Secure {
		return caller{}
	}
	return caller{p.Fingerprint, p.User}
}

// text is its key, in 64 hexadecimal digits; empty: it has none.
func (c caller) text() string {
	if c.key == [32]byte{} {
		return ""
	}
	return hex.EncodeToString(c.key[:])
}

// A call is what call control remembers of one call. It is a value: its step
// takes one and returns the next.
type call struct {
	id       int      // events and actions of the call carry it
	incoming bool     // it was made by the peer
	number   string   // as it was dialled here
	peer     string   // whom we talk to, as shown
	by       caller   // who made it
	page     string   // the name of who made it in a browser, as the storing server says; empty: a phone did
	to       caller   // whom it was made to
	was      [32]byte // Peer.Was of the other end
	known    bool     // by its key, from before
	phase    phase
	trust    trust
	heard    bool // the peer's phone sends sound before it is answered: no tone of ours over it
	missed   bool // the peer is not heard any more, and has not said so
	holds    bool // the peer is on hold, as the user wants it
	held     bool // the peer has put us on hold
	codec    string
	private  bool
	opinion  float64 // of how good it is, 1 to 4.5, while that is shown; 0: it is not
	way      string  // shown with it
	timer    timer   // of people's patience; in a call, of opinion
}

// timer is one thing that is waited for. A new seq restarts it.
type timer struct {
	seq int
	d   time.Duration // 0: stopped
}

func (t timer) set(d time.Duration) timer { return timer{t.seq + 1, d} }

// Events of one call. They come from its function.
type (
	callEvent interface{ of() int }
	callID    int

	callResolved struct {
		callID
		peer Peer
	}
	callProved struct { // whether the caller is who it says
		callID
		is  bool
		was [32]byte
	}
	callProgress struct{ callID }
	callHeard    struct { // whether early sound flows
		callID
		now bool
	}
	callEstablished struct {
		callID
		codec   string
		private bool
	}
	callMissed struct { // whether the peer is not heard, without having said so
		callID
		now bool
	}
	callCodec struct { // its sound is carried in another way
		callID
		codec   string
		private bool
	}
	callHeld struct { // both ends know that one has the other wait, or no longer
		callID
		who string // "local" or "peer"
		is  bool
	}
	callRated struct {
		callID
		opinion float64 // MOS; 0: nothing has been heard
		way     string  // of its sound, or where that is not known, of its signalling
	}
	callKept struct { // the peer does not agree to wait, or to be taken up again
		callID
		holds bool // as it was
	}
	callDigit struct { // the peer has pressed a key
		callID
		key hal.Key
	}
	callChanged struct {
		callID
		what string // "local" or "peer": whose address is new
	}
	callOver struct { // it goes on no more; its release begins
		callID
		reason Reason
	}
	callGone struct { // nothing is left of it
		callID
		reason Reason // why, if it has not been over before
	}
)

func (id callID) of() int { return int(id) }

// live reports whether the call is not over yet.
func (c call) live() bool { return c.phase != leaving }

// state is the state of a phone whose user is busy with c.
func (c call) state() State {
	switch c.phase {
	case waiting, ringing, answering:
		return Ringing
	case resolving:
		return Resolving
	case calling, reached:
		return Calling
	case talking:
		return Talking
	}
	return Releasing
}

func (c call) wait(d time.Duration) call {
	c.timer = c.timer.set(d)
	return c
}

// step is one call: what it makes of an event of its own. How it ends is the
// phone's matter (model.of).
func (c call) step(e callEvent) (call, []action) {
	switch e := e.(type) {
	case callResolved:
		if c.phase != resolving && c.phase != calling {
			return c, nil
		}
		c.phase, c.peer = calling, e.peer.Name
		c.to = caller{e.peer.Target.Pin, e.peer.Target.User}
		found := events.Resolved{Number: c.number, Peer: e.peer.Target.User}
		if e.peer.Target.Addr.IsValid() {
			found.Address = e.peer.Target.Addr.String()
		}
		did := []action{report{found}}
		c, more := c.rekeyed(e.peer.Was)
		return c.wait(noAnswerWait), append(did, more...)
	case callProved:
		if !c.incoming || !c.live() || c.trust != asked {
			return c, nil
		}
		c.trust = stranger
		if e.is {
			c.trust = proved
			return c.rekeyed(e.was)
		}
	case callProgress:
		if c.phase != calling {
			return c, nil
		}
		c.phase = reached
		return c, []action{report{events.Connected{Peer: c.peer}}, report{events.RingingThere{To: c.peer}}}
	case callHeard:
		c.heard = e.now
	case callEstablished:
		return c.establish(e)
	case callMissed:
		if c.phase != talking || c.missed == e.now {
			return c, nil
		}
		c.missed = e.now
		if e.now {
			return c, []action{report{events.Reconnecting{Peer: c.peer}}}
		}
		return c, []action{report{events.Reconnected{Peer: c.peer}}}
	case callCodec:
		c.codec, c.private = e.codec, e.private
	case callHeld:
		if c.phase != talking {
			return c, nil
		}
		if e.who == "peer" {
			c.held = e.is
		}
		if e.is {
			return c, []action{report{events.Held{Who: e.who, Peer: c.peer}}}
		}
		return c, []action{report{events.Retrieved{Who: e.who, Peer: c.peer}}}
	case callDigit:
		if c.phase == talking {
			return c, []action{click{e.key}, report{events.Digit{Key: string(e.key), Peer: c.peer}}}
		}
	case callRated:
		if c.phase == talking {
			c.way = e.way
			return c.rated(e.opinion), nil
		}
	case callKept:
		if c.phase != talking {
			return c, nil
		}
		c.holds = e.holds
		return c, []action{report{events.Kept{Holds: e.holds, Peer: c.peer}}}
	case callChanged:
		if c.phase == talking {
			return c, []action{report{events.Moved{Who: e.what, Peer: c.peer}}}
		}
	}
	return c, nil
}

// rated shows how good the call is, for a while; 0: no longer.
func (c call) rated(opinion float64) call {
	c.opinion = opinion
	if opinion == 0 {
		return c.wait(0)
	}
	return c.wait(lingerWait)
}

// rekeyed notes, and tells, that the other end is not known by its key, but by was;
// zero: it is, or is not known at all.
func (c call) rekeyed(was [32]byte) (call, []action) {
	before := c.was
	if c.was = was; was == before || was == [32]byte{} {
		return c, nil
	}
	return c, []action{report{events.KeyChanged{Peer: c.peer, Was: hex.EncodeToString(was[:]), Key: c.other().text()}}}
}

// accept accepts the key that the other end has now.
func (c call) accept() (call, []action) {
	if c.was == [32]byte{} {
		return c, nil
	}
	c.was = [32]byte{}
	return c, []action{accept{c.peer, c.other()}}
}

// other is who the other end is.
func (c call) other() caller {
	if c.incoming {
		return c.by
	}
	return c.to
}

func (c call) establish(e callEstablished) (call, []action) {
	var did []action
	switch c.phase {
	case calling: // it has not rung there
		did = append(did, report{events.Connected{Peer: c.peer}})
	case reached, ringing, answering:
	default:
		return c, nil
	}
	c.phase, c.codec, c.private = talking, e.codec, e.private
	return c.wait(0), append(did, report{events.Established{Peer: c.peer, Codec: e.codec, Security: security(e.private)}})
}

// leave is a call that is over for reason; release is what releases it.
func (c call) leave(reason Reason) (call, release) {
	c.phase = leaving
	return c.wait(0), release{c.id, reason}
}

// unheard reports whether nobody has taken a call that came in.
func (c call) unheard() bool { return c.incoming && c.phase < talking }

// unanswered reports whether a call that was made here waits for its answer.
func (c call) unanswered() bool { return c.phase == calling || c.phase == reached }

// busyWith is the reason for which others are told that this phone is engaged.
const busyWith Reason = sip.ReasonBusy
