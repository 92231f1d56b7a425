package sip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// An exchange is one client transaction of a call. Its functions run in the
// call's goroutine.
type exchange struct {
	d        *dialog // says where it goes
	once     bool    // not to be tried again by another connection, unless the one was idle
	parting  bool    // a BYE: needless once the peer has sent its own
	asking   bool    // a probe: needless once the call has ended
	build    func(path) *gosip.Request
	response func(context.Context, *gosip.Response) // each one
	again    func(context.Context, *gosip.Response) // INVITE: a further 2xx (RFC 6026); may be nil
	failed   func(context.Context, error)           // no final response came

	idle      bool           // its connection had been; of the goroutine that transacts
	dest      netip.AddrPort // valid while nothing has come back
	branch    string         // of its Via, which nobody guesses
	transport string         // over which it went, once it has
	sent      bool
	final     bool
	overtaken bool          // nobody waits for it any more
	abort     chan struct{} // closed: stop waiting
}

// exchange finds the way, sends the request and brings back what comes.
func (c *Call) exchange(ctx context.Context, x *exchange) {
	x.abort = make(chan struct{})
	c.open++
	c.waits[x] = struct{}{}
	find := c.wayfinder(x.d)
	c.aside(func() {
		err := c.transact(ctx, x, find)
		if errors.Is(err, errLost) && (!x.once || x.idle) { // the peer has perhaps restarted
			err = c.transact(ctx, x, find)
		}
		if err != nil {
			c.box.post(func(ctx context.Context) {
				if !x.final {
					c.conclude(x)
					x.failed(ctx, err)
				}
			})
		}
	})
}

// conclude notes that x needs no more waiting.
func (c *Call) conclude(x *exchange) {
	if !x.final {
		x.final = true
		delete(c.waits, x)
		c.open--
	}
}

// quit gives x up; it then fails.
func (c *Call) quit(x *exchange) {
	select {
	case <-x.abort:
	default:
		close(x.abort)
	}
}

// gone: an ICMP message says that a packet came to nothing. Whoever knows the ends
// of a call can write one; so once there is a call it has to quote what it is about,
// as those of real hosts and routers do.
func (c *Call) gone(l loss) {
	for x := range c.waits {
		if x.dest == l.to && (c.state == starting || bytes.Contains(l.quoted, []byte(x.branch))) {
			c.quit(x)
		}
	}
}

// transact runs on its own goroutine until the transaction is over.
func (c *Call) transact(ctx context.Context, x *exchange, find func(context.Context) (path, error)) error {
	p, err := c.way(ctx, x, find)
	if err != nil {
		return err
	}
	x.idle = p.idle
	req, err := c.built(ctx, x, p)
	if err != nil {
		return err
	}
	tx, err := c.a.begin(ctx, req, func(res *gosip.Response) {
		if x.again != nil {
			c.box.post(func(ctx context.Context) { x.again(ctx, res) })
		}
	})
	switch {
	case err != nil && p.lost != nil: // by another connection it may go
		if p.link != nil {
			p.link.Close() // TLS that has failed to write does so for ever
		}
		return fmt.Errorf("%w: %w", errLost, err)
	case err != nil:
		return fmt.Errorf("%w: %w", errUnreachable, err)
	}
	defer tx.Terminate()
	if k := p.link; k != nil && k.user != "" { // TCP does so by itself
		defer c.a.tls.watch(k, c.a.cfg.timers.patient)()
	}
	p.transport = req.Transport() // TCP, perhaps, for what is long
	c.box.post(func(context.Context) { x.transport = p.transport })
	return c.await(ctx, x, p, tx)
}

// way finds how x leaves, unless x is given up meanwhile.
func (c *Call) way(ctx context.Context, x *exchange, find func(context.Context) (path, error)) (path, error) {
	finding, found := context.WithCancel(ctx)
	defer found()
	c.aside(func() {
		select {
		case <-x.abort:
			found()
		case <-finding.Done():
		}
	})
	return find(finding)
}

