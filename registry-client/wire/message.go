package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/udp/coder"
)

// MaxMessage bounds a CoAP message, in bytes, so that with DTLS, UDP and IPv6
// around it it fits into one packet of 1280 bytes.
const MaxMessage = 1152

// Codes that go-coap has no name for.
const (
	CodeConflict        codes.Code = 137 // 4.09, RFC 8132 section 2.3.1
	CodeTooManyRequests codes.Code = 157 // 4.29, RFC 8516
)

// MaxOptions is how many options of a message there is room for at once; for
// more it is made.
const MaxOptions = 16

// EncodeMessage returns m as one datagram. m's options must be in order.
func EncodeMessage(m message.Message) ([]byte, error) { return AppendMessage(nil, m) }

// AppendMessage is EncodeMessage that appends to b.
func AppendMessage(b []byte, m message.Message) ([]byte, error) {
	b = slices.Grow(b, MaxMessage)
	n, err := coder.DefaultCoder.Encode(m, b[len(b):len(b)+MaxMessage])
	if err != nil {
		return nil, fmt.Errorf("wire: encode message: %w", err)
	}
	return b[:len(b)+n], nil
}

// DecodeMessage reads one datagram. The message refers to b's bytes.
func DecodeMessage(b []byte) (message.Message, error) {
	m := message.Message{Options: make(message.Options, 0, MaxOptions)}
	if err := DecodeInto(&m, b); err != nil {
		return message.Message{}, err
	}
	return m, nil
}

// DecodeInto is DecodeMessage into m. The room of m's Options is used, and must
// be for MaxOptions.
func DecodeInto(m *message.Message, b []byte) error {
	if len(b) > MaxMessage {
		return fmt.Errorf("wire: decode message: %d bytes, want at most %d: %w", len(b), MaxMessage, ErrInvalid)
	}
	room := m.Options[:0]
	_, err := coder.DefaultCoder.Decode(b, m)
	if errors.Is(err, message.ErrOptionsTooSmall) {
		m.Options = make(message.Options, 0, len(b)) // each takes a byte at the least
		_, err = coder.DefaultCoder.Decode(b, m)
	}
	if err == nil {
		err = complete(m, b)
	}
	if err != nil {
		m.Options = room
		return fmt.Errorf("wire: decode message: %w: %w", ErrInvalid, err)
	}
	if m.Code == codes.Empty && (len(m.Token) != 0 || len(m.Options) != 0 || len(m.Payload) != 0) {
		// RFC 7252 section 4.1: nothing follows the message ID.
		return fmt.Errorf("wire: decode message: empty message with content: %w", ErrInvalid)
	}
	return nil
}

// Of an option's delta and length, RFC 7252 section 3.1.
const (
	payloadMarker = 0xff
	extendByte    = 13 // one more byte holds what is above that
	extendWord    = 14 // two more bytes hold what is above 269
)

// complete makes up for what the codec leaves out of b, which it has taken: a
// payload marker with nothing after it is a format error (RFC 7252, section 3),
// and a critical option whose length is wrong is one that is not understood
// (section 5.4.3), rather than none.
func complete(m *message.Message, b []byte) error {
	rest := b[4+len(m.Token):]
	id := 0
	extended := func(n int) int {
		switch n {
		case extendByte:
			n += int(rest[0])
			rest = rest[1:]
		case extendWord:
			n = 269 + int(binary.BigEndian.Uint16(rest))
			rest = rest[2:]
		}
		return n
	}
	for len(rest) > 0 && rest[0] != payloadMarker {
		delta, length := int(rest[0]>>4), int(rest[0]&15)
		rest = rest[1:]
		id += extended(delta)
		length = extended(length)
		if o := (message.Option{ID: message.OptionID(id), Value: rest[:length]}); id%2 == 1 && !LegalLength(o) {
			after := slices.IndexFunc(m.Options, func(other message.Option) bool { return other.ID > o.ID })
			if after < 0 {
				after = len(m.Options)
			}
			m.Options = slices.Insert(m.Options, after, o)
		}
		rest = rest[length:]
	}
	if len(rest) == 1 {
		return errors.New("a payload marker and no payload")
	}
	return nil
}

// LegalLength reports whether the value of an option is as long as its
// definition allows; of an unknown one it may have any length.
func LegalLength(o message.Option) bool {
	def, known := message.CoapOptionDefs[o.ID]
	return !known || def.ValueFormat != message.ValueUnknown && uint32(len(o.Value)) >= def.MinLen && uint32(len(o.Value)) <= def.MaxLen
}

// PathOptions returns the segments of a path as options, ready for more.
func PathOptions(segments []string) message.Options {
	opts := make(message.Options, 0, len(segments)+4)
	for _, s := range segments {
		opts = append(opts, message.Option{ID: message.URIPath, Value: []byte(s)})
	}
	return opts
}

// Strings returns the values of all options id of m.
func Strings(m message.Message, id message.OptionID) []string {
	n := 0
	for _, o := range m.Options {
		if o.ID == id {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	out := make([]string, 0, n)
	for _, o := range m.Options {
		if o.ID == id {
			out = append(out, string(o.Value))
		}
	}
	return out
}

// UintOption returns an option with value v in the fewest bytes (RFC 7252,
// section 3.2).
func UintOption(id message.OptionID, v uint32) message.Option {
	var b []byte
	for ; v > 0; v >>= 8 {
		b = append([]byte{byte(v)}, b...)
	}
	return message.Option{ID: id, Value: b}
}

// Uint returns the value of m's first option id, and whether it has one of at
// most four bytes.
func Uint(m message.Message, id message.OptionID) (uint32, bool) {
	for _, o := range m.Options {
		if o.ID != id {
			continue
		}
		if len(o.Value) > 4 {
			return 0, false
		}
		var v uint32
		for _, b := range o.Value {
			v = v<<8 | uint32(b)
		}
		return v, true
	}
	return 0, false
}
