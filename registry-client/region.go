package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"flexphone/registry-client/wire"
)

const (
	// regionsMost is with how many other regions' servers a client keeps a session.
	regionsMost = 4
	// learnedMost is of how many rows it remembers in which region they are.
	learnedMost = 256
	// moveMost bounds a try to announce the phone in another region: a part of what an
	// announcement has (attemptMost), since it may have to stay where it is.
	moveMost = 3 * time.Second
)

// regions are the storing servers that a client's own one has referred it to. The
// client's mu guards it.
type regions struct {
	open    []*region                      // the one that was asked last stands last
	learned map[wire.Query]*ElsewhereError // where a row was found
}

// A region is a session with another region's server.
type region struct {
	to     wire.Referral
	client *Client
}

func (r *regions) clients() (all []*Client) {
	for _, o := range r.open {
		all = append(all, o.client)
	}
	return all
}

// A referred pins the one key that a referral names.
type referred wire.Fingerprint

// Check implements Pins.
func (r referred) Check(server string, key wire.Fingerprint) error {
	if key != wire.Fingerprint(r) {
		return fmt.Errorf("registry: check server key: %s shows %v, and this region's server says it has %v: %w", server, key, wire.Fingerprint(r), ErrServerKey)
	}
	return nil
}

// Resolve implements Server. A referral to another region's server is followed once,
// and remembered.
func (c *Client) Resolve(ctx context.Context, q wire.Query) (row wire.Row, err error) {
	err = c.where(ctx, q, func(at *Client, ticket wire.Ticket) error {
		row, err = at.resolve(ctx, q, ticket)
		return err
	})
	return row, err
}

// Observe implements Server. It outlives lost sessions and servers that are
// away for a while: it then asks again until the server answers, and tells
// meanwhile that it does not know. It returns ctx's error once ctx
// is done, and an error that wraps ErrUnknown, ErrRefused or ErrServerKey when
// there is nothing (any more) to observe.
func (c *Client) Observe(ctx context.Context, q wire.Query, told func(row wire.Row, current bool)) error {
	return c.where(ctx, q, func(at *Client, ticket wire.Ticket) error { return at.observe(ctx, q, ticket, told) })
}

// where asks the server that keeps the row of q: that of the region where it was found
// before, or this client's own and then the one that this refers to.
func (c *Client) where(ctx context.Context, q wire.Query, ask func(*Client, wire.Ticket) error) error {
	c.mu.Lock()
	learned, known := c.regions.learned[q]
	c.mu.Unlock()
	if known {
		at, err := c.regionOf(learned.To)
		if err == nil {
			err = ask(at, learned.Ticket)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		// It may be another's now, and this region's server knows.
		c.mu.Lock()
		delete(c.regions.learned, q)
		c.mu.Unlock()
	}
	err := ask(c, "")
	var away *ElsewhereError
	if !errors.As(err, &away) {
		return err
	}
	at, err := c.regionOf(away.To)
	if err != nil {
		return err
	}
	c.mu.Lock()
	if c.regions.learned == nil {
		c.regions.learned = map[wire.Query]*ElsewhereError{}
	}
	for old := range c.regions.learned {
		if len(c.regions.learned) < learnedMost {
			break
		}
		delete(c.regions.learned, old) // any
	}
	c.regions.learned[q] = away
	c.mu.Unlock()
	return ask(at, away.Ticket) // who refers further is not followed
}

// regionOf returns the client of a server that was referred to. Its session is kept for
// whoever asks next; the one that was used least lately gives way.
func (c *Client) regionOf(to wire.Referral) (*Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.regions.open, func(r *region) bool { return r.to == to }); i >= 0 {
		r := c.regions.open[i]
		c.regions.open = append(slices.Delete(c.regions.open, i, i+1), r)
		return r.client, nil
	}
	if c.closed {
		return nil, unreachable(errSessionLost)
	}
	cfg := c.cfg
	cfg.Server, cfg.Pins = to.Server, referred(to.Key)
	other, err := NewClient(cfg)
	if err != nil {
		return nil, err
	}
	other.locals = slices.Clone(c.locals)
	if len(c.regions.open) == regionsMost {
		old := c.regions.open[0].client
		c.regions.open = c.regions.open[1:]
		c.watchers.Go(func() { _ = old.Close() }) // always nil
	}
	c.regions.open = append(c.regions.open, &region{to, other})
	return other, nil
}

// Register implements Server. A phone that is told to announce itself at another
// region's server does so, releases itself here once that has its row, and stays there
// until other servers are set. Where it cannot, it stays here.
func (c *Client) Register(ctx context.Context, r wire.Registration) (wire.Receipt, error) {
	receipt, err := c.register(ctx, r)
	to := receipt.Elsewhere
	var away *ElsewhereError
	if errors.As(err, &away) {
		to = away.To
	}
	if to == (wire.Referral{}) {
		return receipt, err
	}
	there, moveErr := c.moveTo(ctx, to, r)
	switch {
	case moveErr == nil && err == nil:
		if err := c.Release(ctx, r.MAC, r.Sequence+1); err != nil {
			c.log.Warn("row not released in the region that the phone has left", "server", c.Server(), "err", err)
		}
		fallthrough
	case moveErr == nil:
		c.settle(to)
		c.log.Info("announced in another region, as its server wants it", "server", to.Server)
		return there, nil
	case err == nil:
		c.log.Warn("staying with this region's server, which names another", "server", to.Server, "err", moveErr)
		receipt.Elsewhere = wire.Referral{}
		return receipt, nil
	}
	return receipt, fmt.Errorf("registry: register %v at %s, which keeps its row: %w", r.MAC, to.Server, moveErr)
}

// moveTo makes the same announcement at another region's server, whose key is pinned by
// the word of this one.
func (c *Client) moveTo(ctx context.Context, to wire.Referral, r wire.Registration) (wire.Receipt, error) {
	if err := c.cfg.Pins.Check(to.Server, to.Key); err != nil {
		return wire.Receipt{}, err
	}
	other, err := c.regionOf(to)
	if err != nil {
		return wire.Receipt{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, moveMost)
	defer cancel()
	receipt, err := other.register(ctx, r)
	if err == nil && receipt.Elsewhere != (wire.Referral{}) {
		if err := other.Release(ctx, r.MAC, r.Sequence+1); err != nil {
			c.log.Debug("row not released where it does not belong", "err", err)
		}
		err = fmt.Errorf("%s names %s in its turn: %w", to.Server, receipt.Elsewhere.Server, ErrRefused)
	}
	var away *ElsewhereError
	if errors.As(err, &away) {
		err = fmt.Errorf("%s names %s in its turn: %w", to.Server, away.To.Server, ErrRefused)
	}
	return receipt, err
}

// settle makes another region's server the first to be asked, before those that were
// set, and its session the client's own.
func (c *Client) settle(to wire.Referral) {
	c.mu.Lock()
	old := c.session
	c.groups = append([][]string{{to.Server}}, c.named...)
	c.server, c.session = to.Server, nil
	var asked *Client // has done its part
	if i := slices.IndexFunc(c.regions.open, func(r *region) bool { return r.to == to }); i >= 0 {
		asked = c.regions.open[i].client
		c.regions.open = slices.Delete(c.regions.open, i, i+1)
	}
	c.mu.Unlock()
	if asked != nil {
		_ = asked.Close() // always nil
	}
	if old != nil {
		old.close()
	}
}
