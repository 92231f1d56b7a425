package netlink

import (
	"context"
	"net/netip"
	"time"

	"flexphone/internal/mac"
	"flexphone/netlink/internal/resolvconf"
)

// A MAC is a phone's permanent number.
type MAC = mac.Address

// A Lease is the address an interface holds, and what came with it. The zero
// Prefix means that it holds none. As JSON it is what survives a restart.
type Lease struct {
	MAC       MAC          `json:"mac"`
	Interface string       `json:"-"`      // "eth0"
	Prefix    netip.Prefix `json:"prefix"` // the address, and how much of it is the network
	// IPv6 are the interface's global IPv6 addresses, best first; empty on a link
	// without IPv6. On a link without IPv4, Prefix is that of the first of them.
	IPv6   []netip.Addr `json:"-"`
	Router netip.Addr   `json:"router,omitzero"` // default router; zero when there is none
	// DNS are the name servers that were told by IPv4 and by IPv6, each once, in the
	// order to try.
	DNS []netip.Addr `json:"dns,omitempty"`
	// Domains are those of the network, each once, in the order to try: of option
	// 119 (RFC 3397), option 15, DHCPv6 option 24 and router advertisements.
	Domains   []string   `json:"domains,omitempty"`
	Routes    []Route    `json:"routes,omitempty"`     // classless routes beside the default one (RFC 3442)
	MTU       int        `json:"mtu,omitempty"`        // bytes; 0 when the network does not say
	Metric    int        `json:"-"`                    // of its routes; less is better
	Broadcast netip.Addr `json:"broadcast,omitzero"`   // option 28; zero: the last address of Prefix
	VoiceVLAN int        `json:"voice_vlan,omitempty"` // option 132: where phones belong; 0 when absent
	// StoringServers are what options 160, 66 and 150 name, in this order: printable,
	// without blanks around it, and otherwise as sent. Each may be a host, a list of
	// hosts, or a URL, and may be meant for other makers' phones.
	StoringServers []string   `json:"storing_servers,omitempty"`
	Server         netip.Addr `json:"server"` // DHCP server identifier; zero for an address that we did not lease
	// Doubtful: nobody confirmed it since the cable was plugged in, or since it was
	// doubted, and its router is silent, too. It is used for want of a better one, and
	// asked about.
	Doubtful bool      `json:"-"`
	Start    time.Time `json:"start"` // when the lease was acknowledged
	Renew    time.Time `json:"renew,omitzero"`
	Rebind   time.Time `json:"rebind,omitzero"` // T1 and T2; zero when nobody renews it here
	Expiry   time.Time `json:"expiry,omitzero"` // zero: never
}

// A Route leads to a network through a router, or over the link when Via is the
// zero Addr.
type Route struct {
	Dst netip.Prefix `json:"dst"`
	Via netip.Addr   `json:"via,omitzero"`
}

// Addr returns the leased address, zero when there is none.
func (l Lease) Addr() netip.Addr { return l.Prefix.Addr() }

// Addrs returns all that the phone can be reached at: Addr, and then the others.
func (l Lease) Addrs() []netip.Addr {
	var out []netip.Addr
	if a := l.Addr(); a.IsValid() {
		out = append(out, a)
	}
	for _, a := range l.IPv6 {
		if a != l.Addr() {
			out = append(out, a)
		}
	}
	return out
}

// names is what comes with the lease for resolv.conf(5).
func (l Lease) names() resolvconf.Network {
	return resolvconf.Network{Leased: l.Addr(), Domains: l.Domains, DNS: l.DNS}
}

// An EventKind says what happened to the address of an interface.
type EventKind int

const (
	// Bound: there is a usable address (address and route are both installed)
	// where there was none, or another one than before.
	Bound EventKind = iota + 1
	// Renewed: the same address, with a later expiry or other IPv6 addresses.
	Renewed
	// Lost: the address is gone: expired, refused (NAK) without another at
	// once, released, or the link has been down for too long.
	Lost
)

// String returns the name that events are known by in logs.
func (k EventKind) String() string {
	switch k {
	case Bound:
		return "lease.bound"
	case Renewed:
		return "lease.renewed"
	case Lost:
		return "lease.lost"
	}
	return "lease.unknown"
}

// An Event is a change of an interface's address.
type Event struct {
	Kind   EventKind
	Lease  Lease  // the new state; after Lost the lease that was lost
	Reason string // why, for Lost: "expired", "nak", "link down", "released", "conflict"
	At     time.Time
}

// A Source gives out the lease events of one interface, each once and in
// order. The DHCP client, the watcher and a static address are Sources.
type Source interface {
	// Run owns the interface until ctx is done; a Source that leased an
	// address then releases it and takes it away.
	Run(ctx context.Context) error
	// Next blocks until there is an event; it returns ctx's error once ctx is
	// done.
	Next(ctx context.Context) (Event, error)
}

// Unreached tells s that what the phone needs, and knows by name, is not reached from its
// address, and Reached that it is. One that is made of several uses another then; most
// have nothing to do.
func Unreached(s Source) {
	if r, ok := s.(reacher); ok {
		r.Unreached()
	}
}

// Reached is the opposite of Unreached.
func Reached(s Source) {
	if r, ok := s.(reacher); ok {
		r.Reached()
	}
}

// A reacher is a Source that chooses by what is reached.
type reacher interface {
	Unreached()
	Reached()
}

// Shun has the routes of s come after those of other interfaces, or where its Metric puts
// them, for who uses another though s has an address. It reports false when s cannot: its
// routes are somebody else's.
func Shun(s Source, yes bool) bool {
	sh, ok := s.(interface{ Shun(yes bool) bool })
	return ok && sh.Shun(yes)
}

// A doubter is a Source that can ask whether its address still holds.
type doubter interface{ Doubt() }

// Doubt tells s that what the phone needs cannot be reached from its address: this
// may be another network, though the cable was never out. A Source that leases the
// address uses it on, and asks a server about it unless one confirmed it within
// the last minute; others have nothing to ask.
func Doubt(s Source) {
	if d, ok := s.(doubter); ok {
		d.Doubt()
	}
}
