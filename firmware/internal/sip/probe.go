package sip

import (
	"context"
	"fmt"

	gosip "github.com/emiago/sipgo/sip"
)

// Probe asks whether the peer still knows of the established call, by OPTIONS in
// its dialog (RFC 3261, 11 and 12.2): where both ends have agreed upon silence,
// nothing else tells. Whatever the peer answers, it lives, and Probe returns nil;
// but an answer that says that there is no such call ends it (12.2.1.2), and is
// ErrEnded. Without an answer, which is when ctx is done, nothing is there, or the
// transaction has run out after 64*T1, Probe returns an error and leaves the call
// as it is.
func (c *Call) Probe(ctx context.Context) error {
	said := make(chan error, 1)
	var x *exchange
	err := c.ask(func(ctx context.Context) error {
		if c.state != up {
			return c.wrongState()
		}
		x = c.probing(said)
		c.exchange(ctx, x)
		return nil
	})
	if err != nil {
		return err
	}
	select {
	case err = <-said:
	case <-c.done:
		err = c.outcome(said)
	case <-ctx.Done():
		c.box.post(func(context.Context) { c.quit(x) })
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("sip: probe peer: %w", err)
	}
	return nil
}

// probing is the exchange of a probe, whose outcome goes to said.
func (c *Call) probing(said chan<- error) *exchange {
	d := c.d
	tell := func(err error) {
		select {
		case said <- err:
		default: // it has been told already
		}
	}
	return &exchange{
		d: d, asking: true,
		build: func(p path) *gosip.Request { return d.request(gosip.OPTIONS, p, 0) },
		response: func(ctx context.Context, res *gosip.Response) {
			switch {
			case res.IsProvisional():
			case c.state == ended:
				tell(ErrEnded)
			case res.StatusCode == 481, res.StatusCode == 408: // as after a change, see changeRefused
				c.end(0, ReasonUnreachable)
				c.bye(ctx, d)
				tell(ErrEnded)
			default:
				tell(nil)
			}
		},
		failed: func(_ context.Context, err error) {
			if c.state == ended {
				err = ErrEnded
			}
			tell(err)
		},
	}
}
