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
	"io"
	"net"
	"os"
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
	errSilent      = errors.New("the other end is silent")
)

const (
	// linksWaiting is how many links of others may wait for each Accept; more are refused.
	linksWaiting = 8
	// askAfter is after how many repetitions without an answer it is looked whether
	// messages still go their way.
	askAfter = 2
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

// A Conn is one end of a link. It is a net.Conn.
type Conn struct {
	links *Links
	name  linkName
	end   context.CancelFunc // of who sends; nil: nobody does yet. Guarded by links.mu

	read, write *deadline.Deadline

	mu      sync.Mutex
	stream  *stream
	changed chan struct{} // closed, and another in its place, when the stream changes
	failure error         // of who asked for it
	shut    bool          // at this end
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

// run sends what is to be sent until the link is over.
func (r *Conn) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	asked := false
	for {
		r.mu.Lock()
		m, ok, at := r.stream.say(time.Now())
		over, changed, repeats := r.stream.over, r.changed, r.stream.repeats
		if over && !ok {
			r.tell()
		}
		r.mu.Unlock()
		switch {
		case ok:
			r.links.carrier.Post(m)
			continue
		case over:
			return
		}
		// Nobody answers: perhaps nothing gets there.
		if r.links.carrier.Lost() || repeats >= askAfter && !asked {
			r.links.carrier.Doubt(ctx)
			asked = true
		} else if repeats == 0 {
			asked = false
		}
		var alarm <-chan time.Time
		if !at.IsZero() {
			timer.Reset(time.Until(at))
			alarm = timer.C
		}
		select {
		case <-changed:
		case <-alarm:
		case <-ctx.Done():
			r.mu.Lock()
			r.failure, r.stream.over = net.ErrClosed, true
			r.tell()
			r.mu.Unlock()
			return
		}
	}
}

// tell wakes who waits for a change; r.mu is held.
func (r *Conn) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *Conn) took(m wire.LinkMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stream.take(time.Now(), m)
	r.tell()
}

// gone says why the link is over, nil while it is not, and when the other end has
// done with it; r.mu is held.
func (r *Conn) gone() error {
	switch {
	case r.failure != nil:
		return r.failure
	case r.stream.lost:
		return unreachable(errSilent)
	case r.stream.parted == wire.EndUnknown:
		return unreachable(io.ErrUnexpectedEOF)
	case r.stream.parted == wire.EndReset:
		return unreachable(syscall.ECONNRESET)
	case r.stream.parted != 0 && r.stream.parted != wire.EndDone:
		return ErrNotTaken
	}
	return nil
}

// Read implements net.Conn.
func (r *Conn) Read(b []byte) (int, error) {
	for {
		r.mu.Lock()
		if r.shut {
			r.mu.Unlock()
			return 0, net.ErrClosed
		}
		n := r.stream.read(b)
		if n > 0 && r.stream.owe {
			r.tell()
		}
		err, finished, changed := r.gone(), r.stream.finished || r.stream.over, r.changed
		r.mu.Unlock()
		switch {
		case n > 0 || len(b) == 0:
			return n, nil
		case err != nil:
			return 0, err
		case finished:
			return 0, io.EOF
		}
		select {
		case <-changed:
		case <-r.read.Done():
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// Write implements net.Conn. It waits while the other end takes no more.
func (r *Conn) Write(b []byte) (done int, err error) {
	for {
		r.mu.Lock()
		err, over, changed := r.gone(), r.stream.over || r.stream.ending, r.changed
		switch {
		case r.shut:
			err = net.ErrClosed
		case err == nil && over:
			err = io.ErrClosedPipe
		case err == nil:
			if n := r.stream.write(b[done:]); n > 0 {
				done += n
				r.tell()
			}
			changed = r.changed
		}
		r.mu.Unlock()
		if err != nil || done == len(b) {
			return done, err
		}
		select {
		case <-changed:
		case <-r.write.Done():
			return done, os.ErrDeadlineExceeded
		}
	}
}

// Close implements net.Conn. What was written is still sent.
func (r *Conn) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = true
	r.stream.end()
	r.tell()
	return nil
}

// Reset closes the link without sending what was written before.
func (r *Conn) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = true
	r.stream.reset()
	r.tell()
}

// abandon is Close of a link that was never one.
func (r *Conn) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut, r.stream.over, r.stream.bye = true, true, true
	r.tell()
}

// LocalAddr implements net.Conn. It is an Addr.
func (r *Conn) LocalAddr() net.Addr { return Addr{r.links.own} }

// RemoteAddr implements net.Conn. It is an Addr.
func (r *Conn) RemoteAddr() net.Addr { return Addr{r.stream.peer} }

// SetDeadline implements net.Conn.
func (r *Conn) SetDeadline(t time.Time) error {
	r.read.Set(t)
	r.write.Set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (r *Conn) SetReadDeadline(t time.Time) error {
	r.read.Set(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (r *Conn) SetWriteDeadline(t time.Time) error {
	r.write.Set(t)
	return nil
}

func unreachable(why error) error { return fmt.Errorf("%w: %w", ErrUnreachable, why) }
