// Package secret is what must never be read in a log: bytes that are written as
// *** wherever a program writes them.
//
// It knows the ways in which Go writes a value: fmt, log/slog and the encodings. It
// refuses to know what the bytes are for. They do not stand in the value itself,
// so that a struct around it, whose fields fmt reads without asking them, shows
// no more than where they are.
package secret

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"log/slog"
)

const shown = "***"

// A Bytes is a secret. The zero Bytes is none. It never changes.
type Bytes struct{ hidden *box }

// A box is one pointer more than fmt follows for a verb that does not suit.
type box struct{ bytes *[]byte }

// Of is a secret of a copy of b.
func Of(b []byte) Bytes {
	if len(b) == 0 {
		return Bytes{}
	}
	kept := bytes.Clone(b)
	return Bytes{&box{&kept}}
}

// Reveal returns the bytes, which must not be changed. They are the caller's to
// keep out of sight.
func (s Bytes) Reveal() []byte {
	if s.hidden == nil {
		return nil
	}
	return *s.hidden.bytes
}

// Len is how many bytes there are.
func (s Bytes) Len() int { return len(s.Reveal()) }

// Equal compares in a time that does not depend on what is compared.
func (s Bytes) Equal(o Bytes) bool { return subtle.ConstantTimeCompare(s.Reveal(), o.Reveal()) == 1 }

// String implements fmt.Stringer.
func (s Bytes) String() string { return shown }

// GoString implements fmt.GoStringer.
func (s Bytes) GoString() string { return shown }

// Format implements fmt.Formatter, for each verb.
func (s Bytes) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(shown)) } // there is nobody to tell

// MarshalText implements encoding.TextMarshaler.
func (s Bytes) MarshalText() ([]byte, error) { return []byte(shown), nil }

// MarshalBinary implements encoding.BinaryMarshaler, and so gob.
func (s Bytes) MarshalBinary() ([]byte, error) { return []byte(shown), nil }

// MarshalJSON implements json.Marshaler.
func (s Bytes) MarshalJSON() ([]byte, error) { return []byte(`"` + shown + `"`), nil }

// LogValue implements slog.LogValuer.
func (s Bytes) LogValue() slog.Value { return slog.StringValue(shown) }
