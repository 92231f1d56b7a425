package directory

import (
	"net/netip"
	"slices"
	"strings"

	"flexphone/internal/mac"
)

// Name is what people see of a phone: its short number, or the 15 digits of its
// MAC where it has none.
func Name(number string, m mac.Address) string {
	if number != "" {
		return number
	}
	return m.Digits()
}

// A Self is by what others know this phone, as it is at a time.
type Self struct {
	MAC    mac.Address  // zero: not known yet
	Number string       // short; empty: none
	Addrs  []netip.Addr // that it has, preferred first; empty: no network
}

// Name is what others see of this phone.
func (s Self) Name() string { return Name(s.Number, s.MAC) }

// Owns reports whether a call to user is for this phone: its MAC in any writing,
// its 15 digits or its short number. A URI without a user, or with our address for
// one, means whoever is at the address.
func (s Self) Owns(user string) bool {
	if a, err := netip.ParseAddr(user); err == nil && slices.Contains(s.Addrs, a) {
		return true
	}
	user = strings.ToLower(strings.NewReplacer(":", "", "-", "").Replace(user))
	return user == "" || user == s.MAC.Hex() || user == s.MAC.Digits() || s.Number != "" && user == s.Number
}

// AddressFor returns our address of the family of peer, or the first that we have;
// the zero Addr if there is none.
func (s Self) AddressFor(peer netip.Addr) netip.Addr {
	for _, a := range s.Addrs {
		if a.Is4() == peer.Unmap().Is4() {
			return a
		}
	}
	if len(s.Addrs) == 0 {
		return netip.Addr{}
	}
	return s.Addrs[0]
}
