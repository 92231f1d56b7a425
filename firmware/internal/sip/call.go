package sip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

var (
	// ErrEnded is returned by the methods of a call that has ended.
	ErrEnded = errors.New("sip: call has ended")
	// ErrState is returned for what does not make sense now, such as
	// answering an outgoing call.
	ErrState = errors.New("sip: not possible in this state of the call")

	// ErrRefused is returned where the peer does not agree to a change.
	ErrRefused = errors.New("sip: change call: the peer does not agree")

	errUnreachable = errors.New("sip: send request: nothing there")
	errLost        = fmt.Errorf("%w: the connection is gone", errUnreachable)
	errCut         = fmt.Errorf("%w: the connection is gone on which it has begun to answer", errUnreachable)
	errUnsettled   = errors.New("sip: change call: the peer has not acknowledged its own change")
	errMoved       = errors.New("sip: change call: the peer has moved meanwhile")
	errGlare       = errors.New("sip: change call: the peer changes it at the same time")
)

// A Peer is the other end of a call.
type Peer struct {
	User        string // of its URI: 12 hex digits of a MAC, or anything
	DisplayName string // printable, may be empty
	Addr        netip.AddrPort
	// Secure: signalling runs over TLS, and Fingerprint is the SHA-256 of the
	// SubjectPublicKeyInfo that the peer has proved to own.
	Secure      bool
	Fingerprint [32]byte
	// Called: User is whom we have called at the place that we knew, and not what
	// the peer says of itself.
	Called bool
	// Relayed: signalling goes by the relay now.
	Relayed bool
	// Known: a phone with that key has been proved before to be who it says
	// (Vouch). It may be another number that it gives now.
	Known bool
	// Browser: it is no phone, but a page that the storing server has let call.
	Browser bool
}

type state int

const (
	starting state = iota // INVITE sent or received, no final response
	answered              // incoming: 200 sent, no ACK yet
	up
	ended
)

// A Call is one call with one peer. Its methods may be called concurrently.
type Call struct {
	a        *Agent
	id       dialogID
	incoming bool
	offer    []byte // incoming: of the INVITE; nil: none
	firstTag string // incoming: From tag and CSeq of the INVITE, to know it again
	firstSeq uint32
	settled  atomic.Bool              // incoming: no longer waits for the user
	pin      atomic.Pointer[[32]byte] // nil: plain SIP
	source   netip.Addr               // incoming: where the INVITE came from
	host     netip.Addr               // incoming: the same, or what it says of itself if it was relayed
	kept     count                    // transactions of the peer's requests in the dialog
	box      *mailbox
	done     chan struct{} // closed when nothing of the call is left
	events   *queue

	mu   sync.Mutex
	peer Peer

	from atomic.Pointer[[]netip.Addr] // plain: where the peer's messages come from

	// The rest belongs to the call's goroutine.
	d           *dialog
	redirection redirection // outgoing, plain
	state       state
	why         string // it has ended
	left        bool   // without a word: an answer that comes all the same is not acknowledged
	local       LocalMedia
	media       Media
	dest        netip.AddrPort // where the peer was last heard, or is to be tried first
	stream      *stream        // plain: the peer's connection, on which it was last heard
	nat         bool           // plain: only where the peer was heard leads to it
	doubting    bool           // plain: whether the peer has moved is being found out
	link        *link
	target      Target // outgoing: whom
	begin       func(ctx context.Context)
	out         *inviting // our INVITE that waits for its final response
	confirmed   *inviting // our last INVITE that was accepted, while its ACK may be lost
	in          *serving  // the peer's INVITE until its ACK
	session     session
	waits       map[*exchange]struct{}
	open        int // transactions that have to end before the call is gone
	work        sync.WaitGroup
}

func newCall(a *Agent, id dialogID) *Call {
	return &Call{
		a: a, id: id, box: newMailbox(), done: make(chan struct{}), events: newQueue(),
		waits: make(map[*exchange]struct{}), kept: count{most: maxKeptPerCall},
	}
}

