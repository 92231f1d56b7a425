package wire

import (
	"net/netip"
	"time"
)

// A State says whether a phone can be called.
type State string

// The states of a row.
const (
	Online  State = "online"
	Offline State = "offline" // released, or not heard of before its expiry
)

// Ports are where a phone listens. Zero: it does not.
type Ports struct {
	SIP  uint16 // RFC 3261 over UDP and TCP
	SIPS uint16 // over TLS 1.3
}

// A Reach says how a phone can be reached.
type Reach uint8

// The reaches, as they are sent. Zero: it takes no relayed links, and that is all
// that is known.
const (
	ReachDirect Reach = iota + 1 // its server sees an address that the phone has
	ReachNAT                     // it does not: there is a NAT between them
	ReachRelay                   // by relayed links alone
)

// String names r for people.
func (r Reach) String() string {
	switch r {
	case ReachDirect:
		return "direct"
	case ReachNAT:
		return "nat"
	case ReachRelay:
		return "relay only"
	}
	return "unknown"
}

// A Registration is what a phone announces. A server takes it when it comes
// from the key that owns MAC and its Sequence is higher than the row's.
type Registration struct {
	MAC      MAC
	Addrs    []netip.Addr // IPv4 and IPv6, preferred first; at least one
	Ports    Ports
	Sequence uint64
	Lifetime time.Duration // until the lease ends; whole seconds
	// Token is a one-time token of the operator's, which a key may have to show
	// when it announces a MAC that nobody owns; empty: none.
	Token string
	// Next, unless it is zero, is the key that owns the row from now on.
	Next Fingerprint
	// Peers are whom the phone is in a call with, at most MaxPeers: the receipt
	// brings their rows.
	Peers []MAC
	Reach Reach
	// Heard are the calls since the last announcement, the newest last, at most
	// MaxHeard, of a phone whose user lets it tell how they were.
	Heard []Heard
}

// A Receipt is the server's answer to a Registration that is on its disk.
type Receipt struct {
	Reflexive netip.AddrPort // whence the server saw the datagram come
	Number    string         // the phone's short number; empty when it has none
	Expiry    time.Time
	Sequence  uint64
	// Peers are the rows of those that the registration named, in its order, without
	// who has none. A server that does not know of them leaves them out.
	Peers []Row
	// Elsewhere, unless it is zero, is where the phone is to announce itself from now
	// on.
	Elsewhere Referral
	// Beside says what else the server's host does for sound; a server of before says
	// nothing.
	Beside Beside
}

// A Beside is UDP ports at the storing server's address that help sound to find its way.
type Beside struct {
	// STUN are two of a STUN server (RFC 8489); zero: there is none.
	STUN [2]uint16
	// Relay is where a pass is shown; 0: nothing is relayed.
	Relay uint16
	// Also is an address of the relay's of the other family than the one that the phone
	// has announced itself by; zero: none is known.
	Also netip.Addr
}

// A Referral names the storing server that keeps a row: that of another region.
type Referral struct {
	Server string      // host:port, as HostPort returns it
	Key    Fingerprint // of that server's key
}

// A Ticket is a server's word for a phone, to be shown in another region, at most
// MaxTicket bytes: what it says is between the servers.
type Ticket string

// A Query asks for one row, by exactly one of its fields.
type Query struct {
	MAC    MAC
	Number string     // 3 to 8 digits
	Addr   netip.Addr // whose is it now?
}

// A Row is what the storing server knows of a phone.
type Row struct {
	MAC         MAC
	Number      string
	Addrs       []netip.Addr
	Ports       Ports
	Fingerprint Fingerprint
	Sequence    uint64
	Expiry      time.Time
	State       State
	Since       time.Time // of State
	Reach       Reach
	// Name is whose browser it is, where IsBrowser(MAC): such a row is online while a
	// page is open, and has no addresses and no ports. Else it is empty.
	Name string
}
