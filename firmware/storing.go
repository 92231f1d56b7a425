package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"flexphone/firmware/internal/finder"
	"flexphone/firmware/internal/parts"
	"flexphone/firmware/internal/reach"
	"flexphone/firmware/internal/sip"
	"flexphone/netlink"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

// storing is the storing server as the rest of the phone sees it: it takes what is
// to be told there from the beginning, though there is nobody to tell it before the
// phone has its key.
type storing struct {
	keys     *parts.Slot[registry.Identity]
	folder   *registry.Folder
	resolver *finder.Resolver
	token    string
	spread   time.Duration                           // as in registry.AnnouncerConfig
	peers    func() []wire.MAC                       // likewise
	mapped   func() netip.Addr                       // likewise
	urgent   func() bool                             // likewise
	heard    *heardCalls                             // nil: the server is not told how calls were
	report   func(o registry.Outcome, server string) // server: who was asked
	// browsers takes links of browsers, until accept brings no more.
	browsers func(ctx context.Context, accept func(context.Context) (net.Conn, error))
	tap      func(net.Conn) net.Conn // as in registry.Config
	log      *slog.Logger

	client parts.Slot[*registry.Client]

	mu        sync.Mutex
	groups    [][]string
	lease     *netlink.Event // the newest; nil: none yet
	announcer *registry.Announcer
}

// run is the life of a client with one key.
func (s *storing) run(ctx context.Context, works func()) error {
	id, changed, err := s.keys.Get(ctx)
	if err != nil {
		return err
	}
	client, err := registry.NewClient(registry.Config{
		Identity: id, Pins: s.folder.Pins(), Resolver: s.resolver, Order: reachable, Tap: s.tap, Log: s.log,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	var heard func() []wire.Heard
	if s.heard != nil {
		heard = s.heard.show
	}
	announcer := registry.NewAnnouncer(registry.AnnouncerConfig{
		Heard: heard,
		MAC:   id.MAC, Ports: wire.Ports{SIP: sip.Port, SIPS: sip.SecurePort},
		Registrar: client, Link: client, Sequence: s.folder.Sequence(), Token: s.token, Log: s.log, Spread: s.spread, Peers: s.peers, TakesLinks: true, Mapped: s.mapped, Urgent: s.urgent,
		Report: func(o registry.Outcome) { s.report(o, client.Server()) },
	})
	s.mu.Lock()
	err = client.SetServers(s.groups)
	s.announcer = announcer
	if s.lease != nil {
		announcer.Update(*s.lease)
	}
	s.client.Set(client)
	s.mu.Unlock()
	defer func() {
		s.client.Clear()
		s.mu.Lock()
		s.announcer = nil
		s.mu.Unlock()
	}()
	if err != nil {
		return err
	}
	works()
	life, end := context.WithCancel(ctx)
	defer end()
	go func() {
		select {
		case <-changed:
			end()
		case <-life.Done():
		}
	}()
	var beside sync.WaitGroup
	beside.Go(func() { s.browsers(life, client.AcceptBrowser) })
	defer beside.Wait()
	defer end()
	if err := announcer.Run(life); ctx.Err() != nil || life.Err() == nil {
		return err
	}
	return nil // another key
}

// reachable is reach.Order with the kernel's routes.
func reachable(addrs []netip.Addr) []netip.Addr { return reach.Order(addrs, reach.Source) }

// setServers says where the storing server may be.
func (s *storing) setServers(groups [][]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups = slices.Clone(groups)
	if client, ok := s.client.Now(); ok {
		if err := client.SetServers(groups); err != nil {
			s.log.Warn("no usable storing server", "err", err)
		}
	}
	if s.announcer != nil {
		s.announcer.Again()
	}
}

// again has an announcement that was in vain made again at once.
func (s *storing) again() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.announcer != nil {
		s.announcer.Again()
	}
}

// announce announces the phone again, with what else there is to tell.
func (s *storing) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.announcer != nil {
		s.announcer.Announce()
	}
}

// update tells of a lease.
func (s *storing) update(e netlink.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Kind != netlink.Lost { // who comes later must be told of an address as of a new one
		first := e
		first.Kind = netlink.Bound
		s.lease = &first
	} else {
		s.lease = nil
	}
	if s.announcer != nil {
		s.announcer.Update(e)
	}
}

// check makes sure that the server is there, since somebody is about to need it.
func (s *storing) check() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.announcer != nil {
		s.announcer.Check()
	}
}

// release withdraws the row.
func (s *storing) release(ctx context.Context) error {
	s.mu.Lock()
	announcer := s.announcer
	s.mu.Unlock()
	if announcer == nil {
		return nil
	}
	return announcer.Release(ctx)
}

// errNoKey is what is said of a storing server before the phone has its key.
var errNoKey = errors.New("flexphone: the phone has no key yet, for want of a network interface")

// Resolve implements directory.Server.
func (s *storing) Resolve(ctx context.Context, q wire.Query) (wire.Row, error) {
	client, ok := s.client.Now()
	if !ok {
		return wire.Row{}, errNoKey
	}
	return client.Resolve(ctx, q)
}

// Observe implements directory.Server.
func (s *storing) Observe(ctx context.Context, q wire.Query, told func(row wire.Row, current bool)) error {
	client, ok := s.client.Now()
	if !ok {
		return errNoKey
	}
	return client.Observe(ctx, q, told)
}

// Dial implements sip.Relay: the storing server is one.
func (s *storing) Dial(ctx context.Context, user string) (net.Conn, error) {
	client, ok := s.client.Now()
	if !ok {
		return nil, errNoKey
	}
	mac, err := wire.ParseMAC(user)
	if err != nil {
		return nil, err
	}
	return client.DialRelayed(ctx, mac)
}

// Accept implements sip.Relay.
func (s *storing) Accept(ctx context.Context) (net.Conn, string, error) {
	for {
		client, changed, err := s.client.Get(ctx)
		if err != nil {
			return nil, "", err
		}
		c, err := client.AcceptRelayed(ctx)
		switch {
		case err == nil:
			from, _ := c.RemoteAddr().(registry.PhoneAddr) // which it is
			return c, from.MAC.Hex(), nil
		case !errors.Is(err, net.ErrClosed):
			return nil, "", err
		}
		select { // of another key
		case <-changed:
		case <-ctx.Done():
			return nil, "", ctx.Err()
		}
	}
}