// run is the call's life. When stop is done it says good-bye and ends soon.
func (c *Call) run(stop context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(stop))
	defer close(c.done)
	defer c.leave()
	defer c.work.Wait()
	defer cancel()
	stopping, limit := stop.Done(), (<-chan time.Time)(nil)
	do := func(f func(context.Context)) {
		if !c.try(ctx, f) && limit == nil {
			limit = time.After(stopTime)
		}
	}
	do(c.begin)
	for c.state != ended || c.open > 0 || !c.box.closeEmpty() {
		select {
		case <-c.box.filled:
			for _, f := range c.box.take() {
				do(f)
			}
		case <-stopping:
			stopping = nil
			do(func(ctx context.Context) { c.hangUp(ctx, ReasonStopped) })
			limit = time.After(stopTime)
		case <-limit:
			c.end(0, ReasonStopped)
			return
		}
	}
}

// leave lets go of everything.
func (c *Call) leave() {
	defer c.a.contain("end of a call", nil)
	c.end(0, ReasonFailed) // only a panic comes here before the end
	c.a.remove(c)
	c.box.close()
	c.use(nil)
	c.carriedBy(nil)
}

// key is the fingerprint of the key that the peer of a secure call has to own; zero
// for plain SIP. It may be called on any goroutine.
func (c *Call) key() [32]byte {
	if pin := c.pin.Load(); pin != nil {
		return *pin
	}
	return [32]byte{}
}

// bind makes the call a secure one, with the owner of that key.
func (c *Call) bind(fingerprint [32]byte) {
	c.pin.Store(&fingerprint)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peer.Secure, c.peer.Fingerprint = true, fingerprint
}

// use makes k the connection of a secure call. It is held already.
func (c *Call) use(k *link) {
	if c.link != nil {
		c.a.tls.release(c.link)
	}
	c.link = k
	if k != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.peer.Relayed = k.user != ""
	}
}

// place is where the peer of a secure call is connected with, if its link is gone: by
// whatever there is, unless it was called by one way. What it says that it is called
// the relay believes no more than we do.
func (c *Call) place() place {
	p := c.target.place()
	if c.incoming {
		p = place{user: c.Peer().User, way: Either}
	}
	if c.link != nil && c.link.user != "" {
		p.user, p.way = c.link.user, max(p.way, Either)
	}
	p.addr, p.pin = c.dest, c.key()
	return p
}

// Next waits for the next event. After Ended it returns ErrEnded.
func (c *Call) Next(ctx context.Context) (Event, error) { return c.events.next(ctx) }

// Offer is what the INVITE of a call that came in offers, and the host that it came
// from; nil: it offers nothing, or the call was made here. It may be read before
// the call is answered, and must not be changed.
func (c *Call) Offer() (offer []byte, from netip.Addr) { return c.offer, c.host }

// ID is the Call-ID, which both ends know the call by.
func (c *Call) ID() string { return c.id.callID }

// Peer is who the other end is.
func (c *Call) Peer() Peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peer
}

func (c *Call) setPeerAddr(addr netip.AddrPort) (moved bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	moved = c.peer.Addr != addr
	c.peer.Addr = addr
	return moved
}

// ask runs f in the call's goroutine and returns what it says.
func (c *Call) ask(f func(context.Context) error) error {
	said := make(chan error, 1)
	if !c.box.post(func(ctx context.Context) { said <- f(ctx) }) {
		return ErrEnded
	}
	return c.outcome(said)
}

// outcome waits for what the call's goroutine says, if it lives to say it.
func (c *Call) outcome(said <-chan error) error {
	select {
	case err := <-said:
		return err
	case <-c.done:
	}
	select {
	case err := <-said: // it was the last thing that it said
		return err
	default:
		return ErrEnded
	}
}

// Ring tells the caller that we ring (180).
func (c *Call) Ring() error {
	return c.ask(func(ctx context.Context) error {
		if !c.incoming || c.state != starting {
			return c.wrongState()
		}
		return c.ring(ctx)
	})
}

