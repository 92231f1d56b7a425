package directory

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/sip"
	"flexphone/registry-client/wire"
)

const (
	// watchTime is how long a phone is watched after a call with it: as long as
	// package sip keeps the connection.
	watchTime = 2 * time.Minute
	// mostWatched is how many, likewise.
	mostWatched = 8
)

// A watched phone is one whose row the storing server tells of.
type watched struct {
	until time.Time
	row   wire.Row // the present one; zero: not known now
}

// Run keeps what is known of other phones on the disk, and watches those that were
// talked to a while ago, until ctx is done or the disk fails. It may be called again.
func (d *Directory) Run(ctx context.Context, works func()) error {
	ctx, end := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer end()
	watching.Go(func() {
		for {
			select {
			case m := <-d.watch:
				if d.begin(m) {
					watching.Go(func() { d.watchRow(ctx, m) })
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return d.book.keep(ctx, works)
}

// linger has the phone watched for a while. It begins with the call, so that who calls
// again at once need not wait for the first row.
func (d *Directory) linger(m wire.MAC) {
	select {
	case d.watch <- m:
	default: // too many; its next call takes a round trip more
	}
}

// begin makes room for one more, or watches one for longer that is watched already.
func (d *Directory) begin(m wire.MAC) (more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	until := time.Now().Add(watchTime)
	if w := d.watched[m]; w != nil {
		w.until = until
		return false
	}
	if len(d.watched) >= mostWatched {
		return false
	}
	d.watched[m] = &watched{until: until}
	return true
}

// watchRow watches one phone for as long as that is wished.
func (d *Directory) watchRow(ctx context.Context, m wire.MAC) {
	watching, end := context.WithCancel(ctx)
	var observer sync.WaitGroup
	observer.Go(func() {
		// It heals itself, and ends by itself where there is nothing to watch.
		_ = d.server.Observe(watching, wire.Query{MAC: m}, func(row wire.Row, current bool) {
			d.mu.Lock()
			defer d.mu.Unlock()
			if w := d.watched[m]; w != nil && current {
				w.row = row
			} else if w != nil {
				w.row = wire.Row{}
			}
		})
	})
	for left := watchTime; left > 0 && ctx.Err() == nil; {
		wait := time.NewTimer(left)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
		d.mu.Lock()
		if slices.ContainsFunc(d.followed, func(f *followed) bool { return f.mac == m }) {
			d.watched[m].until = time.Now().Add(watchTime)
		}
		if left = time.Until(d.watched[m].until); left <= 0 || ctx.Err() != nil {
			delete(d.watched, m)
		}
		d.mu.Unlock()
	}
	end()
	observer.Wait()
}

// Known implements phone.Book.
func (d *Directory) Known(to phone.Destination) (p phone.Peer, current bool) {
	a, known := d.book.find(to)
	if !known {
		return phone.Peer{}, false
	}
	p = peerOf(a)
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.watched[a.MAC]
	if w == nil || w.row.State != wire.Online || len(w.row.Addrs) == 0 || offered(w.row) != a.now() || Name(w.row.Number, w.row.MAC) != a.Name {
		return p, false
	}
	if !slices.Contains(w.row.Addrs, p.Target.Addr.Addr()) || p.Target.Addr.Port() != w.row.Ports.SIPS { // it has moved since
		p.Target.Addr = netip.AddrPortFrom(w.row.Addrs[0], w.row.Ports.SIPS)
	}
	p.Target.Way = wayOf(w.row)
	return p, true
}

// Acquainted reports whether a phone with that key was called from here, or has called
// and was proved.
func (d *Directory) Acquainted(key [32]byte) bool { return d.book.knows(key) }

// Met implements phone.Book.
func (d *Directory) Met(name string, with sip.Peer) {
	if m, err := wire.ParseMAC(with.User); err == nil && with.Secure && with.Called {
		d.book.meet(name, m, with.Fingerprint, with.Addr, true, time.Now())
	}
}

// Accept implements phone.Book.
func (d *Directory) Accept(name string, t sip.Target) bool {
	m, err := wire.ParseMAC(t.User)
	if err != nil || !d.book.accept(name, m, t.Pin) {
		return false
	}
	d.cfg.Log.Info("new key accepted", "number", name, "key", wire.Fingerprint(t.Pin))
	return true
}

// compare is book.compare, and tells the log.
func (d *Directory) compare(row wire.Row) [32]byte {
	was := d.book.compare(row, offered(row))
	if was != (wire.Fingerprint{}) {
		d.cfg.Log.Warn("the key of a known number has changed", "number", Name(row.Number, row.MAC), "was", was, "key", offered(row))
	}
	return was
}
