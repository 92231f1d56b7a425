package directory

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/reach"
	"flexphone/firmware/internal/sip"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

// resolveWait bounds one question to the storing server: a person waits.
const resolveWait = 5 * time.Second

// A Server is asked for rows. An error that wraps registry.ErrUnknown means that
// there is no such row, every other that the server cannot be asked.
type Server interface {
	Resolve(ctx context.Context, q wire.Query) (wire.Row, error)
	// Observe calls changed with the present row and with each later one, in
	// order, until ctx is done.
	Observe(ctx context.Context, q wire.Query, changed func(wire.Row)) error
}

// A Directory answers call control's questions from the rows of a storing server.
// It is a phone.Directory, and may be asked concurrently.
type Directory struct {
	server Server
	source func(dst netip.Addr) netip.Addr
	knock  func(ctx context.Context, at netip.AddrPort) error
}

// New returns a directory of server's rows.
func New(server Server) *Directory {
	return &Directory{server: server, source: reach.Source, knock: knock}
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

// Follow implements phone.Directory. Only a phone that has proved its key is
// followed: it is the one that its row tells of.
func (d *Directory) Follow(ctx context.Context, with sip.Peer, moved func(netip.AddrPort)) {
	mac, err := wire.ParseMAC(with.User)
	if err != nil || !with.Secure {
		return
	}
	at := with.Addr
	// It returns when ctx is done; until then it heals itself.
	_ = d.server.Observe(ctx, wire.Query{MAC: mac}, func(row wire.Row) {
		switch {
		case row.State != wire.Online || row.Ports.SIPS == 0 || row.Fingerprint != with.Fingerprint:
		case len(row.Addrs) == 0, slices.Contains(row.Addrs, at.Addr()) && row.Ports.SIPS == at.Port(): // it is where it was, whatever else it has
		default:
			at = d.choose(ctx, row.Addrs, row.Ports.SIPS)
			moved(at)
		}
	})
}

// Vouches implements phone.Directory. Over plain SIP anybody can say anything.
func (d *Directory) Vouches(ctx context.Context, caller sip.Peer) bool {
	mac, err := wire.ParseMAC(caller.User)
	if err != nil || !caller.Secure {
		return false
	}
	row, err := d.ask(ctx, wire.Query{MAC: mac})
	return err == nil && row.Fingerprint == caller.Fingerprint && caller.DisplayName == Name(row.Number, row.MAC)
}

func (d *Directory) ask(ctx context.Context, q wire.Query) (wire.Row, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveWait)
	defer cancel()
	return d.server.Resolve(ctx, q)
}

// peer is whom to call for row: over TLS with the key that owns it, or as any SIP
// phone where it does not offer that.
func (d *Directory) peer(ctx context.Context, row wire.Row) phone.Peer {
	p := phone.Peer{Name: Name(row.Number, row.MAC), Target: sip.Target{User: row.MAC.Hex()}}
	port := row.Ports.SIP
	if row.Ports.SIPS != 0 {
		port, p.Target.Pin = row.Ports.SIPS, row.Fingerprint
	}
	p.Target.Addr = d.choose(ctx, row.Addrs, port)
	return p
}

// choose returns which of addrs, one at least, to call at port. Where there is a
// choice, the first that takes a connection is it.
func (d *Directory) choose(ctx context.Context, addrs []netip.Addr, port uint16) netip.AddrPort {
	chosen := addrs[0] // if none can be reached, the call will say why
	switch usable := reach.Order(addrs, d.source); len(usable) {
	case 0:
	case 1:
		chosen = usable[0]
	default: // likewise
		chosen, _ = reach.First(ctx, usable, func(ctx context.Context, a netip.Addr) error {
			return d.knock(ctx, netip.AddrPortFrom(a, port))
		})
	}
	return netip.AddrPortFrom(chosen, port)
}
