package wire

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
)

// macDigits is how many decimal digits a MAC has on a telephone keypad: 2^48-1
// is 281474976710655, and E.164 allows 15.
const macDigits = 15

// urnPrefix begins a device's name after RFC 9039, section 4.1.
const urnPrefix = "urn:dev:mac:"

// errMAC is the cause of every refusal to read a MAC.
var errMAC = errors.New("want a unicast EUI-48 such as 02:00:5e:00:53:01")

// String returns m in the form 02:00:5e:00:53:01.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// Hex returns m as 12 lower-case hexadecimal digits, the form in paths and in
// SIP request URIs.
func (m MAC) Hex() string { return hex.EncodeToString(m[:]) }

// Valid reports whether m can be a phone's: unicast and not zero.
func (m MAC) Valid() bool { return m != MAC{} && m[0]&1 == 0 }

// ParseMAC reads the forms 02:00:5e:00:53:01, 02-00-5e-00-53-01 and
// 02005e005301, in either case of letters.
func ParseMAC(s string) (MAC, error) {
	var m MAC
	bare := s
	if len(s) == 17 {
		sep := s[2:3]
		if (sep != ":" && sep != "-") || strings.Count(s, sep) != 5 {
			return MAC{}, fmt.Errorf("wire: parse MAC %q: %w", clip(s), errMAC)
		}
		bare = strings.ReplaceAll(s, sep, "")
	}
	if len(bare) != 12 {
		return MAC{}, fmt.Errorf("wire: parse MAC %q: %w", clip(s), errMAC)
	}
	if _, err := hex.Decode(m[:], []byte(bare)); err != nil || !m.Valid() {
		return MAC{}, fmt.Errorf("wire: parse MAC %q: %w", clip(s), errMAC)
	}
	return m, nil
}

// Digits returns the number to dial: m's value as an unsigned integer in
// network byte order, in decimal, padded to 15 digits.
func (m MAC) Digits() string { return fmt.Sprintf("%0*d", macDigits, m.uint()) }

// ParseDigits reads what Digits prints: exactly 15 decimal digits, at most
// 2^48-1.
func ParseDigits(s string) (MAC, error) {
	if len(s) != macDigits {
		return MAC{}, fmt.Errorf("wire: parse digits %q: want %d of them", clip(s), macDigits)
	}
	var n uint64
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return MAC{}, fmt.Errorf("wire: parse digits %q: want decimal digits only", s)
		}
		n = n*10 + uint64(c-'0')
	}
	if n >= 1<<48 {
		return MAC{}, fmt.Errorf("wire: parse digits %q: beyond 2^48-1", s)
	}
	m := macOf(n)
	if !m.Valid() {
		return MAC{}, fmt.Errorf("wire: parse digits %q: %w", s, errMAC)
	}
	return m, nil
}

// URN returns m's device name, urn:dev:mac: and the EUI-64 that RFC 9039
// section 4.1 makes of an EUI-48 by putting ffff into its middle.
func (m MAC) URN() string {
	return urnPrefix + hex.EncodeToString(m[:3]) + "ffff" + hex.EncodeToString(m[3:])
}

// ParseURN reads what URN prints. It also takes fffe in the middle, as IPv6
// and older drafts of RFC 9039 have it.
func ParseURN(s string) (MAC, error) {
	body, ok := strings.CutPrefix(s, urnPrefix)
	if !ok || len(body) != 16 || (body[6:10] != "ffff" && body[6:10] != "fffe") {
		return MAC{}, fmt.Errorf("wire: parse URN %q: want %s and an EUI-48 as EUI-64", clip(s), urnPrefix)
	}
	if strings.ToLower(body) != body {
		return MAC{}, fmt.Errorf("wire: parse URN %q: want lower-case digits", s)
	}
	m, err := ParseMAC(body[:6] + body[10:])
	if err != nil {
		return MAC{}, fmt.Errorf("wire: parse URN %q: %w", s, errMAC)
	}
	return m, nil
}

// MarshalText returns String's form, for JSON.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads every form that ParseMAC does.
func (m *MAC) UnmarshalText(text []byte) error {
	v, err := ParseMAC(string(text))
	if err != nil {
		return err
	}
	*m = v
	return nil
}

func (m MAC) uint() uint64 {
	var n uint64
	for _, b := range m {
		n = n<<8 | uint64(b)
	}
	return n
}

func macOf(n uint64) MAC {
	var m MAC
	for i := len(m) - 1; i >= 0; i-- {
		m[i] = byte(n)
		n >>= 8
	}
	return m
}

// String returns f as 64 lower-case hexadecimal digits.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// ParseFingerprint reads what String prints, in either case of letters.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	if len(s) != hex.EncodedLen(len(f)) {
		return f, fmt.Errorf("wire: parse fingerprint %q: want %d hexadecimal digits", clip(s), hex.EncodedLen(len(f)))
	}
	if _, err := hex.Decode(f[:], []byte(s)); err != nil {
		return Fingerprint{}, fmt.Errorf("wire: parse fingerprint %q: %w", s, err)
	}
	return f, nil
}

// MarshalText returns String's form, for JSON.
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads what ParseFingerprint does.
func (f *Fingerprint) UnmarshalText(text []byte) error {
	v, err := ParseFingerprint(string(text))
	if err != nil {
		return err
	}
	*f = v
	return nil
}

// clip keeps hostile input out of logs in full length.
func clip(s string) string {
	const most = 40
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
