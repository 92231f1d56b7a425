package main

import (
	"context"
	"crypto/tls"
	"net/netip"
	"runtime"
	"strings"
	"sync"

	"flexphone/firmware/internal/control"
	"flexphone/firmware/internal/directory"
	"flexphone/firmware/internal/events"
	"flexphone/firmware/internal/parts"
	"flexphone/firmware/internal/phone"
	"flexphone/netlink"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

// self is what the phone knows of itself: its permanent number, and what the
// network and the storing server have given it.
type self struct {
	mac parts.Slot[netlink.MAC]       // empty until there is the interface that has it
	key parts.Slot[registry.Identity] // empty until there is a MAC to certify

	mu     sync.Mutex
	lease  netlink.Lease // zero Prefix: none
	number string
	reach  wire.Reach // as the row says it; zero: there was none yet
}

// now is by what others know this phone now.
func (s *self) now() directory.Self {
	mac, _ := s.mac.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	return directory.Self{MAC: mac, Number: s.number, Addrs: s.lease.Addrs()}
}

func (s *self) owns(user string) bool { return s.now().Owns(user) }

func (s *self) name() string { return s.now().Name() }

func (s *self) addressFor(peer netip.Addr) netip.Addr { return s.now().AddressFor(peer) }

// addresses are those that this phone has, preferred first.
func (s *self) addresses() []netip.Addr { return s.now().Addrs }

// near reports whether a peer is on the network of this phone's own address, and the
// phone has more than one processor: a single one of the kind that desk phones have has
// none to spare for twice as many packets.
func (s *self) near(peer netip.Addr) bool {
	return runtime.NumCPU() > 1 && s.held().Prefix.Masked().Contains(peer.Unmap())
}

// certificate returns what this phone proves itself with, if it has it yet.
func (s *self) certificate() (tls.Certificate, bool) {
	id, ok := s.key.Now()
	return id.Certificate, ok
}

func (s *self) held() netlink.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease
}

func (s *self) hold(l netlink.Lease) (before netlink.Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.lease = s.lease, l
	return before
}

func (s *self) registered(number string, reach wire.Reach) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number, s.reach = number, reach
}

// reached is how the row says that this phone is reached; empty: there is none yet.
func (s *self) reached() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reach == 0 {
		return ""
	}
	return s.reach.String()
}

// announced tells the phone, and whoever watches, what became of an
// announcement.
func (s *self) announced(ctx context.Context, o registry.Outcome, ph *phone.Phone, to *control.Events) {
	switch o.Kind {
	case registry.Registered:
		s.registered(o.Receipt.Number, o.Registration.Reach)
		to.Publish(events.Registered{
			Address: addrsOf(o.Registration), Sequence: o.Registration.Sequence,
			Number: s.name(), Reflexive: o.Receipt.Reflexive.String(), Took: o.Took, Reach: o.Registration.Reach.String(),
		})
		ph.Registered(ctx, s.name())
	case registry.Failed:
		to.Publish(events.RegisterFailed{Error: o.Err.Error(), Retry: o.Retry})
		ph.NotRegistered(ctx)
	case registry.Released:
		to.Publish(events.Released{})
	}
}

func addrsOf(r wire.Registration) string {
	var texts []string
	for _, a := range r.Addrs {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, " ")
}
