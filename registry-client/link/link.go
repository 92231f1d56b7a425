// Package link makes streams of bytes of the messages that a storing server passes on
// from one phone to another, or between a phone and a browser.
//
// It knows order, loss, room and ends: RFC 9293 in small, over messages that may be
// lost, doubled and overtaken (wire.LinkMessage). It refuses to know how a message is
// carried, and what the bytes mean.
package link

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/pion/transport/v5/deadline"

	"flexphone/registry-client/wire"
)

// Errors of links.
var (
	// ErrNotTaken: the other end does not take the link.
	ErrNotTaken = errors.New("the phone takes no relayed link")
	// ErrUnreachable: nothing comes from the other end.
	ErrUnreachable = errors.New("unreachable")
	errSilent      = fmt.Errorf("the other end is silent: %w", syscall.ETIMEDOUT)
)

const (
	// linksWaiting is how many links of others may wait for each Accept; more are refused.
	linksWaiting = 8
	// askAfter is after how many repetitions without an answer it is looked whether
	// messages still go their way.
	askAfter = 2
	// lostAgain is how long a link that is carried nowhere waits before it tries again.
	lostAgain = 2 * time.Second
)

// An Addr is the end of a link: a phone, wherever it is, or a browser.
type Addr struct{ MAC wire.MAC }

// Network implements net.Addr.
func (Addr) Network() string { return "relay" }

// String implements net.Addr.
func (a Addr) String() string { return a.MAC.String() }

// A Carrier takes messages to whoever passes them on.
type Carrier interface {
	// Post sends a message to m.Peer. It does not wait; what is lost is sent again.
	Post(m wire.LinkMessage)
	// Lost reports whether it carries nothing now, as far as it knows.
	Lost() bool
	// Doubt is called where it is lost, or nobody answers: it makes sure that
	// messages go their way again.
	Doubt(ctx context.Context)
}

// Links are all links of one end.
type Links struct {
	own      wire.MAC
	carrier  Carrier
	done     chan struct{} // closed by Close
	incoming chan *Conn    // of phones; they wait to be taken, and are answered then
	browsers chan *Conn    // likewise

	mu     sync.Mutex
	open   map[linkName]*Conn
	closed bool
	both   sync.WaitGroup
}

type linkName struct {
	peer wire.MAC
	id   wire.LinkID
}

// New returns the links of whoever has the MAC own; there are none yet.
func New(own wire.MAC, carrier Carrier) *Links {
	return &Links{
		own: own, carrier: carrier, done: make(chan struct{}),
		incoming: make(chan *Conn, linksWaiting), browsers: make(chan *Conn, linksWaiting), open: map[linkName]*Conn{},
	}
}

// Close ends all links, without a word.
func (l *Links) Close() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.done)
		for _, r := range l.open {
			if r.end != nil {
				r.end()
			}
		}
	}
	l.mu.Unlock()
	l.both.Wait()
}

// add makes an end of a link. l.mu is held.
func (l *Links) add(n linkName, opening bool) *Conn {
	r := &Conn{
		links: l, name: n, read: deadline.New(), write: deadline.New(),
		stream: newStream(n.peer, n.id, opening), changed: make(chan struct{}),
	}
	l.open[n] = r
	return r
}

// begin sends what r has to say from now on, until it is over or all links are closed.
// The end of ctx does not end it. l.mu is held.
func (l *Links) begin(ctx context.Context, r *Conn) {
	ctx, r.end = context.WithCancel(context.WithoutCancel(ctx))
	l.both.Go(func() {
		defer r.end()
		r.run(ctx)
		l.mu.Lock()
		delete(l.open, r.name)
		l.mu.Unlock()
	})
}

// Dial opens a link. It survives changes of the addresses of both ends, and ends when
// the other end has said nothing for 20 s though it ought to. An error wraps what
// Refuse was told, ErrNotTaken or ErrUnreachable.
func (l *Links) Dial(ctx context.Context, to wire.MAC) (*Conn, error) {
	if !to.Valid() || to == l.own {
		return nil, fmt.Errorf("link: open to %v: %w", to, wire.ErrInvalid)
	}
	n := linkName{peer: to}
	rand.Read(n.id[:]) // never fails
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, fmt.Errorf("link: open to %v: %w", to, unreachable(net.ErrClosed))
	}
	r := l.add(n, true)
	l.begin(ctx, r)
	l.mu.Unlock()
	for {
		r.mu.Lock()
		opening, err, changed := r.stream.opening, r.gone(), r.changed
		r.mu.Unlock()
		switch {
		case err != nil:
			return nil, fmt.Errorf("link: open to %v: %w", to, err)
		case !opening:
			return r, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			r.abandon()
			return nil, fmt.Errorf("link: open to %v: %w", to, unreachable(ctx.Err()))
		}
	}
}

// Accept waits for the next link that a phone opens: which one it is says its remote
// address, an Addr, as the server does. Until then the phone waits. At the end of all links
// it is net.ErrClosed.
func (l *Links) Accept(ctx context.Context) (*Conn, error) { return l.accept(ctx, l.incoming) }

// AcceptBrowser does the same for links of browsers.
func (l *Links) AcceptBrowser(ctx context.Context) (*Conn, error) { return l.accept(ctx, l.browsers) }

func (l *Links) accept(ctx context.Context, from <-chan *Conn) (*Conn, error) {
	select {
	case c := <-from:
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.closed {
			return nil, net.ErrClosed
		}
		l.begin(ctx, c)
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Came gives a message to its link, or to a new one.
func (l *Links) Came(m wire.LinkMessage) {
	n := linkName{m.Peer, m.Link}
	l.mu.Lock()
	r := l.open[n]
	why := wire.EndUnknown
	if r == nil && m.Kind == wire.LinkOpen && !l.closed {
		waiting := l.incoming
		if wire.IsBrowser(m.Peer) {
			waiting = l.browsers
		}
		if why = wire.EndRefused; len(waiting) < cap(waiting) { // this alone fills it
			r = l.add(n, false)
			waiting <- r
		}
	}
	l.mu.Unlock()
	if r != nil {
		r.took(m)
		return
	}
	if m.Kind != wire.LinkClose || m.Ending == wire.EndDone {
		l.carrier.Post(wire.LinkMessage{Peer: m.Peer, Link: m.Link, Kind: wire.LinkClose, Ending: why})
	}
}

// Lost is that the carrier carries nothing any more. Each link sees to it that it does
// again, also one that has nothing to say: what the other end says could not come.
func (l *Links) Lost() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.open {
		r.mu.Lock()
		r.tell()
		r.mu.Unlock()
	}
}

// Refuse is that a message of the link with that name was not passed on, for why. Busy:
// it may be passed on later. It reports whether there is such a link.
func (l *Links) Refuse(id wire.LinkID, why error, busy bool) bool {
	l.mu.Lock()
	var r *Conn
	for n, one := range l.open {
		if n.id == id {
			r = one
		}
	}
	l.mu.Unlock()
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !busy || r.stream.opening {
		r.failure = why
		r.stream.over = true
		r.tell()
	}
	return true
}

func unreachable(why error) error { return fmt.Errorf("%w: %w", ErrUnreachable, why) }
