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
	case row.State == wire.Online && wire.IsBrowser(row.MAC):
		return d.page(row), nil
	case row.State != wire.Online || len(row.Addrs) == 0:
		return phone.Peer{}, fmt.Errorf("%w since %v", phone.ErrOffline, row.Since)
	}
	return d.peer(ctx, row), nil
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

// inBrowser begins the name of whom a browser's page is called for.
const inBrowser = "browser: "

// page is whom to call for the row of a browser.
func (d *Directory) page(row wire.Row) phone.Peer {
	name := row.Name
	if name == "" {
		name = Name(row.Number, row.MAC)
	}
	return phone.Peer{Name: inBrowser + name, Target: sip.Target{User: row.MAC.Hex(), Browser: true}, Was: d.compare(row)}
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

// relayWins is how long after the dial an address may still come before a relay that is there:
// 250 ms until the second one is tried (RFC 8305), and sip.RelayAfter for it.
const relayWins = 400 * time.Millisecond

// race returns the first of addrs, or the preferred one when the relay is faster or all fail.
// The relay has its own time, RelayAfter after the first address, however many there are and
// whatever they do; it begins before that only when all have failed. It counts as faster only
// after relayWins, so that the second address, which is begun with after the relay, has as
// long as the first one.
func (d *Directory) race(ctx context.Context, addrs []netip.Addr, t sip.Target) netip.Addr {
	ctx, enough := context.WithCancel(ctx)
	failed, began := make(chan struct{}), time.Now()
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
			if d.cfg.Prepare(ctx, by) != nil {
				return
			}
			early := time.NewTimer(time.Until(began.Add(relayWins)))
			defer early.Stop()
			select {
			case <-early.C:
			case <-failed:
			case <-ctx.Done():
			}
			enough()
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
