package sip

import (
	"context"
	"errors"
	"fmt"

	gosip "github.com/emiago/sipgo/sip"
)

// maxForks bounds how many phones may answer one INVITE.
const maxForks = 16

// inviting is an INVITE of ours until its final response, and the ACK after.
type inviting struct {
	x         *exchange
	req       *gosip.Request
	lm        LocalMedia
	offer     []byte
	tentative bool                      // a provisional response has come: it may be cancelled
	unwanted  bool                      // the user has hung up
	cancelled bool                      // the CANCEL has been sent
	done      bool                      // the final response has come
	early     map[string]Media          // described before the final response, by the tag of whom it is of
	firm      map[string]bool           // of those, which are answers and stay (RFC 3262, 5)
	rseqs     map[string]uint32         // of the last reliable response, likewise by tag
	ack       *gosip.Request            // of its 2xx; nil: it has had no way
	seeks     int                       // how often one was looked for
	others    map[string]*gosip.Request // ACKs to further phones that have answered, by their tag
	agreed    chan error                // of Update; nil for the first INVITE
	refreshes bool                      // the session, and changes nothing that anybody waits for
}

func newOutgoing(a *Agent, t Target, lm LocalMedia) *Call {
	d := &dialog{callID: token(), localTag: token(), localName: a.displayName()}
	c := newCall(a, dialogID{d.callID, d.localTag})
	c.d, c.target, c.local, c.dest = d, t, lm, t.Addr
	c.settled.Store(true)
	c.peer = Peer{User: t.User, Addr: t.Addr, Called: true}
	if t.Pin != [32]byte{} {
		c.bind(t.Pin)
	}
	at := gosip.Uri{Scheme: "sip", User: t.User, Host: hostOf(t.Addr.Addr()), Port: int(t.Addr.Port())}
	d.target = at
	d.remote = gosip.Uri{Scheme: "sip", User: t.User, Host: at.Host}
	if c.peer.Secure {
		d.target.UriParams.Add("transport", "tls")
	}
	c.begin = c.call
	c.publish()
	return c
}

// call sends the first INVITE.
func (c *Call) call(ctx context.Context) {
	if err := c.inviteFirst(ctx); err != nil {
		c.a.log.Warn("sip: no offer", "err", err)
		c.end(0, ReasonFailed)
	}
}

// inviteFirst sends an INVITE that is to begin the call, and gives it up if nobody
// says anything to it.
func (c *Call) inviteFirst(ctx context.Context) error {
	if err := c.invite(ctx, c.local, nil); err != nil {
		return err
	}
	i := c.out
	c.after(c.a.cfg.timers.silence, func(ctx context.Context) {
		if c.state == starting && c.out == i && !i.tentative {
			c.end(408, ReasonUnreachable)
			c.cancel(ctx)
		}
	})
	return nil
}

// invite sends an INVITE with lm: the first one, or one that changes the call.
func (c *Call) invite(ctx context.Context, lm LocalMedia, agreed chan error) error {
	offer, err := lm.Offer()
	if err != nil {
		return err
	}
	i := &inviting{lm: lm, offer: offer, agreed: agreed}
	i.x = &exchange{
		d: c.d, once: agreed == nil, // whoever has just been connected with rings, or does not
		build: func(p path) *gosip.Request {
			if c.d.local.Host == "" {
				c.d.local = gosip.Uri{Scheme: "sip", User: c.a.cfg.User, Host: hostOf(p.local.Addr())}
			}
			i.req = c.d.request(gosip.INVITE, p, 0)
			for _, h := range c.session.expiry() {
				i.req.AppendHeader(h)
			}
			setSDP(i.req, offer)
			return i.req.Clone() // sipgo may write into what it sends
		},
		response: func(ctx context.Context, res *gosip.Response) { c.inviteResponse(ctx, i, res) },
		again:    func(ctx context.Context, res *gosip.Response) { c.inviteAgain(ctx, i, res) },
		failed:   func(ctx context.Context, err error) { c.inviteFailed(ctx, i, err) },
	}
	c.out = i
	c.exchange(ctx, i.x)
	return nil
}

func (c *Call) inviteResponse(ctx context.Context, i *inviting, res *gosip.Response) {
	if i.done || c.left { // the peer gives the call that comes next the place of this one
		return
	}
	if res.IsProvisional() {
		i.tentative = true
		if i.unwanted {
			c.cancel(ctx)
			return
		}
		if i.agreed == nil && c.state == starting && res.StatusCode > 100 {
			c.d.learn(res)
		}
		return
	}
	i.done = true
	if i.x.overtaken {
		if res.IsSuccess() {
			i.ack, _ = c.acknowledge(ctx, c.d, i)
		}
		return
	}
	c.out = nil
	switch {
	case res.IsSuccess():
		c.inviteTaken(ctx, i, res)
	case i.agreed != nil:
		c.changeRefused(ctx, i, res)
	case !c.redirected(ctx, res):
		c.end(res.StatusCode, ReasonOf(res.StatusCode))
	}
}

