package wire

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Bounds of what may be announced.
const (
	MaxAddrs    = 8                    // addresses of one phone
	MinLifetime = 1 * time.Second      // a lease may be nearly over
	MaxLifetime = 365 * 24 * time.Hour // an infinite lease is announced as a year, and refreshed
	// MaxSequence leaves a receiver room to count on: a phone that had used up
	// all numbers could never announce again.
	MaxSequence = 1<<63 - 1
	// MaxToken is the length of an enrolment token in bytes.
	MaxToken = 64
	// MaxPeers is how many rows of others a receipt brings: two of the longest fit
	// into one, and a telephone talks to one and holds one.
	MaxPeers = 2
	// MaxTicket is the length of a ticket in bytes.
	MaxTicket = 128
	// MinNumber and MaxNumber are the digits a short number may have.
	MinNumber, MaxNumber = 3, 8
)

// ErrInvalid is the cause of every refusal of a value that parses but cannot
// be meant.
var ErrInvalid = errors.New("invalid")

// Validate reports why r cannot be taken: it wraps ErrInvalid, and its text is
// fit for the diagnostic of an answer.
func (r Registration) Validate() error {
	if !r.MAC.Valid() {
		return fmt.Errorf("wire: registration: MAC %v is not unicast: %w", r.MAC, ErrInvalid)
	}
	if IsBrowser(r.MAC) {
		return fmt.Errorf("wire: registration: MAC %v stands for browsers: %w", r.MAC, ErrInvalid)
	}
	if err := validAddrs(r.Addrs); err != nil {
		return fmt.Errorf("wire: registration: %w", err)
	}
	if r.Ports == (Ports{}) {
		return fmt.Errorf("wire: registration: no port to call: %w", ErrInvalid)
	}
	if r.Sequence == 0 || r.Sequence > MaxSequence {
		return fmt.Errorf("wire: registration: sequence %d out of 1 to %d: %w", r.Sequence, uint64(MaxSequence), ErrInvalid)
	}
	if r.Lifetime < MinLifetime || r.Lifetime > MaxLifetime || r.Lifetime%time.Second != 0 {
		return fmt.Errorf("wire: registration: lifetime %v not in whole seconds from %v to %v: %w", r.Lifetime, MinLifetime, MaxLifetime, ErrInvalid)
	}
	if len(r.Token) > MaxToken || strings.ContainsFunc(r.Token, func(c rune) bool { return c < ' ' || c > '~' }) {
		return fmt.Errorf("wire: registration: token of %d bytes, want at most %d of printable ASCII: %w", len(r.Token), MaxToken, ErrInvalid)
	}
	if len(r.Peers) > MaxPeers {
		return fmt.Errorf("wire: registration: %d peers, want at most %d: %w", len(r.Peers), MaxPeers, ErrInvalid)
	}
	for _, p := range r.Peers {
		if !p.Valid() {
			return fmt.Errorf("wire: registration: peer %v is not unicast: %w", p, ErrInvalid)
		}
	}
	if len(r.Heard) > MaxHeard {
		return fmt.Errorf("wire: registration: %d calls, want at most %d: %w", len(r.Heard), MaxHeard, ErrInvalid)
	}
	for _, h := range r.Heard {
		if err := h.Validate(); err != nil {
			return err
		}
	}
	return nil
}

func validAddrs(addrs []netip.Addr) error {
	if len(addrs) == 0 || len(addrs) > MaxAddrs {
		return fmt.Errorf("%d addresses, want 1 to %d: %w", len(addrs), MaxAddrs, ErrInvalid)
	}
	for i, a := range addrs {
		if !Callable(a) {
			return fmt.Errorf("address %v cannot be called: %w", a, ErrInvalid)
		}
		for _, b := range addrs[:i] {
			if a == b {
				return fmt.Errorf("address %v stands twice: %w", a, ErrInvalid)
			}
		}
	}
	return nil
}

// Callable reports whether a phone can be reached at a: a unicast address of
// one host, without a zone, that is neither loopback nor unspecified nor
// IPv6 link-local (which says nothing without its link), and not an IPv4
// address in IPv6 clothes.
func Callable(a netip.Addr) bool {
	switch {
	case !a.IsValid(), a.Is4In6(), a.Zone() != "",
		a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(),
		a.Is6() && a.IsLinkLocalUnicast(),
		a.Is4() && a.As4()[0] == 0,   // this network, RFC 6890
		a.Is4() && a.As4()[0] >= 240: // reserved and broadcast
		return false
	}
	return true
}

// maxHost is the length of a host's name in bytes (RFC 1035, section 2.3.4).
const maxHost = 253

// HostPort returns a server as host:port, with DefaultPort where it is a host, or a
// bare IPv6 address.
func HostPort(server string) (string, error) {
	if a, err := netip.ParseAddr(server); err == nil {
		return net.JoinHostPort(a.String(), strconv.Itoa(DefaultPort)), nil
	}
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		host, port = server, strconv.Itoa(DefaultPort)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" || len(host) > maxHost || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }) {
		return "", fmt.Errorf("%q is not a host or host:port: %w", clip(server), ErrInvalid)
	}
	return net.JoinHostPort(host, port), nil
}

// Validate reports why r cannot be followed.
func (r Referral) Validate() error {
	if full, err := HostPort(r.Server); err != nil || full != r.Server {
		return fmt.Errorf("wire: referral: %q is not a host:port: %w", clip(r.Server), ErrInvalid)
	}
	if r.Key == (Fingerprint{}) {
		return fmt.Errorf("wire: referral: %q has no key: %w", clip(r.Server), ErrInvalid)
	}
	return nil
}

// ValidNumber reports whether s is a short number: 3 to 8 decimal digits.
func ValidNumber(s string) bool {
	if len(s) < MinNumber || len(s) > MaxNumber {
		return false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// Validate reports why q cannot be asked: exactly one field must be set.
func (q Query) Validate() error {
	n := 0
	if q.MAC != (MAC{}) {
		n++
		if !q.MAC.Valid() {
			return fmt.Errorf("wire: query: MAC %v is not unicast: %w", q.MAC, ErrInvalid)
		}
	}
	if q.Number != "" {
		n++
		if !ValidNumber(q.Number) {
			return fmt.Errorf("wire: query: %q is not a short number of %d to %d digits: %w", clip(q.Number), MinNumber, MaxNumber, ErrInvalid)
		}
	}
	if q.Addr.IsValid() {
		n++
		if !Callable(q.Addr) {
			return fmt.Errorf("wire: query: address %v cannot be called: %w", q.Addr, ErrInvalid)
		}
	}
	if n != 1 {
		return fmt.Errorf("wire: query: %d fields set, want one: %w", n, ErrInvalid)
	}
	return nil
}

// String names what q asks for, for logs.
func (q Query) String() string {
	switch {
	case q.MAC != MAC{}:
		return q.MAC.String()
	case q.Number != "":
		return q.Number
	}
	return q.Addr.String()
}
