//go:build !nobrowser

package browser

import (
	"context"
	"net/netip"
	"sync"

	"flexphone/firmware/internal/sip"
)

// What the phone says in the data channel, and what it hears there.
const (
	wordRinging  = "ringing"
	wordAnswered = "answered"
	wordHold     = "hold"
	wordRetrieve = "retrieve"
	wordEnded    = "ended " // and why
	wordHangup   = "hangup" // of the page
)

// eventsMost is how many events a call can have that nobody has read: Early,
// Established, some changes.
const eventsMost = 16

// A Call is a call from a browser, as call control sees any.
type Call struct {
	session *session
	name    string
	free    func()        // called once, when nothing is left
	done    chan struct{} // closed when it is over
	events  chan sip.Event

	mu     sync.Mutex
	state  state
	held   bool
	reason string // why it is over
	told   bool   // Next has said so
}

type state int

const (
	offered state = iota
	answered
	ended
)

func newCall(s *session, name string, free func()) *Call {
	c := &Call{session: s, name: name, free: free, done: make(chan struct{}), events: make(chan sip.Event, eventsMost)}
	s.begin(c.heard, func() { c.end(sip.ReasonUnreachable) })
	return c
}

// heard takes a word of the page.
func (c *Call) heard(word string) {
	if word != wordHangup {
		return
	}
	c.mu.Lock()
	reason := sip.ReasonHangup
	if c.state == offered {
		reason = sip.ReasonCancelled
	}
	c.mu.Unlock()
	c.end(reason)
}

// end is that the call is over, for the first reason that is given, and lets go of
// all that it holds.
func (c *Call) end(reason string) {
	c.mu.Lock()
	if c.state == ended {
		c.mu.Unlock()
		return
	}
	c.state, c.reason = ended, reason
	close(c.done)
	c.mu.Unlock()
	go func() {
		c.session.close()
		c.free()
	}()
}

// say says a word to the page, unless the call is over.
func (c *Call) say(word string) error {
	if c.gone() {
		return sip.ErrEnded
	}
	return c.session.say(word)
}

func (c *Call) gone() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// media is what is agreed upon.
func (c *Call) media() sip.Media {
	terms := Terms{Path: c.session.path, Session: c.session.carried}
	return sip.Media{Remote: c.session.remote(), Codec: terms.Session.Codec.Name, Send: !c.held, Recv: !c.held, Private: true, Silent: c.held, Holds: c.held, Terms: terms}
}

// Next implements phone.Call.
func (c *Call) Next(ctx context.Context) (sip.Event, error) {
	select {
	case e := <-c.events:
		return e, nil
	default:
	}
	select {
	case e := <-c.events:
		return e, nil
	case <-c.done:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.told {
			return sip.Event{}, sip.ErrEnded
		}
		c.told = true
		return sip.Event{Kind: sip.Ended, Reason: c.reason}, nil
	case <-ctx.Done():
		return sip.Event{}, ctx.Err()
	}
}

// Peer implements phone.Call.
func (c *Call) Peer() sip.Peer {
	return sip.Peer{DisplayName: c.name, Addr: c.session.remote(), Browser: true}
}

// Ring implements phone.Call.
func (c *Call) Ring() error { return c.say(wordRinging) }

// Offer implements phone.Call: keys are made already.
func (c *Call) Offer() (offer []byte, from netip.Addr) { return nil, netip.Addr{} }

// Answer implements phone.Call.
func (c *Call) Answer(sip.LocalMedia) error {
	if err := c.say(wordAnswered); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.state {
	case answered:
		return sip.ErrState
	case ended:
		return sip.ErrEnded
	}
	c.state = answered
	c.events <- sip.Event{Kind: sip.Established, Media: c.media()} // the first
	return nil
}

// Update implements phone.Call: the page sees by itself where the phone is, and is
// told whether it waits.
func (c *Call) Update(_ context.Context, local sip.LocalMedia) error {
	l, _ := local.(Local)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != answered {
		return sip.ErrEnded
	}
	if l.Hold == c.held {
		return nil
	}
	word := wordRetrieve
	if l.Hold {
		word = wordHold
	}
	if err := c.session.say(word); err != nil {
		return err
	}
	c.held = l.Hold
	select {
	case c.events <- sip.Event{Kind: sip.Changed, Media: c.media()}:
	default: // nobody reads: the call ends
	}
	return nil
}

// Reject implements phone.Call.
func (c *Call) Reject(code int) error { return c.part(sip.ReasonOf(code)) }

// HangupFor implements phone.Call. The page is told of a person's wish, whatever it was.
func (c *Call) HangupFor(context.Context, string) error { return c.part(sip.ReasonHangup) }

// part tells the page that the call is over, and why.
func (c *Call) part(reason string) error {
	err := c.say(wordEnded + reason)
	c.end(reason)
	return err
}

// Leave implements phone.Call: it is of calls that are made here.
func (c *Call) Leave() bool { return false }

// Retarget implements phone.Call: packets say where the page is.
func (c *Call) Retarget(netip.AddrPort) error { return nil }

// Vouch implements phone.Call: a browser is whom the storing server says.
func (c *Call) Vouch() {}

// Probe implements phone.Call: a page that is there answers ICE's questions.
func (c *Call) Probe(context.Context) error {
	if c.gone() {
		return sip.ErrEnded
	}
	return c.session.alive()
}
