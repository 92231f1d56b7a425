package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/pion/transport/v5/deadline"
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
)

// Errors of relayed links.
var (
	// ErrNoRelay: the server passes nothing on, or not to that phone.
	ErrNoRelay = errors.New("the storing server does not pass it on")
	// ErrNotTaken: the other phone does not take the link.
	ErrNotTaken = errors.New("the phone takes no relayed link")
	errSilent   = errors.New("the other phone is silent")
)

const (
	// linksWaiting is how many links of others may wait for Accept; more are refused.
	linksWaiting = 8
	// askAfter is after how many repetitions without an answer it is looked whether
	// the server still knows the session.
	askAfter = 2
)

// A PhoneAddr is the end of a relayed link: a phone, wherever it is.
type PhoneAddr struct{ MAC wire.MAC }

// Network implements net.Addr.
func (PhoneAddr) Network() string { return "relay" }

// String implements net.Addr.
func (a PhoneAddr) String() string { return a.MAC.String() }

// links are the relayed links of a client.
type links struct {
	client   *Client
	ctx      context.Context // of those who send; it ends with the client
	end      context.CancelFunc
	incoming chan *relayed

	mu     sync.Mutex
	open   map[linkName]*relayed
	closed bool
	both   sync.WaitGroup
}

type linkName struct {
	peer wire.MAC
	id   wire.LinkID
}

func newLinks(c *Client) *links {
	l := &links{client: c, incoming: make(chan *relayed, linksWaiting), open: map[linkName]*relayed{}}
	l.ctx, l.end = context.WithCancel(context.Background())
	return l
}

// close ends all links, without a word.
func (l *links) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.end()
	l.both.Wait()
}

// A relayed is one end of a relayed link. It is a net.Conn.
type relayed struct {
	links *links
	own   wire.MAC

	read, write *deadline.Deadline

	mu      sync.Mutex
	stream  *stream
	changed chan struct{} // closed, and another in its place, when the stream changes
	failure error         // of who asked for it
	shut    bool          // at this end
}

// begin makes an end of a link. l.mu is held.
func (l *links) begin(n linkName, opening bool) *relayed {
	r := &relayed{
		links: l, own: l.client.cfg.Identity.MAC, read: deadline.New(), write: deadline.New(),
		stream: newStream(n.peer, n.id, opening), changed: make(chan struct{}),
	}
	l.open[n] = r
	l.both.Go(func() {
		r.run(l.ctx)
		l.mu.Lock()
		delete(l.open, n)
		l.mu.Unlock()
	})
	return r
}

// DialRelayed opens a link to a phone through the storing servers, which see who
// talks to whom, and its bytes. It survives changes of the addresses of both ends,
// and ends when the other end has said nothing for 20 s though it ought to. An error
// wraps ErrNoRelay, ErrNotTaken or ErrUnreachable.
func (c *Client) DialRelayed(ctx context.Context, to wire.MAC) (net.Conn, error) {
	if !to.Valid() || to == c.cfg.Identity.MAC {
		return nil, fmt.Errorf("registry: open link to %v: %w", to, wire.ErrInvalid)
	}
	n := linkName{peer: to}
	rand.Read(n.id[:]) // never fails
	l := c.links
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, fmt.Errorf("registry: open link to %v: %w", to, unreachable(net.ErrClosed))
	}
	r := l.begin(n, true)
	l.mu.Unlock()
	for {
		r.mu.Lock()
		opening, err, changed := r.stream.opening, r.gone(), r.changed
		r.mu.Unlock()
		switch {
		case err != nil:
			return nil, fmt.Errorf("registry: open link to %v: %w", to, err)
		case !opening:
			return r, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			r.abandon()
			return nil, fmt.Errorf("registry: open link to %v: %w", to, unreachable(ctx.Err()))
		}
	}
}

