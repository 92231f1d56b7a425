package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"flexphone/registry-client/wire"
)

// A Phone is a standard SIP phone as the operator has added it. It proves
// itself by a password instead of a key, so its row has no fingerprint.
type Phone struct {
	User   string `cbor:"1,keyasint"` // as it stands in the phone's own settings
	MD5    []byte `cbor:"2,keyasint"` // H(user:realm:password), RFC 7616 section 3.4.2
	SHA256 []byte `cbor:"3,keyasint"` // the same by SHA-256
	// Number is the phone's short number until it has a row, which then says.
	Number string `cbor:"4,keyasint,omitempty"`

	MAC wire.MAC `cbor:"-"`
}

// A Binding is what a standard phone registered: where it can be called, and
// what tells a newer registration from an older one.
type Binding struct {
	Contact string `cbor:"1,keyasint"` // its URI
	CallID  []byte `cbor:"2,keyasint"` // a hash
	CSeq    uint32 `cbor:"3,keyasint"`
	// Nonce is when the server issued the nonce that the registration was made
	// with, in microseconds of Unix time, and Count is its nonce count.
	Nonce int64  `cbor:"4,keyasint"`
	Count uint32 `cbor:"5,keyasint"`

	Addr netip.Addr `cbor:"-"`
	Port uint16     `cbor:"-"`
}

// Refusals of a standard phone's registration.
var (
	// ErrOutOfOrder: one with a higher CSeq and the same Call-ID came before.
	ErrOutOfOrder = errors.New("a newer registration came before")
	// ErrOldNonce: one with a newer nonce came before. A phone that is there
	// takes a new one and asks again; a datagram that was delayed does not.
	ErrOldNonce = errors.New("a registration with a newer nonce came before")
	// ErrOwned: the MAC belongs to a phone that has a key.
	ErrOwned = errors.New("the MAC belongs to a phone with a key of its own")
)

// UserMAC returns the MAC that a standard phone's user name stands for: the
// MAC that it spells, in hexadecimal or as 15 digits, or else a locally
// administered one made of a hash of the name.
func UserMAC(user string) wire.MAC {
	if m, err := wire.ParseMAC(user); err == nil {
		return m
	}
	if m, err := wire.ParseDigits(user); err == nil {
		return m
	}
	h := sha256.Sum256([]byte("flexphone user " + user))
	m := wire.MAC(h[:6])
	m[0] = m[0]&^3 | 2
	return m
}

