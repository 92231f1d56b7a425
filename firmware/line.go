package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"flexphone/firmware/internal/parts"
	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/reach"
	"flexphone/firmware/internal/sip"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

// resolveWait bounds one question to the storing server: a person waits.
const resolveWait = 5 * time.Second

// A lookup is what a directory needs of the storing server.
type lookup interface {
	Resolve(ctx context.Context, q wire.Query) (wire.Row, error)
	Observe(ctx context.Context, q wire.Query, changed func(wire.Row)) error
}

// directory is the storing server as call control sees it.
type directory struct{ server lookup }

// Resolve implements phone.Directory. An address that was dialled is whoever is
// there, and needs no server. The user part is then the address as well, since
// standard phones refuse a call to nobody (baresip answers it with 404).
func (d directory) Resolve(ctx context.Context, to phone.Destination) (phone.Peer, error) {
	if to.Addr.IsValid() {
		return phone.Peer{Name: to.Addr.String(), Target: sip.Target{User: to.Addr.String(), Addr: netip.AddrPortFrom(to.Addr, sipPort)}}, nil
	}
	q := wire.Query{MAC: to.MAC}
	if to.Number != "" {
		q = wire.Query{Number: to.Number}
	}
	ctx, cancel := context.WithTimeout(ctx, resolveWait)
	defer cancel()
	row, err := d.server.Resolve(ctx, q)
	switch {
	case errors.Is(err, registry.ErrUnknown):
		return phone.Peer{}, fmt.Errorf("%w: %w", phone.ErrUnknown, err)
	case err != nil:
		return phone.Peer{}, err
	case row.State != wire.Online || len(row.Addrs) == 0:
		return phone.Peer{}, fmt.Errorf("%w since %v", phone.ErrOffline, row.Since)
	}
	return peerOf(ctx, row), nil
}

// Follow implements phone.Directory. Only a phone that has proved its key is
// followed: it is the one that its row tells of.
func (d directory) Follow(ctx context.Context, with sip.Peer, moved func(netip.AddrPort)) {
	mac, err := wire.ParseMAC(with.User)
	if err != nil || !with.Secure {
		return
	}
	// It returns when ctx is done; until then it heals itself.
	_ = d.server.Observe(ctx, wire.Query{MAC: mac}, func(row wire.Row) {
		if row.State == wire.Online && len(row.Addrs) > 0 && row.Ports.SIPS != 0 && row.Fingerprint == with.Fingerprint {
			moved(netip.AddrPortFrom(choose(ctx, row.Addrs, row.Ports.SIPS), row.Ports.SIPS))
		}
	})
}

// Vouches implements phone.Directory. Over plain SIP anybody can say anything.
func (d directory) Vouches(ctx context.Context, caller sip.Peer) bool {
	mac, err := wire.ParseMAC(caller.User)
	if err != nil || !caller.Secure {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, resolveWait)
	defer cancel()
	row, err := d.server.Resolve(ctx, wire.Query{MAC: mac})
	return err == nil && row.Fingerprint == caller.Fingerprint && caller.DisplayName == nameOf(row)
}

// nameOf is what the display says of row's phone.
func nameOf(row wire.Row) string {
	if row.Number != "" {
		return row.Number
	}
	return row.MAC.Digits()
}

// peerOf is whom to call for row: over TLS with the key that owns it, or as any
// SIP phone where it does not offer that.
func peerOf(ctx context.Context, row wire.Row) phone.Peer {
	p := phone.Peer{Name: nameOf(row)}
	port := row.Ports.SIP
	if row.Ports.SIPS != 0 {
		port, p.Target.Pin = row.Ports.SIPS, row.Fingerprint
	}
	p.Target.User = fmt.Sprintf("%x", row.MAC[:])
	p.Target.Addr = netip.AddrPortFrom(choose(ctx, row.Addrs, port), port)
	return p
}

// choose returns the one of addrs to call. Where there is a choice, the first
// that takes a connection is it.
func choose(ctx context.Context, addrs []netip.Addr, port uint16) netip.Addr {
	usable := reach.Order(addrs, reach.Source)
	switch len(usable) {
	case 0:
		return addrs[0] // the call will say why it cannot be reached
	case 1:
		return usable[0]
	}
	var d net.Dialer
	first, _ := reach.First(ctx, usable, func(ctx context.Context, a netip.Addr) error {
		c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(a, port).String())
		if err != nil {
			return err
		}
		return c.Close()
	}) // when none does, the call to the first will say why
	return first
}

// line is the SIP agent as call control sees it: there from the beginning, though
// the agent is made when there is a key and its ports are free.
type line struct {
	keys  *parts.Slot[registry.Identity]
	cfg   sip.Config // without what the identity says
	agent parts.Slot[*sip.Agent]
}

// run is the life of an agent with one key.
func (l *line) run(ctx context.Context, works func()) error {
	id, changed, err := l.keys.Get(ctx)
	if err != nil {
		return err
	}
	cfg := l.cfg
	cfg.Identity, cfg.User = id.Certificate, id.MAC.Hex()
	agent, err := sip.NewAgent(cfg)
	if err != nil {
		return err
	}
	life, end := context.WithCancel(ctx)
	defer end()
	go func() {
		select {
		case <-changed:
			end()
		case <-life.Done():
		}
	}()
	works()
	l.agent.Set(agent)
	defer l.agent.Clear()
	if err := agent.Run(life); ctx.Err() != nil || life.Err() == nil {
		return err
	}
	return nil // another key
}

// errNoLine is what is said of a call while there is no agent.
var errNoLine = errors.New("flexphone: the line does not work")

// Invite implements phone.Line.
func (l *line) Invite(ctx context.Context, to sip.Target, local sip.LocalMedia) (phone.Call, error) {
	agent, ok := l.agent.Now()
	if !ok {
		return nil, errNoLine
	}
	c, err := agent.Invite(ctx, to, local)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Incoming implements phone.Line.
func (l *line) Incoming(ctx context.Context) (phone.Call, error) {
	for {
		agent, changed, err := l.agent.Get(ctx)
		if err != nil {
			return nil, err
		}
		c, err := agent.Incoming(ctx)
		switch {
		case err == nil:
			return c, nil
		case !errors.Is(err, sip.ErrStopped):
			return nil, err
		}
		select { // for the next one
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
