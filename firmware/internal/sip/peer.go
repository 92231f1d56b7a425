package sip

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// Over plain SIP nothing proves a peer. What a message has to show is that it
// knows the dialog's tags and comes from a host to which we would send: tags
// can be read on the way or guessed from a log, and whoever only knows them must
// neither end a call nor lead its sound elsewhere. Ports do not matter, since
// NATs and TCP change them. A secure peer that moves is believed by its key. A plain
// one is when its row says so (Retarget), or when it is known to be no longer where
// it was: it is asked for there, and neither silence is an answer nor what somebody
// says who has not seen the question.

// hosts are those from which the peer's messages may come: where requests go,
// where it was heard, and the proxies between.
func (c *Call) hosts() []netip.Addr {
	out := []netip.Addr{c.dest.Addr()}
	for _, u := range append([]gosip.Uri{c.d.target}, c.d.routes...) {
		if at, _, ok := hop(u); ok {
			out = append(out, at.Addr().Unmap())
		}
	}
	return out
}

// publish makes the present hosts known to the screen, which works outside the
// call's goroutine.
func (c *Call) publish() {
	now := c.hosts()
	if was := c.from.Load(); was == nil || !slices.Equal(*was, now) {
		c.from.Store(&now)
	}
}

// believes reports whether a plain message from that source may be the peer's. It
// may be called on any goroutine. Who sends on a secure connection is a matter of
// its key.
func (c *Call) believes(source netip.AddrPort) bool {
	if c.key() != [32]byte{} {
		return true
	}
	hosts := c.from.Load()
	return hosts != nil && slices.ContainsFunc(*hosts, func(h netip.Addr) bool { return sameHost(h, source.Addr()) })
}

// doubtTime is how long a peer may take to show that it is where it was: four
// retransmissions, and less than whoever asks waits for an answer.
const doubtTime = 2 * time.Second

// doubt decides on a request of the dialog that comes from another host than the
// peer: if the peer is gone from where it was, it is there now, and else somebody
// else speaks for it.
func (c *Call) doubt(ctx context.Context, req *gosip.Request, tx *gosip.ServerTx) {
	if c.state != up && c.state != answered || c.doubting {
		c.disbelieve(req, tx)
		return
	}
	c.doubting = true
	silent := false
	decide := func(ctx context.Context, moved bool) {
		c.doubting = false
		if !moved {
			c.disbelieve(req, tx)
			return
		}
		c.a.log.Info("sip: the peer has moved", "call", c.id.callID, "to", req.Source())
		c.dest, c.nat = sourceOf(req.Source()), false
		c.publish()
		c.requested(ctx, req, tx)
	}
	d := c.d
	x := &exchange{
		d: d, asking: true, once: true,
		build: func(p path) *gosip.Request { return d.request(gosip.OPTIONS, p, 0) },
		response: func(ctx context.Context, res *gosip.Response) {
			if !res.IsProvisional() {
				decide(ctx, res.StatusCode == 481)
			}
		},
		failed: func(ctx context.Context, err error) {
			decide(ctx, !silent && c.state != ended && errors.Is(err, errUnreachable))
		},
	}
	c.exchange(ctx, x)
	c.after(doubtTime, func(context.Context) { silent = true; c.quit(x) })
}

// disbelieve refuses a request that is not the peer's.
func (c *Call) disbelieve(req *gosip.Request, tx *gosip.ServerTx) {
	c.a.log.Info("sip: request from another host than the peer refused", "call", c.id.callID,
		"method", shown(string(req.Method)), "from", req.Source())
	c.a.refuse(tx, req, refuse(403))
}

// sameHost tells addresses of one host. With IPv6 one host has several of a
// network, and answers from whichever the kernel prefers (RFC 6724).
func sameHost(a, b netip.Addr) bool {
	return a.IsValid() && networkOf(a) == networkOf(b)
}

// networkOf is what one host may have of addresses, and so what is counted where
// something is bounded for each: with IPv4 one, with IPv6 a network (RFC 4291,
// 2.5.4).
func networkOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil { // a is no address
		return netip.Prefix{}
	}
	return p
}

// translated reports whether a NAT stands between us and the sender of req, so
// that only its source leads back there (RFC 3581, 1): neither the Contact nor
// the Via that the sender has put on it names that. A Via that does is a proxy's.
func translated(req *gosip.Request) bool {
	source := sourceOf(req.Source()).Addr()
	to, _, ok := hop(req.Contact().Address)
	if !ok || sameHost(to.Addr(), source) {
		return false
	}
	sentBy, err := netip.ParseAddr(strings.Trim(req.Via().Host, "[]"))
	return err == nil && !sameHost(sentBy, source)
}

// heardFrom keeps the way on which the peer was last heard: a secure peer may
// have moved and come back by a new connection, a plain one may be behind a NAT
// that lets through nothing but answers to what it has sent itself.
func (c *Call) heardFrom(req *gosip.Request) {
	if k := c.a.linkOf(req); k != nil && c.key() != [32]byte{} {
		if k != c.link {
			c.a.tls.hold(k)
			c.use(k)
		}
		return
	}
	from := sourceOf(req.Source())
	if !from.IsValid() || c.key() != [32]byte{} {
		return
	}
	switch req.Transport() {
	case "UDP":
		c.dest = from
		c.carriedBy(nil)
	case "TCP":
		c.carriedBy(c.a.tcp.from(from))
	}
	if req.Contact() != nil {
		c.nat = translated(req)
	}
}

// carriedBy makes s the connection on which the next plain requests go. A phone
// behind a NAT can be reached by no other way (RFC 5923, 4).
func (c *Call) carriedBy(s *stream) {
	if s != nil {
		s.calls.Add(1)
	}
	if c.stream != nil {
		c.stream.calls.Add(-1)
	}
	c.stream = s
}

// plainHop is where the next plain request in d goes.
func (c *Call) plainHop(d *dialog) (dest netip.AddrPort, transport string) {
	dest, transport = c.dest, "UDP"
	if c.nat && len(d.routes) == 0 {
		return dest, transport
	}
	if to, t, ok := hop(d.first()); ok {
		dest = to
		if t == "TCP" {
			transport = t
		}
	}
	return dest, transport
}
