package main

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"flexphone/firmware/internal/control"
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
}

// user returns what the phone is called in SIP URIs: the MAC's 12 hex digits.
func (s *self) user() string {
	mac, _ := s.mac.Now()
	return mac.Hex()
}

// permanent returns the 15 digits of the permanent number.
func (s *self) permanent() string {
	mac, _ := s.mac.Now()
	return mac.Digits()
}

// owns reports whether a call to user is for this phone. A URI without a user,
// or with our address for one, means whoever is at the address.
func (s *self) owns(user string) bool {
	if a, err := netip.ParseAddr(user); err == nil && slices.Contains(s.held().Addrs(), a) {
		return true
	}
	user = strings.ToLower(strings.NewReplacer(":", "", "-", "").Replace(user))
	own, permanent := s.user(), s.permanent()
	s.mu.Lock()
	defer s.mu.Unlock()
	return user == "" || user == own || user == permanent || s.number != "" && user == s.number
}

// displayName is what others see: the short number, or the 15 digits.
func (s *self) displayName() string {
	s.mu.Lock()
	number := s.number
	s.mu.Unlock()
	if number != "" {
		return number
	}
	return s.permanent()
}

// addressFor returns our address of the family of peer, or the first that we
// have.
func (s *self) addressFor(peer netip.Addr) netip.Addr {
	l := s.held()
	for _, a := range l.Addrs() {
		if a.Is4() == peer.Unmap().Is4() {
			return a
		}
	}
	return l.Addr()
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

func (s *self) renumber(number string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number = number
}

// announced tells the phone, and whoever watches, what became of an
// announcement.
func (s *self) announced(ctx context.Context, o registry.Outcome, ph *phone.Phone, to *control.Events) {
	switch o.Kind {
	case registry.Registered:
		s.renumber(o.Receipt.Number)
		to.Publish(events.Registered{
			Address: addrsOf(o.Registration), Sequence: o.Registration.Sequence,
			Number: s.displayName(), Reflexive: o.Receipt.Reflexive.String(), Took: o.Took,
		})
		ph.Registered(ctx, s.displayName())
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
