// Package mac is the one number that a phone has for ever: its hardware address,
// which is its permanent telephone number as well.
//
// It knows how such an address is written: with colons, in decimal digits for a
// keypad, as a device URN. It refuses to know interfaces, rows and calls.
package mac

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
)

// digits is how many decimal digits an Address has on a telephone keypad: 2^48-1
// is 281474976710655, and E.164 allows 15.
const digits = 15

// urnPrefix begins a device's name after RFC 9039, section 4.1.
const urnPrefix = "urn:dev:mac:"

// errAddress is the cause of every refusal to read a MAC.
var errAddress = errors.New("want a unicast EUI-48 such as 02:00:5e:00:53:01")

// An Address is an EUI-48. It is comparable, unlike net.HardwareAddr; the zero
// Address is none.
type Address [6]byte

// String returns m in the form 02:00:5e:00:53:01.
func (m Address) String() string { return net.HardwareAddr(m[:]).String() }

// Hex returns m as 12 lower-case hexadecimal digits, the form in paths and in
// SIP request URIs.
func (m Address) Hex() string { return hex.EncodeToString(m[:]) }

// Valid reports whether m can be a phone's: unicast and not zero.
func (m Address) Valid() bool { return m != Address{} && m[0]&1 == 0 }

// Parse reads the forms 02:00:5e:00:53:01, 02-00-5e-00-53-01 and
// 02005e005301, in either case of letters.
func Parse(s string) (Address, error) {
	var m Address
	bare := s
	if len(s) == 17 {
		sep := s[2:3]
		if (sep != ":" && sep != "-") || strings.Count(s, sep) != 5 {
			return Address{}, fmt.Errorf("mac: parse %q: %w", clip(s), errAddress)
		}
		bare = strings.ReplaceAll(s, sep, "")
	}
	if len(bare) != 12 {
		return Address{}, fmt.Errorf("mac: parse %q: %w", clip(s), errAddress)
	}
	if _, err := hex.Decode(m[:], []byte(bare)); err != nil || !m.Valid() {
		return Address{}, fmt.Errorf("mac: parse %q: %w", clip(s), errAddress)
	}
	return m, nil
}

// Digits returns the number to dial: m's value as an unsigned integer in
// network byte order, in decimal, padded to 15 digits.
func (m Address) Digits() string { return fmt.Sprintf("%0*d", digits, m.uint()) }

// ParseDigits reads what Digits prints: exactly 15 decimal digits, at most
// 2^48-1.
func ParseDigits(s string) (Address, error) {
	if len(s) != digits {
		return Address{}, fmt.Errorf("mac: parse digits %q: want %d of them", clip(s), digits)
	}
	var n uint64
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return Address{}, fmt.Errorf("mac: parse digits %q: want decimal digits only", s)
		}
		n = n*10 + uint64(c-'0')
	}
	if n >= 1<<48 {
		return Address{}, fmt.Errorf("mac: parse digits %q: beyond 2^48-1", s)
	}
	m := addressOf(n)
	if !m.Valid() {
		return Address{}, fmt.Errorf("mac: parse digits %q: %w", s, errAddress)
	}
	return m, nil
}

// URN returns m's device name, urn:dev:mac: and the EUI-64 that RFC 9039
// section 4.1 makes of an EUI-48 by putting ffff into its middle.
func (m Address) URN() string {
	return urnPrefix + hex.EncodeToString(m[:3]) + "ffff" + hex.EncodeToString(m[3:])
}

// ParseURN reads what URN prints. It also takes fffe in the middle, as IPv6
// and older drafts of RFC 9039 have it.
func ParseURN(s string) (Address, error) {
	body, ok := strings.CutPrefix(s, urnPrefix)
	if !ok || len(body) != 16 || (body[6:10] != "ffff" && body[6:10] != "fffe") {
		return Address{}, fmt.Errorf("mac: parse URN %q: want %s and an EUI-48 as EUI-64", clip(s), urnPrefix)
	}
	if strings.ToLower(body) != body {
		return Address{}, fmt.Errorf("mac: parse URN %q: want lower-case digits", s)
	}
	m, err := Parse(body[:6] + body[10:])
	if err != nil {
		return Address{}, fmt.Errorf("mac: parse URN %q: %w", s, errAddress)
	}
	return m, nil
}

// MarshalText returns String's form, for JSON.
func (m Address) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads every form that Parse does.
func (m *Address) UnmarshalText(text []byte) error {
	v, err := Parse(string(text))
	if err != nil {
		return err
	}
	*m = v
	return nil
}

func (m Address) uint() uint64 {
	var n uint64
	for _, b := range m {
		n = n<<8 | uint64(b)
	}
	return n
}

func addressOf(n uint64) Address {
	var m Address
	for i := len(m) - 1; i >= 0; i-- {
		m[i] = byte(n)
		n >>= 8
	}
	return m
}

// clip keeps hostile input out of logs in full length.
func clip(s string) string {
	const most = 40
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