// AcceptRelayed waits for the next link that another phone opens: which one it is
// says its remote address, a PhoneAddr, as the server does.
func (c *Client) AcceptRelayed(ctx context.Context) (net.Conn, error) {
	select {
	case r := <-c.links.incoming:
		return r, nil
	case <-c.links.ctx.Done():
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// take takes a message of the server, and reports whether it is a link's. It must not
// keep m's bytes.
func (l *links) take(m message.Message) bool {
	switch {
	case m.Code == codes.POST && len(wire.Strings(m, message.URIPath)) == 1 && wire.Strings(m, message.URIPath)[0] == wire.PathLink:
		msg, err := wire.DecodeLink(m.Payload)
		if err != nil {
			return false
		}
		l.came(msg)
		return true
	case m.Code >= codes.BadRequest && len(m.Token) == len(wire.LinkID{}):
		return l.refused(wire.LinkID(m.Token), m)
	}
	return false
}

// came gives a message to its link, or to a new one.
func (l *links) came(m wire.LinkMessage) {
	n := linkName{m.Peer, m.Link}
	l.mu.Lock()
	r := l.open[n]
	why := wire.EndUnknown
	if r == nil && m.Kind == wire.LinkOpen && !l.closed {
		if why = wire.EndRefused; len(l.incoming) < cap(l.incoming) { // this alone fills it
			r = l.begin(n, false)
			l.incoming <- r
		}
	}
	l.mu.Unlock()
	if r != nil {
		r.took(m)
		return
	}
	if m.Kind != wire.LinkClose || m.Ending == wire.EndDone {
		l.post(wire.LinkMessage{Peer: m.Peer, Link: m.Link, Kind: wire.LinkClose, Ending: why})
	}
}

// refused takes the server's word that it has not passed on a message of a link. What
// is only too much is sent again later.
func (l *links) refused(id wire.LinkID, m message.Message) bool {
	l.mu.Lock()
	var r *relayed
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
	switch {
	case m.Code == wire.CodeTooManyRequests && !r.stream.opening:
	case m.Code == codes.NotFound && !r.stream.opening: // it may come back
	default:
		r.failure = fmt.Errorf("%w: %w", ErrNoRelay, refusal(m))
		r.stream.over = true
		r.tell()
	}
	return true
}

// post sends a message in the present session, if there is one.
func (l *links) post(m wire.LinkMessage) {
	body, err := wire.EncodeLink(m)
	if err != nil {
		return
	}
	l.client.mu.Lock()
	s := l.client.session
	l.client.mu.Unlock()
	if s == nil || s.lost() {
		return
	}
	s.post(request{code: codes.POST, payload: body, options: append(wire.PathOptions([]string{wire.PathLink}),
		wire.UintOption(message.ContentFormat, wire.FormatCBOR), wire.UintOption(message.NoResponse, 2))}, m.Link[:])
}

// run sends what is to be sent until the link is over.
func (r *relayed) run(ctx context.Context) {
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
			r.links.post(m)
			continue
		case over:
			return
		}
		// Nobody answers: perhaps the server has lost us.
		if r.links.client.without() || repeats >= askAfter && !asked {
			_, _ = r.links.client.Alive(ctx) // then it goes on without
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

// without reports whether there is no session.
func (c *Client) without() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closed && (c.session == nil || c.session.lost())
}

// tell wakes who waits for a change; r.mu is held.
func (r *relayed) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *relayed) took(m wire.LinkMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stream.take(time.Now(), m)
	r.tell()
}

// gone says why the link is over, nil while it is not, and when the other end has
// done with it; r.mu is held.
func (r *relayed) gone() error {
	switch {
	case r.failure != nil:
		return r.failure
	case r.stream.lost:
		return unreachable(errSilent)
	case r.stream.parted == wire.EndUnknown:
		return unreachable(io.ErrUnexpectedEOF)
	case r.stream.parted != 0 && r.stream.parted != wire.EndDone:
		return ErrNotTaken
	}
	return nil
}

// Read implements net.Conn.
func (r *relayed) Read(b []byte) (int, error) {
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
func (r *relayed) Write(b []byte) (done int, err error) {
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
func (r *relayed) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = true
	r.stream.end()
	r.tell()
	return nil
}

// abandon is Close of a link that was never one.
func (r *relayed) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut, r.stream.over, r.stream.bye = true, true, true
	r.tell()
}

// LocalAddr implements net.Conn. It is a PhoneAddr.
func (r *relayed) LocalAddr() net.Addr { return PhoneAddr{r.own} }

// RemoteAddr implements net.Conn. It is a PhoneAddr.
func (r *relayed) RemoteAddr() net.Addr { return PhoneAddr{r.stream.peer} }

// SetDeadline implements net.Conn.
func (r *relayed) SetDeadline(t time.Time) error {
	r.read.Set(t)
	r.write.Set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (r *relayed) SetReadDeadline(t time.Time) error {
	r.read.Set(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (r *relayed) SetWriteDeadline(t time.Time) error {
	r.write.Set(t)
	return nil
}
