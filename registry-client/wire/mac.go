package wire

import "flexphone/internal/mac"

// A MAC is a phone's permanent number, an EUI-48.
type MAC = mac.Address

// ParseMAC reads the forms 02:00:5e:00:53:01, 02-00-5e-00-53-01 and
// 02005e005301, in either case of letters.
func ParseMAC(s string) (MAC, error) { return mac.Parse(s) }

// ParseDigits reads what MAC.Digits prints: exactly 15 decimal digits, at most
// 2^48-1.
func ParseDigits(s string) (MAC, error) { return mac.ParseDigits(s) }

// ParseURN reads what MAC.URN prints. It also takes fffe in the middle, as IPv6
// and older drafts of RFC 9039 have it.
func ParseURN(s string) (MAC, error) { return mac.ParseURN(s) }
