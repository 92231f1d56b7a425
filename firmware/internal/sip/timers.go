package sip

import (
	"crypto/rand"
	"math/big"
	"time"
)

// timers is how long a call waits for what.
type timers struct {
	t1, t2 time.Duration // RFC 3261, table 4
	// silence is how long an INVITE may bring nothing at all. A phone sends
	// 100 Trying at once, so that waiting for 64*T1 only keeps the user waiting.
	silence time.Duration
	// ack is how long to leave an ACK that is on its way.
	ack time.Duration
	// late is how long a response may take from its connection to its call.
	late time.Duration
	// connect is how long TCP and TLS may take to connect.
	connect time.Duration
	// stall is how long a connection may leave unacknowledged what we sent.
	stall time.Duration
	// anew is how long a caller whose connection is gone may take to call anew. That is seen
	// between look and quiet + look after a cable is out, there or here. It may be out for
	// half a minute, and then the phone has three seconds to look for us and to shake hands.
	anew time.Duration
	// shut is the same where the connection was closed in form, as by a program that ends:
	// a caller that calls anew at once is there by then.
	shut time.Duration
	// quiet is how long nothing may come from who waits for an answer until it is asked
	// whether it is there, and look how long it may take to say so. Over the relay that is far:
	// there the connection goes on when an end has moved, or the storing server was away.
	quiet, look, far time.Duration
	// patient is the same as quiet of who rings: it asks itself.
	patient time.Duration
	// glare is the unit in which to wait after a 491.
	glare time.Duration
	// session is the unit of what RFC 4028 counts in seconds.
	session time.Duration
	// refresh is how much of a session passes before it is refreshed.
	refresh float64
}

// standard is what the RFC says, and a person with a receiver in the hand.
func standard() timers {
	return timers{
		t1: 500 * time.Millisecond, t2: 4 * time.Second,
		silence: 8 * time.Second,
		ack:     20 * time.Millisecond,
		late:    500 * time.Millisecond,
		connect: 5 * time.Second,
		stall:   5 * time.Second,
		anew:    31 * time.Second,
		shut:    2 * time.Second,
		quiet:   5 * time.Second,
		look:    3 * time.Second,
		far:     20 * time.Second,
		patient: 15 * time.Second,
		glare:   10 * time.Millisecond,
		session: time.Second,
		refresh: 0.5, // RFC 4028, 10
	}
}

// giveUp is when to stop waiting for an answer or an ACK.
func (t timers) giveUp() time.Duration { return 64 * t.t1 }

// glareWait is how long to wait after a 491 (RFC 3261, 14.1): 2.1 to 4 s for
// who made the Call-ID, and up to 2 s for the other, so that both do not
// collide again.
func (t timers) glareWait(owner bool) time.Duration {
	n, err := rand.Int(rand.Reader, big.NewInt(191))
	if err != nil { // cannot be (crypto/rand)
		n = big.NewInt(100)
	}
	units := n.Int64()
	if owner {
		units += 210
	}
	return time.Duration(units) * t.glare
}