// built is the request of x, which the call's goroutine builds when it is its turn.
func (c *Call) built(ctx context.Context, x *exchange, p path) (*gosip.Request, error) {
	ready := make(chan *gosip.Request, 1) // nil: it is overtaken
	c.box.post(func(context.Context) {
		select {
		case <-x.abort: // it has not left yet, and need not
		default:
			if x.overtaken {
				close(ready)
				return
			}
			x.dest, x.sent = sourceOf(p.dest), true
			req := x.build(p)
			x.branch, _ = req.Via().Params.Get("branch")
			ready <- req
		}
	})
	select {
	case req := <-ready:
		if req == nil {
			return nil, errUnreachable
		}
		return req, nil
	case <-x.abort:
		return nil, errUnreachable
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// await brings what comes back on tx to the call, until tx is over, or it is known
// that nothing more will come.
func (c *Call) await(ctx context.Context, x *exchange, p path, tx *gosip.ClientTx) error {
	waiting, answered := context.WithCancel(ctx)
	defer answered()
	gone := c.watchFor(waiting, p)
	lost, late, silent := p.lost, (<-chan time.Time)(nil), true
	for {
		select {
		case <-lost: // what was read from it before may still be on its way here
			lost, late = nil, time.After(c.a.cfg.timers.late)
		case <-late:
			if silent {
				return errLost
			}
			return errCut
		case <-gone:
			if gone = nil; silent {
				return errAbsent
			}
		case res := <-tx.Responses():
			silent = false
			answered()
			c.box.post(func(ctx context.Context) {
				x.dest = netip.AddrPort{}
				if !res.IsProvisional() {
					c.conclude(x)
				}
				x.response(ctx, res)
			})
		case <-tx.Done():
			return tx.Err()
		case <-x.abort:
			return errUnreachable
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watchFor finds out, until ctx is done, whether nobody on the link has the address
// that p leads to; then what it returns is closed. A connection tells that itself.
func (c *Call) watchFor(ctx context.Context, p path) <-chan struct{} {
	if p.transport != "UDP" {
		return nil
	}
	gone := make(chan struct{})
	c.aside(func() {
		if absent(ctx, sourceOf(p.dest).Addr()) != nil {
			close(gone)
		}
	})
	return gone
}

// begin starts a client transaction, over TCP if req is too long for UDP and
// somebody listens there.
func (a *Agent) begin(ctx context.Context, req *gosip.Request, again func(*gosip.Response)) (*gosip.ClientTx, error) {
	var tx *gosip.ClientTx
	var err error
	if long := req.Transport() == "UDP" && len(req.String()) > longPacket; long {
		bind := req.Laddr
		req.Via().Transport, req.Laddr = "TCP", gosip.Addr{}
		req.SetTransport("TCP")
		if tx, err = a.txl.NewClientTransaction(ctx, req); err != nil {
			req.Via().Transport, req.Laddr = "UDP", bind
			req.SetTransport("UDP")
		}
	}
	if tx == nil {
		if tx, err = a.txl.NewClientTransaction(ctx, req); err != nil {
			return nil, err
		}
	}
	tx.OnRetransmission(again)
	if err := tx.Init(); err != nil {
		tx.Terminate()
		return nil, err
	}
	return tx, nil
}

// wayfinder says how the next request in d leaves. What it returns may be called
// on any goroutine, and may connect.
func (c *Call) wayfinder(d *dialog) func(context.Context) (path, error) {
	if c.key() == [32]byte{} {
		dest, transport := c.plainHop(d)
		carrier := c.stream
		if len(d.routes) > 0 {
			carrier = nil
		}
		return func(context.Context) (path, error) {
			if carrier != nil && carrier.alive() {
				return c.a.streamPath(carrier)
			}
			return c.a.plainPath(dest, transport)
		}
	}
	k, at := c.link, c.place()
	if to, _, ok := hop(d.target); ok {
		at.addr = to
	}
	return func(ctx context.Context) (path, error) {
		if k != nil && k.alive() && k.here() {
			return c.a.linkPath(k, at.addr.Addr()), nil
		}
		k, idle, err := c.a.tls.dial(ctx, at)
		if err != nil {
			if errors.Is(err, errWrongKey) {
				return path{}, err
			}
			return path{}, fmt.Errorf("%w: %w", errUnreachable, err)
		}
		if !c.box.post(func(context.Context) { c.use(k) }) {
			c.a.tls.release(k)
			return path{}, ErrEnded
		}
		p := c.a.linkPath(k, at.addr.Addr())
		p.idle = idle
		return p, nil
	}
}

// failure is what an error of an exchange means to the user.
func failure(err error) (code int, reason string) {
	switch {
	case errors.Is(err, errWrongKey):
		return 404, ReasonWrongPhone
	case errors.Is(err, gosip.ErrTransactionTimeout):
		return 408, ReasonUnreachable
	}
	return 503, ReasonUnreachable
}
