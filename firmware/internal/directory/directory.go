package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/reach"
	"flexphone/firmware/internal/sip"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

// resolveWait bounds one question to the storing server: a person waits.
const resolveWait = 5 * time.Second

// busyLeast is how long a server that is busy is left alone where it does not say.
const busyLeast = time.Second

// A Server is asked for rows. An error that wraps registry.ErrUnknown means that
// there is no such row, every other that the server cannot be asked.
type Server interface {
	Resolve(ctx context.Context, q wire.Query) (wire.Row, error)
	// Observe calls told with the present row and with each later one, in order,
	// until ctx is done; and without current when it is not told of changes any
	// more, until it is again.
	Observe(ctx context.Context, q wire.Query, told func(row wire.Row, current bool)) error
}

// A Config says how a Directory works.
type Config struct {
	// Path is the file in which other phones are remembered.
	Path string
	// Prepare finds out whether the phone that t means, which has a Pin, takes a
	// connection there, and keeps that for a call.
	Prepare func(ctx context.Context, t sip.Target) error
	Log     *slog.Logger
}

// A Directory answers call control's questions from the rows of a storing server.
// It is a phone.Directory and a phone.Book, and may be asked concurrently.
type Directory struct {
	server Server
	cfg    Config
	source func(dst netip.Addr) netip.Addr
	knock  func(ctx context.Context, at netip.AddrPort) error
	book   *book
	watch  chan wire.MAC // whom to watch for a while after a call

	mu       sync.Mutex
	followed []*followed // in the order of their calls
	watched  map[wire.MAC]*watched
}

// New returns a directory of server's rows. Run has to be called for it to remember
// anything for longer than it lives.
func New(server Server, cfg Config) *Directory {
	return &Directory{
		server: server, cfg: cfg, source: reach.Source, knock: knock, book: newBook(cfg.Path),
		watch: make(chan wire.MAC, mostWatched), watched: map[wire.MAC]*watched{},
	}
}

// knock finds out whether anybody takes a connection there.
func knock(ctx context.Context, at netip.AddrPort) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	return c.Close()
}

// Resolve implements phone.Directory. An address that was dialled is whoever is
// there, and needs no server. The user part is then the address as well, since
// standard phones refuse a call to nobody (baresip answers it with 404).
func (d *Directory) Resolve(ctx context.Context, to phone.Destination) (phone.Peer, error) {
	if to.Addr.IsValid() {
		return phone.Peer{Name: to.Addr.String(), Target: sip.Target{User: to.Addr.String(), Addr: netip.AddrPortFrom(to.Addr, sip.Port)}}, nil
	}
	q := wire.Query{MAC: to.MAC}
	if to.Number != "" {
		q = wire.Query{Number: to.Number}
	}
	row, err := d.ask(ctx, q)
	switch {
	case errors.Is(err, registry.ErrUnknown):
		return phone.Peer{}, fmt.Errorf("%w: %w", phone.ErrUnknown, err)
	case err != nil:
		return phone.Peer{}, fmt.Errorf("directory: resolve %v: %w", to, err)
	case row.State != wire.Online || len(row.Addrs) == 0:
		return phone.Peer{}, fmt.Errorf("%w since %v", phone.ErrOffline, row.Since)
	}
	return d.peer(ctx, row), nil
}

