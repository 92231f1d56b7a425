// Package pass is how a phone shows a relay of the storing server that it may use it,
// and to which of two phones it belongs there. Both sides of that wire import it.
//
// It knows the pass, which the storing server gives to one phone by its session and that
// phone to the other by their signalling, and the messages in which it is shown. It
// refuses to know sockets, time, who may have a pass, and what is relayed.
//
// # Showing a pass
//
// The messages are STUN Bindings (RFC 8489) with a USERNAME that says "relay", the
// name of the pair and the side, and MESSAGE-INTEGRITY by its key:
//
//	phone → relay  Binding request: USERNAME "relay:NAME:o" or "relay:NAME:g", MESSAGE-INTEGRITY, FINGERPRINT
//	relay → phone  Binding error 401: NONCE, FINGERPRINT
//	phone → relay  the same request with NONCE
//	relay → phone  Binding success: XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY, FINGERPRINT
//
// The nonce is good for the address alone that it was sent to. So the key never goes
// over that wire; who overhears a request and sends it from elsewhere is asked for
// another nonce, which only the key can make use of; and whoever is brought into a pair has
// shown that it receives there what is sent to it. An answer is shorter than its
// request, and there is none without the key.
package pass

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/netip"
	"strings"

	"github.com/pion/stun/v4"
)

// Sizes in bytes.
const (
	NameSize = 16
	KeySize  = 16
	// Size is of a pass as Bytes returns it.
	Size = NameSize + KeySize
	// longest bounds what is read of a message.
	longest = 548
)

// A Name is of a pair. It says nothing about the key.
type Name [NameSize]byte

// A Pass lets two phones into one pair. Whoever has it is in. The zero Pass is none.
type Pass struct {
	Name Name
	key  [KeySize]byte
}

// New returns a pass that nobody can guess.
func New() (p Pass) {
	rand.Read(p.Name[:]) // never fails
	rand.Read(p.key[:])
	return p
}

// Made is the pass of that name and key, neither of which is to be guessed by others.
func Made(n Name, key [KeySize]byte) Pass { return Pass{n, key} }

// Of reads what Bytes returns; ok is false where that is none.
func Of(b []byte) (p Pass, ok bool) {
	if len(b) != Size {
		return Pass{}, false
	}
	copy(p.Name[:], b)
	copy(p.key[:], b[NameSize:])
	return p, p != Pass{}
}

// Bytes returns p as it goes over a wire that others cannot read.
func (p Pass) Bytes() []byte { return append(p.Name[:len(p.Name):len(p.Name)], p.key[:]...) }

// Parse reads what Text returns.
func Parse(text string) (p Pass, ok bool) {
	if len(text) != base64.RawURLEncoding.EncodedLen(Size) {
		return Pass{}, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return Pass{}, false
	}
	return Of(b)
}

// Text returns p as 43 letters, digits, - and _ (RFC 4648, section 5).
func (p Pass) Text() string { return base64.RawURLEncoding.EncodeToString(p.Bytes()) }

// String hides the key: it is no business of a log's.
func (p Pass) String() string {
	return "pass " + base64.RawURLEncoding.EncodeToString(p.Name[:4]) + "…"
}

// A Side is one of the two of a pair.
type Side uint8

// The sides.
const (
	Owner Side = iota // who was given the pass by the server
	Guest             // to whom the owner has passed it on
)

// Other is the side across.
func (s Side) Other() Side { return s ^ 1 }

// Username's parts.
const (
	word  = "relay:"
	sides = "og"
)

func usernameOf(n Name, s Side) stun.Username {
	return stun.NewUsername(word + base64.RawURLEncoding.EncodeToString(n[:]) + ":" + sides[s:s+1])
}

// Show makes m the request that shows p; nonce is what the relay has sent last, nil if
// it has sent none.
func (p Pass) Show(m *stun.Message, tx [stun.TransactionIDSize]byte, s Side, nonce []byte) error {
	set := []stun.Setter{stun.NewTransactionIDSetter(tx), stun.BindingRequest, usernameOf(p.Name, s)}
	if len(nonce) > 0 {
		set = append(set, stun.Nonce(nonce))
	}
	return m.Build(append(set, stun.MessageIntegrity(p.key[:]), stun.Fingerprint)...)
}

