package directory

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"flexphone/firmware/internal/reach"
	"flexphone/firmware/internal/sip"
	"flexphone/registry-client/wire"
)

// Follow implements phone.Directory. A phone that has proved its key is followed: it
// is the one that its row tells of. So is one that was called in the clear by a row
// without a key, such as a registrar writes for a phone of another make: wherever
// its own messages say that it is, a change of the row is a move. Whoever calls in
// the clear gives any number that he likes. Of several new addresses the one of the family
// that was spoken is told at once, and tried first.
func (d *Directory) Follow(ctx context.Context, with sip.Peer, moved func(at netip.AddrPort, found bool)) {
	mac, err := wire.ParseMAC(with.User)
	if err != nil || !with.Secure && !with.Called {
		return
	}
	f := &followed{mac: mac, rows: make(chan wire.Row, rowsWaiting), began: time.Now()}
	d.follow(f)
	defer d.leave(f)
	if with.Secure { // and afterwards for a while
		d.linger(mac)
		defer d.linger(mac)
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() {
		// It returns when ctx is done; until then it heals itself.
		_ = d.server.Observe(ctx, wire.Query{MAC: mac}, func(row wire.Row, current bool) {
			if !current {
				return
			}
			select {
			case f.rows <- row:
			case <-ctx.Done():
			}
		})
	})
	at, newest := with.Addr, uint64(0)
	if !with.Secure {
		at = netip.AddrPort{} // the first row says where it was
	}
	var found <-chan netip.AddrPort // of the search for the newest place
	enough := func() {}
	defer func() { enough() }()
	settle := func() {
		if with.Secure {
			d.book.moved(mac, with.Fingerprint, at)
		}
		moved(at, true)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case at = <-found:
			settle()
		case row := <-f.rows:
			switch {
			case row.Sequence < newest: // it was on its way for longer
				continue
			case row.State != wire.Online || portOf(row, with) == 0 || row.Fingerprint != with.Fingerprint:
			case len(row.Addrs) == 0, slices.Contains(row.Addrs, at.Addr()) && portOf(row, with) == at.Port() && d.stays(at.Addr(), row.Addrs): // it is where it was, whatever else it has
			case !at.IsValid() && !with.Secure:
				at = netip.AddrPortFrom(row.Addrs[0], portOf(row, with))
			default:
				enough()
				found = nil
				to := sip.Target{User: with.User, Pin: with.Fingerprint, Way: wayOf(row)}
				addr, choice := d.likeliest(row.Addrs, at.Addr(), to.Way)
				at = netip.AddrPortFrom(addr, portOf(row, with))
				if to.Addr = at; !choice {
					settle()
					break
				}
				moved(at, false)
				found, enough = d.search(ctx, &beside, row.Addrs, to)
			}
			newest = row.Sequence
		}
	}
}

// likeliest returns which of addrs, one at least, a phone is spoken with that was at was, and
// whether that is a choice.
func (d *Directory) likeliest(addrs []netip.Addr, was netip.Addr, way sip.Way) (a netip.Addr, choice bool) {
	usable := reach.Order(addrs, d.source)
	if way == sip.Relayed || len(usable) == 0 {
		return addrs[0], false
	}
	if i := slices.IndexFunc(usable, func(a netip.Addr) bool { return a.Is4() == was.Is4() }); was.IsValid() && i >= 0 {
		return usable[i], len(usable) > 1
	}
	return usable[0], len(usable) > 1
}

// search is choose beside, until enough is called: what it finds after that nobody hears of.
func (d *Directory) search(ctx context.Context, beside *sync.WaitGroup, addrs []netip.Addr, to sip.Target) (found <-chan netip.AddrPort, enough func()) {
	ctx, enough = context.WithCancel(ctx)
	chosen := make(chan netip.AddrPort, 1)
	beside.Go(func() { chosen <- d.choose(ctx, addrs, to) })
	return chosen, enough
}

// stays reports whether a phone is still to be spoken with at a, one of its addresses:
// the way there may be gone with this phone's own address of that family, while
// another is left.
func (d *Directory) stays(a netip.Addr, of []netip.Addr) bool {
	return d.source(a).IsValid() || len(reach.Order(of, d.source)) == 0
}

// portOf is where a phone takes what we send it in the call that we have with it.
func portOf(row wire.Row, with sip.Peer) uint16 {
	if with.Secure {
		return row.Ports.SIPS
	}
	return row.Ports.SIP
}

// rowsWaiting is how many rows of receipts may wait for a Follow that finds a way
// to its phone.
const rowsWaiting = 4

// A followed is a phone of Follow's.
type followed struct {
	mac   wire.MAC
	rows  chan wire.Row
	began time.Time
}

func (d *Directory) follow(f *followed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.followed = append(d.followed, f)
}

func (d *Directory) leave(f *followed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.followed = slices.DeleteFunc(d.followed, func(o *followed) bool { return o == f })
}

// Followed returns whom this phone talks to, the newest first: whom it names when
// it announces a move, so that the receipt tells where they are.
func (d *Directory) Followed() []wire.MAC {
	d.mu.Lock()
	defer d.mu.Unlock()
	var macs []wire.MAC
	for _, f := range slices.Backward(d.followed) {
		if !slices.Contains(macs, f.mac) {
			macs = append(macs, f.mac)
		}
	}
	return macs
}

// urgentFor is how long a call is being set up: as long as it may ring.
const urgentFor = time.Minute

// Urgent reports whether one of them is followed since lately: where it is must be heard
// of soon, since nobody has agreed upon anything yet.
func (d *Directory) Urgent() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.followed, func(f *followed) bool { return time.Since(f.began) < urgentFor })
}

// Told takes rows that a receipt has brought. It does not block.
func (d *Directory) Told(rows []wire.Row) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, row := range rows {
		for _, f := range d.followed {
			if f.mac != row.MAC {
				continue
			}
			select {
			case f.rows <- row:
			default: // too many wait; the server tells of it as well
			}
		}
	}
}