// Follow implements phone.Directory. A phone that has proved its key is followed: it
// is the one that its row tells of. So is one that was called in the clear by a row
// without a key, such as a registrar writes for a phone of another make: wherever
// its own messages say that it is, a change of the row is a move. Whoever calls in
// the clear gives any number that he likes.
func (d *Directory) Follow(ctx context.Context, with sip.Peer, moved func(netip.AddrPort)) {
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
	var observer sync.WaitGroup
	defer observer.Wait()
	observer.Go(func() {
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
	for {
		select {
		case <-ctx.Done():
			return
		case row := <-f.rows:
			switch {
			case row.Sequence < newest: // it was on its way for longer
				continue
			case row.State != wire.Online || portOf(row, with) == 0 || row.Fingerprint != with.Fingerprint:
			case len(row.Addrs) == 0, slices.Contains(row.Addrs, at.Addr()) && portOf(row, with) == at.Port() && d.stays(at.Addr(), row.Addrs): // it is where it was, whatever else it has
			case !at.IsValid() && !with.Secure:
				at = netip.AddrPortFrom(row.Addrs[0], portOf(row, with))
			default:
				at = d.choose(ctx, row.Addrs, sip.Target{User: with.User, Addr: netip.AddrPortFrom(at.Addr(), portOf(row, with)), Pin: with.Fingerprint, Way: wayOf(row)})
				if with.Secure {
					d.book.moved(mac, with.Fingerprint, at)
				}
				moved(at)
			}
			newest = row.Sequence
		}
	}
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

// Vouches implements phone.Directory. Over plain SIP anybody can say anything.
func (d *Directory) Vouches(ctx context.Context, caller sip.Peer) (proved bool, was [32]byte) {
	mac, err := wire.ParseMAC(caller.User)
	if err != nil || !caller.Secure {
		return false, was
	}
	row, err := d.ask(ctx, wire.Query{MAC: mac})
	if err != nil || row.Fingerprint != caller.Fingerprint || caller.DisplayName != Name(row.Number, row.MAC) {
		return false, was
	}
	was = d.compare(row)
	if at := caller.Addr.Addr(); row.Ports.SIPS != 0 && slices.Contains(row.Addrs, at) {
		d.book.meet(caller.DisplayName, mac, row.Fingerprint, netip.AddrPortFrom(at, row.Ports.SIPS), false, time.Now())
	}
	return true, was
}

// ask asks a server that is busy again when it says that it can be, if somebody still
// waits then.
func (d *Directory) ask(ctx context.Context, q wire.Query) (wire.Row, error) {
	until := time.Now().Add(resolveWait)
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for {
		row, err := d.server.Resolve(ctx, q)
		var busy *registry.BusyError
		if !errors.As(err, &busy) {
			return row, err
		}
		after := max(busy.After, busyLeast)
		if time.Until(until) < after {
			return row, err
		}
		select {
		case <-time.After(after):
		case <-ctx.Done():
			return row, err
		}
	}
}

// peer is whom to call for row: over TLS with the key that owns it, or as any SIP
// phone where it does not offer that.
func (d *Directory) peer(ctx context.Context, row wire.Row) phone.Peer {
	p := phone.Peer{Name: Name(row.Number, row.MAC), Target: sip.Target{User: row.MAC.Hex()}, Was: d.compare(row)}
	p.Target.Pin, p.Target.Way = offered(row), wayOf(row)
	last := netip.Addr{}
	if a, known := d.book.find(phone.Destination{Number: p.Name, MAC: row.MAC}); known {
		last = a.Addr.Addr()
	}
	port := row.Ports.SIP
	if p.Target.Pin != [32]byte{} {
		port = row.Ports.SIPS
	}
	p.Target.Addr = netip.AddrPortFrom(last, port)
	p.Target.Addr = d.choose(ctx, row.Addrs, p.Target)
	return p
}

// offered is the key that a call for row is pinned to; zero: none, it is made in the
// clear.
func offered(row wire.Row) wire.Fingerprint {
	if row.Ports.SIPS == 0 {
		return wire.Fingerprint{}
	}
	return row.Fingerprint
}

// wayOf says by what the phone of row may be connected with.
func wayOf(row wire.Row) sip.Way {
	switch {
	case offered(row) == wire.Fingerprint{} || row.Reach == 0:
		return sip.Direct
	case row.Reach == wire.ReachRelay:
		return sip.Relayed
	}
	return sip.Either
}

// choose returns which of addrs, one at least, to call t's phone at. Where there is a
// choice, the first that takes a connection is it. t.Addr is tried first if it is one
// of them.
func (d *Directory) choose(ctx context.Context, addrs []netip.Addr, t sip.Target) netip.AddrPort {
	at := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, t.Addr.Port()) }
	usable := reach.Order(addrs, d.source)
	if t.Way == sip.Relayed {
		return at(addrs[0]) // nobody is there
	}
	if i := slices.Index(usable, t.Addr.Addr()); i > 0 {
		usable = slices.Insert(slices.Delete(usable, i, i+1), 0, t.Addr.Addr())
	}
	switch len(usable) {
	case 0:
		return at(addrs[0]) // the call will say why
	case 1:
		return at(usable[0])
	}
	return at(d.race(ctx, usable, t))
}

// race returns the first of addrs, or the preferred one when the relay is faster or all fail.
// The relay has its own time, RelayAfter after the first address, however many there are and
// whatever they do; it begins before that only when all have failed.
func (d *Directory) race(ctx context.Context, addrs []netip.Addr, t sip.Target) netip.Addr {
	ctx, enough := context.WithCancel(ctx)
	failed := make(chan struct{})
	var relay sync.WaitGroup
	if t.Way == sip.Either {
		by := t
		by.Addr, by.Way = netip.AddrPortFrom(addrs[0], t.Addr.Port()), sip.Relayed
		relay.Go(func() {
			late := time.NewTimer(sip.RelayAfter)
			defer late.Stop()
			select {
			case <-late.C:
			case <-failed:
			case <-ctx.Done():
				return
			}
			if d.cfg.Prepare(ctx, by) == nil {
				enough()
			}
		})
	}
	chosen, err := reach.First(ctx, addrs, func(ctx context.Context, a netip.Addr) error { // if it fails, the call will say why
		at := netip.AddrPortFrom(a, t.Addr.Port())
		if t.Pin == [32]byte{} {
			return d.knock(ctx, at)
		}
		return d.cfg.Prepare(ctx, sip.Target{User: t.User, Addr: at, Pin: t.Pin})
	})
	if err == nil {
		enough()
	} else {
		close(failed)
	}
	relay.Wait()
	enough()
	return chosen
}
