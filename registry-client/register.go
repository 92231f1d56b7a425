package registry

import (
	"context"
	"errors"
	"slices"
	"time"

	"flexphone/netlink"
	"flexphone/registry-client/wire"
)

// register sends l with a new sequence number, twice if the first was stale.
func (a *Announcer) register(ctx context.Context, l netlink.Lease) (r wire.Registration, receipt wire.Receipt, session uint64, err error) {
	r = wire.Registration{MAC: a.cfg.MAC, Addrs: l.Addrs(), Ports: a.cfg.Ports, Lifetime: lifetime(l, time.Now())}
	if !a.enrolled {
		r.Token = a.cfg.Token
	}
	if a.cfg.Mapped != nil {
		if at := a.cfg.Mapped(); at.IsValid() && len(r.Addrs) < wire.MaxAddrs && !slices.Contains(r.Addrs, at) {
			r.Addrs = append(slices.Clone(r.Addrs), at)
		}
	}
	if a.cfg.TakesLinks {
		r.Reach = a.reach
	}
	if a.cfg.Peers != nil {
		r.Peers = a.cfg.Peers()
		r.Peers = r.Peers[:min(len(r.Peers), wire.MaxPeers)]
	}
	if a.cfg.Heard != nil {
		r.Heard = a.cfg.Heard()
		r.Heard = r.Heard[:min(len(r.Heard), wire.MaxHeard)]
	}
	for range 2 {
		if r.Sequence, err = a.cfg.Sequence.Next(); err != nil {
			return r, receipt, 0, err
		}
		if receipt, err = a.cfg.Registrar.Register(ctx, r); err == nil {
			a.enrolled = true
			// Right after an answer this costs no datagram.
			session, err = a.cfg.Link.Alive(ctx)
			return r, receipt, session, err
		}
		var stale *StaleError
		if !errors.As(err, &stale) {
			return r, receipt, 0, err
		}
		if err := a.cfg.Sequence.Above(stale.Sequence); err != nil {
			return r, receipt, 0, err
		}
	}
	return r, receipt, 0, err
}

// lifetime returns how long the row shall live: as long as the lease, in whole
// seconds.
func lifetime(l netlink.Lease, now time.Time) time.Duration {
	if l.Expiry.IsZero() {
		return endless
	}
	d := l.Expiry.Sub(now).Truncate(time.Second)
	return min(max(d, wire.MinLifetime), longest)
}

// Release withdraws the address at the server while it can still be used, and
// keeps quiet until the next Bound event. It cuts a running try short. main
// calls it at shutdown, before the lease is given back.
func (a *Announcer) Release(ctx context.Context) error {
	a.mu.Lock()
	a.silent = true
	a.version++
	if a.trying != nil {
		a.trying()
	}
	a.mu.Unlock()
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-a.turn }()
	var err error
	for range 2 { // once more after a stale sequence number
		var n uint64
		if n, err = a.cfg.Sequence.Next(); err != nil {
			return err
		}
		err = a.cfg.Registrar.Release(ctx, a.cfg.MAC, n)
		if err == nil {
			a.cfg.Report(Outcome{Kind: Released, Registration: wire.Registration{MAC: a.cfg.MAC, Sequence: n}})
			return nil
		}
		var stale *StaleError
		if !errors.As(err, &stale) {
			return err
		}
		if err := a.cfg.Sequence.Above(stale.Sequence); err != nil {
			return err
		}
	}
	return err
}
