package wire

import (
	"encoding/hex"
	"fmt"
)

// A Fingerprint is the SHA-256 hash of a device key's SubjectPublicKeyInfo.
type Fingerprint [32]byte

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