// ValidUser reports whether a standard phone may be called so.
func ValidUser(user string) bool {
	return user != "" && len(user) <= 64 && strings.Trim(user, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+") == ""
}

// AddPhone adds a standard phone, or gives it another password. A user name
// that is a short number is also the phone's number; others get one of the
// range. The phone's number is returned.
func (s *Store) AddPhone(ctx context.Context, p Phone) (number string, err error) {
	if !ValidUser(p.User) {
		return "", fmt.Errorf("store: add phone %q: want 1 to 64 letters, digits and -_.+: %w", p.User, wire.ErrInvalid)
	}
	p.MAC = UserMAC(p.User)
	var given string // the plan may outlive ctx, and then nobody reads this
	err = s.do(ctx, func(v *view) error {
		var err error
		given, err = v.addPhone(p, s.opts.Numbers)
		return err
	})
	if err != nil {
		return "", err
	}
	return given, nil
}

// Phone returns the standard phone whose MAC is mac.
func (s *Store) Phone(mac wire.MAC) (Phone, bool) {
	p, ok := readNote[Phone](s.table.note(noteKey{phoneNote, string(mac[:])}).data)
	p.MAC = mac
	return p, ok
}

// Phones returns all standard phones, ordered by user.
func (s *Store) Phones() []Phone {
	var out []Phone
	for key, data := range s.table.notesOf(phoneNote) {
		if p, ok := readNote[Phone](data); ok && len(key) == len(p.MAC) {
			copy(p.MAC[:], key)
			if e, known := s.table.row(p.MAC); known && !e.gone {
				p.Number = e.Number
			}
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b Phone) int { return strings.Compare(a.User, b.User) })
	return out
}

// Binding returns what the phone with that MAC registered last, whether or not
// it has expired.
func (s *Store) Binding(mac wire.MAC) (Binding, bool) {
	return readNote[Binding](s.table.note(noteKey{bindingNote, string(mac[:])}).data)
}

// Bind stores the registration of a standard phone. A lifetime of zero takes
// it off the net. When it returns nil, it is on the disk.
func (s *Store) Bind(ctx context.Context, mac wire.MAC, b Binding, lifetime time.Duration) (row wire.Row, err error) {
	var stored wire.Row // the plan may outlive ctx, and then nobody reads this
	err = s.do(ctx, func(v *view) error {
		if err := v.bind(mac, b, lifetime, s.opts.Numbers); err != nil {
			return err
		}
		if rec, ok := v.row(mac); ok {
			stored = rec.row(v.now)
		}
		return nil
	})
	if err != nil {
		return wire.Row{}, err
	}
	return stored, nil
}

func (v *view) phone(mac wire.MAC) (Phone, bool) {
	p, ok := readNote[Phone](v.note(noteKey{phoneNote, string(mac[:])}))
	p.MAC = mac
	return p, ok
}

func (v *view) addPhone(p Phone, numbers Numbers) (string, error) {
	rec, known := v.row(p.MAC)
	old, added := v.phone(p.MAC)
	switch {
	case known && !v.ownerless(rec) && !added:
		return "", fmt.Errorf("store: add phone %s: %v: %w", p.User, p.MAC, ErrOwned)
	case known:
		p.Number = rec.Number
	case added:
		p.Number = old.Number
	case wire.ValidNumber(p.User):
		if err := v.vacant(p.User, p.MAC); err != nil {
			return "", err
		}
		p.Number = p.User
		v.setNumber(p.User, p.MAC)
	default:
		if p.Number = v.free(numbers, p.MAC); p.Number != "" {
			v.setNumber(p.Number, p.MAC)
		}
	}
	if err := v.putNote(noteKey{phoneNote, string(p.MAC[:])}, p); err != nil {
		return "", err
	}
	event := EventPhoneAdded
	if added {
		event = EventPhoneChanged
	}
	v.tell(Event{Event: event, MAC: p.MAC, Number: p.Number, User: p.User})
	return p.Number, nil
}

// bind replaces the row when b is newer than what made it.
//
// # Why
//
// A registration that was delayed must not bring an old address back. Within
// one Call-ID the CSeq tells (RFC 3261, section 10.3). A phone that was started
// anew has another Call-ID and counts from the beginning, so that between two
// Call-IDs the time tells when their nonces were issued: it is the server's
// own.
func (v *view) bind(mac wire.MAC, b Binding, lifetime time.Duration, numbers Numbers) error {
	p, ok := v.phone(mac)
	if !ok {
		return unknown(mac)
	}
	rec, known := v.row(mac)
	key := noteKey{bindingNote, string(mac[:])}
	if old, bound := readNote[Binding](v.note(key)); bound {
		same := slices.Equal(old.CallID, b.CallID)
		switch {
		case same && b.CSeq == old.CSeq && b.Nonce == old.Nonce && b.Count == old.Count && b.Contact == old.Contact:
			return nil // the answer was lost
		case same && b.CSeq <= old.CSeq:
			return fmt.Errorf("store: bind %s: CSeq %d, it had %d: %w", p.User, b.CSeq, old.CSeq, ErrOutOfOrder)
		case b.Nonce < old.Nonce, b.Nonce == old.Nonce && (!same || b.Count <= old.Count):
			return fmt.Errorf("store: bind %s: %w", p.User, ErrOldNonce)
		}
	}
	if lifetime == 0 {
		if known {
			next := rec
			next.Sequence++
			if rec.online(v.now) {
				next.Released = momentOf(v.now)
			} else if rec.Released == 0 {
				next.Released = rec.Expiry
			}
			v.setRow(mac, &next)
		}
		return v.putNote(key, b)
	}
	next := record{
		MAC: mac, Number: p.Number, Addrs: []netip.Addr{b.Addr}, Ports: wire.Ports{SIP: b.Port},
		Sequence: 1, Since: momentOf(v.now), Expiry: momentOf(v.now.Add(lifetime)),
	}
	next.Trail = rec.trailTo(next.Addrs, v.now)
	if known {
		next.Number, next.Sequence = rec.Number, rec.Sequence+1
		if rec.online(v.now) {
			next.Since = rec.Since
		}
	} else if next.Number == "" {
		if next.Number = v.free(numbers, p.MAC); next.Number != "" {
			v.setNumber(next.Number, mac)
		}
	}
	v.setRow(mac, &next)
	return v.putNote(key, b)
}
