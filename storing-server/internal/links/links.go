// Package links passes the messages of relayed links on from one phone to another.
//
// It knows who may have how many links and how much may go over one. It refuses to
// know what goes over them, which the phones encrypt: a message is in here as long
// as it takes to pass it on, and is neither kept nor logged. It knows no sessions
// and no rows either: who sends was proved before, and how a message comes to its
// receiver is what Tell and Beyond do.
//
// # Why no state of the links themselves
//
// The two phones keep what makes streams of bytes of the messages: order, what has
// come, what may come, what is to be sent again. So a link lives through a restart of
// the server and through a move to another, which then know it by its next message.
// What is kept here is what limits need, and is forgotten when a link is silent.
package links

import (
	"container/list"
	"sync"
	"time"

	"flexphone/registry-client/wire"
)

// Limits bound what phones may have passed on.
type Limits struct {
	All    int // links at a time; 0: nothing is relayed
	Caller int // that one phone has begun
	Called int // that others have begun with one phone
	// Rate and Burst are of the bytes of one link, both ways together, with
	// messageCost for each message.
	Rate, Burst float64
}

// DefaultLimits are for telephones: calls to and from one are a few, and a stolen
// key is worth no tunnel.
//
// A call on a kept link takes 17 messages with 5.2 kB, and on a new one, with two
// handshakes' certificates, 24 with 8.3 kB (testbed): 7 and 11 kB with messageCost. A
// busy desk calls another each 2 s for a minute; at 10 kB a call, since some is sent
// again, that is 5 kB/s for as long as it likes, and with the burst 12 kB a call for
// that minute. The burst alone is six calls at once.
//
// A flood over all links that a phone may begin gets 16 × 64 kB, and then 16 × 5 kB/s =
// 80 kB/s; its session's 50 requests a second, of at most a kilobyte, allow 50 kB/s. To
// one phone come 32 × 5 kB/s = 160 kB/s at the most in the long run, and through a server
// whose 10 000 links are all abused 51 MB/s, which --links bounds.
func DefaultLimits() Limits {
	return Limits{All: 10000, Caller: 16, Called: 32, Rate: 5 << 10, Burst: 64 << 10}
}

const (
	// idle is after how long without a message a link counts no more. Phones let an
	// unused one go after two minutes.
	idle = 3 * time.Minute
	// closing is the same of one that was closed: until the other end has said so too.
	closing = 10 * time.Second
	// messageCost is what a message takes beside its bytes.
	messageCost = 100
)

// A Verdict says what becomes of a message.
type Verdict string

// The verdicts. All but Passed name a refusal in metrics.
const (
	Passed     Verdict = "passed"
	Off        Verdict = "off"         // nothing is relayed
	Full       Verdict = "all"         // there are too many links
	FullCaller Verdict = "caller"      // its sender has too many
	FullCalled Verdict = "called"      // its receiver has
	TooMuch    Verdict = "bytes"       // too many bytes in this link
	Nobody     Verdict = "unreachable" // the receiver has no session
)

// Counters are told of events, for metrics.
type Counters interface {
	Links(delta int)
	LinkMessage(v Verdict, bytes int)
}

// A name is the same for both ends of a link.
type name struct {
	low, high wire.MAC
	id        wire.LinkID
}

func nameOf(a, b wire.MAC, id wire.LinkID) name {
	if string(a[:]) > string(b[:]) {
		a, b = b, a
	}
	return name{a, b, id}
}

type link struct {
	name
	caller, called wire.MAC
	at             time.Time
	tokens         float64
	in             *list.List
}

// A Relay passes messages on. It is safe for concurrent use.
type Relay struct {
	limits Limits
	count  Counters

	mu     sync.Mutex
	links  map[name]*list.Element
	used   *list.List // of *link, the latest first
	over   *list.List // likewise, those that were closed
	caller map[wire.MAC]int
	called map[wire.MAC]int
}

// New returns a Relay without links.
func New(l Limits, c Counters) *Relay {
	return &Relay{
		limits: l, count: c, links: map[name]*list.Element{}, used: list.New(), over: list.New(),
		caller: map[wire.MAC]int{}, called: map[wire.MAC]int{},
	}
}

// Pass decides on a message that from sends to m.Peer at now; tell carries it there,
// and reports whether it could. It is called without a lock.
func (r *Relay) Pass(from wire.MAC, m wire.LinkMessage, now time.Time, tell func() bool) Verdict {
	v := r.admit(from, m, now)
	if v == Passed && !tell() {
		v = Nobody
	}
	r.count.LinkMessage(v, len(m.Data))
	return v
}

// admit counts a message.
func (r *Relay) admit(from wire.MAC, m wire.LinkMessage, now time.Time) Verdict {
	if r.limits.All == 0 {
		return Off
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(now)
	n := nameOf(from, m.Peer, m.Link)
	e := r.links[n]
	if e == nil {
		// Also in the midst of a link: this server has not seen it before.
		switch {
		case len(r.links) >= r.limits.All:
			return Full
		case r.caller[from] >= r.limits.Caller:
			return FullCaller
		case r.called[m.Peer] >= r.limits.Called:
			return FullCalled
		}
		e = r.used.PushFront(&link{name: n, caller: from, called: m.Peer, at: now, tokens: r.limits.Burst, in: r.used})
		r.links[n] = e
		r.caller[from]++
		r.called[m.Peer]++
		r.count.Links(1)
	}
	l := e.Value.(*link)
	l.tokens = min(r.limits.Burst, l.tokens+now.Sub(l.at).Seconds()*r.limits.Rate)
	l.at = now
	l.in.MoveToFront(e)
	cost := float64(len(m.Data) + messageCost)
	if l.tokens < cost {
		return TooMuch
	}
	l.tokens -= cost
	if m.Kind == wire.LinkClose && l.in == r.used {
		r.used.Remove(e)
		l.in = r.over
		r.links[n] = r.over.PushFront(l)
	}
	return Passed
}

// forget drops links that are over; r.mu is held.
func (r *Relay) forget(now time.Time) {
	for _, of := range []struct {
		list  *list.List
		after time.Duration
	}{{r.used, idle}, {r.over, closing}} {
		for e := of.list.Back(); e != nil && now.Sub(e.Value.(*link).at) >= of.after; e = of.list.Back() {
			l := of.list.Remove(e).(*link)
			delete(r.links, l.name)
			drop(r.caller, l.caller)
			drop(r.called, l.called)
			r.count.Links(-1)
		}
	}
}

func drop(of map[wire.MAC]int, mac wire.MAC) {
	if of[mac]--; of[mac] <= 0 {
		delete(of, mac)
	}
}