// A Shown is a request as the relay reads it, before it is known whether the key is right.
type Shown struct {
	Name  Name
	Side  Side
	Nonce []byte // as long as the message is not read anew
}

// Read reads b into m; ok is false where it shows no pass: it may be for the other phone.
func Read(m *stun.Message, b []byte) (s Shown, ok bool) {
	if !decode(m, b) || m.Type != stun.BindingRequest {
		return Shown{}, false
	}
	user, err := m.Get(stun.AttrUsername)
	if err != nil || len(user) != len(word)+22+2 || string(user[:len(word)]) != word || user[len(word)+22] != ':' {
		return Shown{}, false
	}
	if _, err := base64.RawURLEncoding.Strict().Decode(s.Name[:], user[len(word):len(word)+22]); err != nil {
		return Shown{}, false
	}
	side := strings.IndexByte(sides, user[len(user)-1])
	if side < 0 || stun.Fingerprint.Check(m) != nil {
		return Shown{}, false
	}
	s.Side = Side(side)
	s.Nonce, _ = m.Get(stun.AttrNonce)
	return s, true
}

// Signed reports whether m, which Read has read, was made by who has p.
func (p Pass) Signed(m *stun.Message) bool { return stun.MessageIntegrity(p.key[:]).Check(m) == nil }

// Challenge makes m the answer that asks for the request with nonce.
func Challenge(m *stun.Message, tx [stun.TransactionIDSize]byte, nonce []byte) error {
	return m.Build(stun.NewTransactionIDSetter(tx), stun.BindingError, stun.ErrorCodeAttribute{Code: stun.CodeUnauthorized},
		stun.Nonce(nonce), stun.Fingerprint)
}

// Accept makes m the answer that the pass was taken, from the address from.
func (p Pass) Accept(m *stun.Message, tx [stun.TransactionIDSize]byte, from netip.AddrPort) error {
	return m.Build(stun.NewTransactionIDSetter(tx), stun.BindingSuccess,
		stun.XORMappedAddress{IP: from.Addr().Unmap().AsSlice(), Port: int(from.Port())}, stun.MessageIntegrity(p.key[:]), stun.Fingerprint)
}

// ErrNone is of an answer that is none to the request.
var ErrNone = errors.New("no answer of the relay")

// Answer reads an answer of the relay's to the request tx: the nonce to show the pass
// with, or the address that it was taken from.
func (p Pass) Answer(m *stun.Message, b []byte, tx [stun.TransactionIDSize]byte) (nonce []byte, mapped netip.AddrPort, err error) {
	if !decode(m, b) || m.TransactionID != tx || stun.Fingerprint.Check(m) != nil {
		return nil, mapped, ErrNone
	}
	switch m.Type {
	case stun.BindingError:
		var code stun.ErrorCodeAttribute
		nonce, err := m.Get(stun.AttrNonce)
		if err != nil || code.GetFrom(m) != nil || code.Code != stun.CodeUnauthorized || len(nonce) == 0 || len(nonce) > 128 {
			return nil, mapped, ErrNone
		}
		return append([]byte(nil), nonce...), mapped, nil
	case stun.BindingSuccess:
		var x stun.XORMappedAddress
		if !p.Signed(m) || x.GetFrom(m) != nil {
			return nil, mapped, ErrNone
		}
		ip, _ := netip.AddrFromSlice(x.IP)
		return nil, netip.AddrPortFrom(ip.Unmap(), uint16(x.Port)), nil
	}
	return nil, mapped, ErrNone
}

// decode reads b, which must be one message and nothing else.
func decode(m *stun.Message, b []byte) bool {
	if len(b) > longest || !stun.IsMessage(b) {
		return false
	}
	m.Raw = append(m.Raw[:0], b...)
	return m.Decode() == nil && int(m.Length) == len(b)-20
}