// answerIn is what was agreed by a 2xx to i. A 2xx need not repeat what the
// same phone has described before, or may say something that we cannot use: the
// description that we have is the answer then (RFC 3261, 13.2.1).
func (i *inviting) answerIn(res *gosip.Response) (Media, error) {
	if tag := tagOf(res); i.firm[tag] {
		return i.early[tag], nil
	}
	m, err := i.lm.Take(descriptionIn(res), hostOfSender(res))
	if early, known := i.early[tagOf(res)]; err != nil && known {
		return early, nil
	}
	return m, err
}

func tagOf(res *gosip.Response) string {
	if to := res.To(); to != nil {
		tag, _ := to.Params.Get("tag")
		return tag
	}
	return ""
}

// inviteTaken: a 2xx, which is always acknowledged, wanted or not.
func (c *Call) inviteTaken(ctx context.Context, i *inviting, res *gosip.Response) {
	c.d.learn(res)
	var lost <-chan struct{}
	i.ack, lost = c.acknowledge(ctx, c.d, i)
	c.confirmed = i
	c.assure(ctx, i, lost, c.a.cfg.timers.t1)
	c.after(c.a.cfg.timers.giveUp(), func(context.Context) {
		if c.confirmed == i {
			c.confirmed = nil
		}
	})
	if c.state == ended { // it crossed our CANCEL
		c.bye(ctx, c.d)
		return
	}
	m, err := i.answerIn(res)
	if err != nil {
		c.a.log.Debug("sip: answer not usable", "call", c.id.callID, "err", err)
		if i.agreed != nil {
			i.agreed <- fmt.Errorf("%w: %w", ErrRefused, err)
			return
		}
		c.end(488, ReasonNoCodec)
		c.bye(ctx, c.d)
		return
	}
	was := c.media
	c.local, c.media = i.lm, m
	c.takeExpiry(res)
	if to, _, ok := hop(c.d.target); ok {
		c.setPeerAddr(to)
	}
	if i.agreed != nil {
		if !i.refreshes || !m.Equal(was) {
			c.events.push(Event{Kind: Changed, Media: m})
		}
		i.agreed <- nil
		return
	}
	c.state = up
	if c.target.Pin != [32]byte{} { // it was called by its key, and is there
		c.Vouch()
	}
	c.events.push(Event{Kind: Established, Media: m})
}

func (c *Call) inviteFailed(ctx context.Context, i *inviting, err error) {
	i.done = true
	if i.x.overtaken {
		return
	}
	c.out = nil
	if i.agreed != nil {
		i.agreed <- fmt.Errorf("sip: change call: %w", err)
		return
	}
	switch {
	case errors.Is(err, errCut) && c.pin.Load() != nil:
		c.end(0, ReasonCut)
	case !c.tryNext(ctx):
		c.end(failure(err))
	}
}

// cancel withdraws the first INVITE as soon as that is allowed, which is when
// anything has come back (RFC 3261, 9.1).
func (c *Call) cancel(ctx context.Context) {
	i := c.out
	if i == nil || i.done || i.cancelled {
		return
	}
	if !i.x.sent {
		c.quit(i.x)
		return
	}
	if !i.tentative {
		if !i.unwanted { // whoever answers now has half a minute to do so
			i.unwanted = true
			c.after(c.a.cfg.timers.giveUp(), func(context.Context) { c.quit(i.x) })
		}
		return
	}
	i.unwanted, i.cancelled = true, true
	c.after(c.a.cfg.timers.giveUp(), func(context.Context) { c.quit(i.x) })
	req := cancelOf(i.req)
	if t := i.x.transport; t != req.Transport() { // it was too long for UDP
		req.Via().Transport, req.Laddr = t, gosip.Addr{}
		req.SetTransport(t)
	}
	c.open++
	c.aside(func() {
		err := c.a.cancel(ctx, req)
		c.box.post(func(context.Context) {
			c.open--
			if err != nil {
				c.a.log.Debug("sip: CANCEL not confirmed", "call", c.id.callID, "err", err)
			}
		})
	})
}

// cancel sends a CANCEL and waits for its response.
func (a *Agent) cancel(ctx context.Context, req *gosip.Request) error {
	tx, err := a.txl.Request(ctx, req)
	if err != nil {
		return err
	}
	defer tx.Terminate()
	for {
		select {
		case res := <-tx.Responses():
			if !res.IsProvisional() {
				return nil
			}
		case <-tx.Done():
			return tx.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
