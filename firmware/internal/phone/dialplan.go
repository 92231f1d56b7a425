package phone

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"flexphone/internal/mac"
)

const (
	macDigits   = 15 // 2^48-1 in decimal; as long as the longest E.164 number
	aliasFewest = 3  // digits of a short number
	aliasMost   = 8
	maxMAC      = 1<<48 - 1
	dialMost    = 15 // characters of the longest number, 255*255*255*255 as well
)

// errNumber is wrapped by every error of ParseNumber.
var errNumber = errors.New("not a number of this dial plan: dial 3 to 8 digits, all 15 digits of a MAC, or an address as 10*77*0*9")

// A Destination is what a dialled number means: exactly one field is set.
type Destination struct {
	MAC    mac.Address // 15 digits: the MAC's decimal value
	Number string      // 3 to 8 digits: a short number
	Addr   netip.Addr  // digits with stars between them: an IPv4 address
}

// String returns d as a person would dial it.
func (d Destination) String() string {
	switch {
	case d.Addr.IsValid():
		return strings.ReplaceAll(d.Addr.String(), ".", "*")
	case d.Number != "":
		return d.Number
	}
	return d.MAC.Digits()
}

// ParseNumber says what the dialled characters mean. A trailing # is no part of
// them.
func ParseNumber(dialled string) (Destination, error) {
	if strings.Contains(dialled, "*") {
		return parseAddr(dialled)
	}
	for _, r := range dialled {
		if r < '0' || r > '9' {
			return Destination{}, fmt.Errorf("phone: dial %q: %w", dialled, errNumber)
		}
	}
	switch n := len(dialled); {
	case n >= aliasFewest && n <= aliasMost:
		return Destination{Number: dialled}, nil
	case n == macDigits:
		v, err := strconv.ParseUint(dialled, 10, 64)
		if err != nil || v > maxMAC || v == 0 {
			return Destination{}, fmt.Errorf("phone: dial %q: no MAC has this value: %w", dialled, errNumber)
		}
		var d Destination
		for i := range d.MAC {
			d.MAC[i] = byte(v >> (8 * (5 - i)))
		}
		return d, nil
	}
	return Destination{}, fmt.Errorf("phone: dial %q: %d digits: %w", dialled, len(dialled), errNumber)
}

func parseAddr(dialled string) (Destination, error) {
	addr, err := netip.ParseAddr(strings.ReplaceAll(dialled, "*", "."))
	if err != nil || !addr.Is4() || addr.IsUnspecified() || addr.IsMulticast() {
		return Destination{}, fmt.Errorf("phone: dial %q: no address: %w", dialled, errNumber)
	}
	return Destination{Addr: addr}, nil
}

// complete reports whether nothing that could be dialled after dialled would
// make it a longer number, so that the phone need not wait for more.
func complete(dialled string) bool {
	if !strings.Contains(dialled, "*") {
		return len(dialled) >= macDigits
	}
	last := dialled[strings.LastIndexByte(dialled, '*')+1:]
	return len(dialled) >= dialMost || strings.Count(dialled, "*") == 3 && len(last) == 3
}
