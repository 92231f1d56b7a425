package sip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// Leave ends a call that was made here and is not answered yet, without a word: its
// connection is reset, so that nothing of what is on its way there arrives after what
// comes next. A phone of ours waits a while for whoever has left to call anew. One
// that has been answered meanwhile is not left, which false says.
func (c *Call) Leave() bool {
	err := c.ask(func(context.Context) error {
		if c.incoming || c.state != starting {
			return c.wrongState()
		}
		c.end(0, ReasonCancelled)
		c.left = true
		for x := range c.waits {
			c.quit(x)
		}
		if c.link != nil {
			c.link.reset()
		}
		return nil
	})
	return !errors.Is(err, ErrState) // one that has ended needs no leaving
}

// Update offers the peer new media, or tells it our new address, by a
// re-INVITE from where we are now. It returns when the peer has agreed, after
// which a Changed event waits. An error leaves the call as it was, unless the
// peer says that there is no such call.
func (c *Call) Update(ctx context.Context, lm LocalMedia) error {
	for {
		agreed := make(chan error, 1)
		err := c.ask(func(ctx context.Context) error {
			switch {
			case c.state != up:
				return c.wrongState()
			case c.out != nil:
				return errGlare
			case c.in != nil:
				return errUnsettled
			}
			return c.invite(ctx, lm, agreed)
		})
		if err == nil {
			select {
			case err = <-agreed:
			case <-c.done:
				err = c.outcome(agreed)
			case <-ctx.Done():
				return fmt.Errorf("sip: change call: %w", ctx.Err())
			}
		}
		wait := c.a.cfg.timers.ack
		switch {
		case errors.Is(err, errMoved):
			wait = 0
		case errors.Is(err, errGlare):
			wait = c.a.cfg.timers.glareWait(!c.incoming)
		case !errors.Is(err, errUnsettled):
			return err
		}
		again := time.NewTimer(wait)
		select {
		case <-again.C:
		case <-c.done:
			again.Stop()
			return ErrEnded
		case <-ctx.Done():
			again.Stop()
			return errors.Join(err, ctx.Err())
		}
	}
}

// Retarget tells where the peer is now, if its row says so: the next request
// goes there, and an Update that waits for the peer at its old address begins
// again. For a secure call the peer still has to own the same key.
func (c *Call) Retarget(addr netip.AddrPort) error {
	if !addr.IsValid() || addr.Port() == 0 {
		return fmt.Errorf("sip: retarget call: no address")
	}
	return c.ask(func(ctx context.Context) error {
		if c.state == ended {
			return ErrEnded
		}
		c.d.target.Host, c.d.target.Port, c.d.routes = hostOf(addr.Addr()), int(addr.Port()), nil
		c.dest, c.nat = addr, false
		c.carriedBy(nil)
		if k := c.link; k != nil && k.user != "" && k.alive() {
			c.setPeerAddr(addr)
			return nil // a relayed link goes with the peer
		}
		if k := c.link; k != nil && (k.remote.Addr() != addr.Addr() || k.dialled && k.remote != addr) {
			k.Close() // the peer has left its other end
		}
		if c.setPeerAddr(addr) {
			c.acknowledgeAnew(ctx)
			c.overtake()
		}
		return nil
	})
}

// changeRefused: the peer does not want the call changed. That leaves it as it
// was, unless the peer does not know of it any more (RFC 3261, 12.2.1.2).
func (c *Call) changeRefused(ctx context.Context, i *inviting, res *gosip.Response) {
	switch res.StatusCode {
	case 491:
		i.agreed <- errGlare
	case 422:
		if c.lengthen(res) {
			i.agreed <- errMoved // and so it is sent again at once
			return
		}
		i.agreed <- fmt.Errorf("%w: %d", ErrRefused, res.StatusCode)
	case 408, 481:
		c.end(0, ReasonUnreachable)
		c.bye(ctx, c.d)
		i.agreed <- ErrEnded
	default:
		i.agreed <- fmt.Errorf("%w: %d", ErrRefused, res.StatusCode)
	}
}

// overtake gives up waiting for the answer to a change: the peer is elsewhere,
// where the change is to be sent again. If the answer comes nevertheless, it
// is acknowledged.
func (c *Call) overtake() {
	i := c.out
	if i == nil || i.agreed == nil {
		return
	}
	c.out, i.x.overtaken = nil, true
	if !i.x.sent {
		c.quit(i.x)
	}
	i.agreed <- errMoved
}
