//go:build !nobrowser

package browser

import (
	"context"
	"net/netip"
	"strings"
	"sync"

	"flexphone/firmware/internal/sip"
	"flexphone/registry-client/wire"
)

// What is said in the data channel: the last by the page alone, hold and retrieve by the
// phone, and the others by who is called.
const (
	wordRinging  = "ringing"
	wordAnswered = "answered"
	wordHold     = "hold"
	wordRetrieve = "retrieve"
	wordEnded    = "ended " // and why
	wordHangup   = "hangup"
)

// eventsMost is how many events a call can have that nobody has read: Progress,
// Established, some changes.
const eventsMost = 16

// A Call is a call from a browser, or to one, as call control sees any.
type Call struct {
	name     string
	outgoing bool
	free     func()        // called once, when nothing is left
	missed   func()        // called when the page does not answer
	over     func()        // called when it ends; nil: nobody waits for that
	done     chan struct{} // closed when it is over
	events   chan sip.Event

	mu      sync.Mutex
	session *session   // nil: the browser that is called has not made an offer yet
	nonce   wire.Nonce // of the offer that has begun it
	state   state
	rings   bool // the browser that is called has said so
	held    bool
	reason  string // why it is over
	told    bool   // Next has said so
}

type state int

const (
	offered state = iota
	answered
	ended
)

func newCall(name string) *Call {
	return &Call{name: name, done: make(chan struct{}), events: make(chan sip.Event, eventsMost)}
}

// gets gives the call its session, and closes that if the call is over already.
func (c *Call) gets(s *session) bool {
	c.mu.Lock()
	over := c.state == ended
	if !over {
		c.session = s
	}
	c.mu.Unlock()
	if over {
		s.close()
		return false
	}
	s.begin(c.heard, c.missed, func() { c.end(sip.ReasonUnreachable) })
	return true
}

// its returns the session; nil: there is none yet.
func (c *Call) its() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// heard takes a word of the page.
func (c *Call) heard(word string) {
	reason, over := strings.CutPrefix(word, wordEnded)
	switch {
	case word == wordHangup:
		c.mu.Lock()
		reason = sip.ReasonHangup
		if c.state == offered && c.outgoing {
			reason = sip.ReasonDeclined
		} else if c.state == offered {
			reason = sip.ReasonCancelled
		}
		c.mu.Unlock()
		c.end(reason)
	case !c.outgoing: // it is the phone that rings
	case over:
		c.end(refusedFor(reason))
	case word == wordRinging || word == wordAnswered:
		c.progress(word == wordAnswered)
	}
}

// progress is that the browser that is called rings, or is answered. What it says twice
// is nothing new.
func (c *Call) progress(up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != offered {
		return
	}
	if !c.rings {
		c.rings = true
		c.events <- sip.Event{Kind: sip.Progress} // of two, the first
	}
	if up {
		c.state = answered
		c.events <- sip.Event{Kind: sip.Established, Media: c.media()}
	}
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
	s := c.session
	c.mu.Unlock()
	if c.over != nil {
		c.over()
	}
	go func() {
		if s != nil {
			s.close()
		}
		c.free()
	}()
}

// say says a word to the page, unless the call is over.
func (c *Call) say(word string) error {
	s := c.its()
	switch {
	case c.gone():
		return sip.ErrEnded
	case s == nil:
		return nil // there is nobody to hear it yet
	}
	return s.say(word)
}

func (c *Call) gone() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// media is what is agreed upon; c.mu is held.
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
	p := sip.Peer{DisplayName: c.name, Browser: true, Called: c.outgoing}
	if s := c.its(); s != nil {
		p.Addr = s.remote()
	}
	return p
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
func (c *Call) HangupFor(context.Context, string) error {
	c.mu.Lock()
	reason := sip.ReasonHangup
	if c.outgoing && c.state == offered {
		reason = sip.ReasonCancelled
	}
	c.mu.Unlock()
	return c.part(reason)
}

// part tells the page that the call is over, and why.
func (c *Call) part(reason string) error {
	err := c.say(wordEnded + reason)
	c.end(reason)
	return err
}

// Leave implements phone.Call: it is of calls to phones.
func (c *Call) Leave() bool { return false }

// Retarget implements phone.Call: packets say where the page is.
func (c *Call) Retarget(netip.AddrPort) error { return nil }

// Vouch implements phone.Call: a browser is whom the storing server says.
func (c *Call) Vouch() {}

// Probe implements phone.Call: a page that is there answers ICE's questions.
func (c *Call) Probe(context.Context) error {
	s := c.its()
	if c.gone() || s == nil {
		return sip.ErrEnded
	}
	return s.alive()
}
