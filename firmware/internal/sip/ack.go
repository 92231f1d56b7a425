package sip

import (
	"context"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// acknowledge sends the ACK of a 2xx, which goes its own way (RFC 3261, 13.2.2.4).
// lost is closed when the connection is over which it went.
func (c *Call) acknowledge(ctx context.Context, d *dialog, i *inviting) (ack *gosip.Request, lost <-chan struct{}) {
	p, err := c.wayfinder(d)(ctx)
	if err != nil {
		c.a.log.Debug("sip: no way for ACK", "call", c.id.callID, "err", err)
		return nil, nil
	}
	return c.sendACK(d, i, p)
}

// sendACK sends an ACK by p; nil: it has not left.
func (c *Call) sendACK(d *dialog, i *inviting, p path) (ack *gosip.Request, lost <-chan struct{}) {
	ack = d.request(gosip.ACK, p, i.req.CSeq().SeqNo)
	if c.resend(ack) {
		return ack, p.lost
	}
	if p.link != nil {
		p.link.Close() // TLS that has failed to write does so for ever
	}
	return nil, nil
}

// acknowledgeAnew sends the ACK of our last INVITE once more, to where the peer is now.
// It may have missed the first, and repeats its 2xx over a connection that is dead, until
// it takes the call for lost (RFC 3261, 13.3.1.4).
func (c *Call) acknowledgeAnew(ctx context.Context) {
	if i := c.confirmed; i != nil {
		c.seekPeer(ctx, i, c.a.cfg.timers.t1)
	}
}

// seekPeer finds a way for the ACK of i, and looks for one again after wait, as long as
// there is none.
func (c *Call) seekPeer(ctx context.Context, i *inviting, wait time.Duration) {
	i.ack = nil
	i.seeks++
	seek, find := i.seeks, c.wayfinder(c.d)
	c.aside(func() {
		p, err := find(ctx)
		c.box.post(func(ctx context.Context) {
			if c.confirmed != i || i.seeks != seek { // a later one knows better where the peer is
				return
			}
			var lost <-chan struct{}
			if err != nil {
				c.a.log.Debug("sip: no way for ACK", "call", c.id.callID, "err", err)
			} else {
				i.ack, lost = c.sendACK(c.d, i, p)
			}
			c.assure(ctx, i, lost, wait)
		})
	})
}

// assure has the ACK of i sent anew if it has had no way, for which it waits, or if the
// connection is lost by which it went: the peer has perhaps not had it, and no other way
// to repeat its 2xx. A network that has just come back is a reason for both.
func (c *Call) assure(ctx context.Context, i *inviting, lost <-chan struct{}, wait time.Duration) {
	seek := i.seeks
	anew := func(wait time.Duration) func(context.Context) {
		return func(ctx context.Context) {
			if c.confirmed == i && i.seeks == seek && c.state == up {
				c.seekPeer(ctx, i, wait)
			}
		}
	}
	switch {
	case i.ack == nil:
		c.after(wait, anew(min(2*wait, c.a.cfg.timers.t2)))
	case lost != nil:
		ctx, enough := context.WithTimeout(ctx, c.a.cfg.timers.giveUp())
		c.aside(func() {
			defer enough()
			select {
			case <-lost:
				c.box.post(anew(c.a.cfg.timers.t1))
			case <-ctx.Done():
			}
		})
	}
}

// resend reports whether ack has left once more.
func (c *Call) resend(ack *gosip.Request) bool {
	if ack == nil {
		return false
	}
	if err := c.a.tp.WriteMsg(ack); err != nil {
		c.a.log.Debug("sip: ACK not sent", "call", c.id.callID, "err", err)
		return false
	}
	return true
}

// inviteAgain: a 2xx came once more. Either our ACK was lost, or had no way, or a second
// phone has answered, with which we do not want to talk.
func (c *Call) inviteAgain(ctx context.Context, i *inviting, res *gosip.Response) {
	to := res.To()
	if to == nil || c.left || !i.done { // it has overtaken the first, and comes again if it has to
		return
	}
	tag, _ := to.Params.Get("tag")
	if tag == c.d.remoteTag {
		switch {
		case c.resend(i.ack):
		case c.confirmed == i:
			c.acknowledgeAnew(ctx)
		default: // of a change that was overtaken
			i.ack, _ = c.acknowledge(ctx, c.d, i)
		}
		return
	}
	if ack := i.others[tag]; c.resend(ack) {
		return
	}
	_, known := i.others[tag]
	if !known && len(i.others) >= maxForks {
		return
	}
	other := *c.d
	other.recordRouteCompleted = false
	other.learn(res)
	if i.others == nil {
		i.others = make(map[string]*gosip.Request)
	}
	i.others[tag], _ = c.acknowledge(ctx, &other, i)
	if !known {
		c.bye(ctx, &other)
	}
}