// Answer takes the call with lm and returns when the caller has acknowledged
// that, after which an Established event waits.
func (c *Call) Answer(lm LocalMedia) error {
	up := make(chan error, 1)
	err := c.ask(func(ctx context.Context) error {
		if !c.incoming || c.state != starting {
			return c.wrongState()
		}
		return c.accept(ctx, lm, up)
	})
	if err != nil {
		return err
	}
	return c.outcome(up)
}

// Reject refuses an incoming call with a final status of 400 to 699.
func (c *Call) Reject(code int) error {
	if code < 400 || code > 699 {
		return fmt.Errorf("sip: reject call: %d is not a refusal", code)
	}
	return c.ask(func(context.Context) error {
		if !c.incoming || c.state != starting {
			return c.wrongState()
		}
		c.reject(code, ReasonOf(code))
		return nil
	})
}

// Hangup ends the call: BYE once it is established, CANCEL or a refusal
// before. The Ended event comes at once; Hangup returns when the peer has
// confirmed, or with an error when ctx is done first.
func (c *Call) Hangup(ctx context.Context) error { return c.HangupFor(ctx, ReasonHangup) }

// HangupFor is Hangup for a reason, which the peer of an established call is told
// where it is one of those that both ends have to know.
func (c *Call) HangupFor(ctx context.Context, reason string) error {
	err := c.ask(func(ctx context.Context) error { c.hangUp(ctx, reason); return nil })
	if err != nil {
		return nil // it has ended already
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("sip: hang up: not confirmed: %w", ctx.Err())
	}
}

func (c *Call) wrongState() error {
	if c.state == ended {
		return ErrEnded
	}
	return ErrState
}

// end is the last event. What is still to be sent goes on without the user.
func (c *Call) end(code int, reason string) {
	if c.state == ended {
		return
	}
	c.state, c.why = ended, reason
	c.settled.Store(true)
	c.a.log.Debug("sip: call ended", "call", c.id.callID, "code", code, "reason", reason)
	c.events.push(Event{Kind: Ended, Code: code, Reason: reason})
	for x := range c.waits {
		if x.overtaken || x.asking {
			c.quit(x)
		}
	}
	if s := c.in; s != nil && s.final != nil && !s.byeAfter { // nobody needs its ACK any more
		c.served(ErrEnded)
	}
}

// hangUp ends the call from here, whatever it is doing.
func (c *Call) hangUp(ctx context.Context, reason string) {
	switch {
	case c.state == ended:
	case c.state == starting && c.incoming:
		c.reject(480, reason)
	case c.state == starting:
		c.end(487, reason)
		c.cancel(ctx)
	case c.state == answered: // no BYE before the ACK (RFC 3261, 15)
		c.in.byeAfter = true
		if c.in.up != nil { // Answer need not wait for it
			c.in.up <- ErrEnded
			c.in.up = nil
		}
		c.end(0, reason)
	default:
		c.end(0, reason)
		c.bye(ctx, c.d)
	}
}

// byed: the peer has hung up.
func (c *Call) byed(req *gosip.Request) {
	if s := c.in; s != nil {
		if s.final == nil {
			c.a.respond(s.tx, s.req, 487, nil)
		}
		c.served(ErrEnded)
	}
	for x := range c.waits {
		if x.parting {
			c.quit(x)
		}
	}
	c.end(0, byeReason(req))
}

// bye sends a BYE in dialog d.
func (c *Call) bye(ctx context.Context, d *dialog) {
	why := c.why
	c.exchange(ctx, &exchange{
		d: d, parting: true,
		build: func(p path) *gosip.Request {
			req := d.request(gosip.BYE, p, 0)
			if told(why) {
				req.AppendHeader(gosip.NewHeader("Reason", reasonHeader(why)))
			}
			return req
		},
		response: func(context.Context, *gosip.Response) {},
		failed: func(_ context.Context, err error) {
			c.a.log.Debug("sip: BYE not confirmed", "call", c.id.callID, "err", err)
		},
	})
}

// after runs f in the call's goroutine later, unless it is stopped or the call
// is gone by then.
func (c *Call) after(d time.Duration, f func(context.Context)) (stop func() bool) {
	return time.AfterFunc(d, func() { c.box.post(f) }).Stop
}
