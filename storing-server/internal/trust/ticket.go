package trust

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"flexphone/registry-client/wire"
)

const (
	// ticketLasts is for how long another region's server takes one: a phone that calls
	// there every day asks its own server once a day.
	ticketLasts = 24 * time.Hour
	// guestsMost bounds how many keys with tickets a generation remembers.
	guestsMost = 1 << 16
	// ticketFor stands before what is signed. What TLS 1.2 has a server sign begins
	// with 64 bytes of randomness, and is longer (RFC 8422, section 5.4).
	ticketFor = "flexphone ticket\x00"
)

// A Door lets phones of other regions ask where a phone is: each brings the word of its
// own region's server, a ticket. It is a signature by the server's key, of the phone's
// and a time:
//
//	32 bytes   the public key, Ed25519
//	 8 bytes   until when, in milliseconds since 1970
//	64 bytes   the signature of "flexphone ticket", a zero byte, the fingerprint of the
//	           phone's key, and the 8 bytes
//
// It is safe for concurrent use, and its memory is bounded as a Limiter's.
type Door struct {
	key    ed25519.PrivateKey
	server wire.Fingerprint
	most   int

	mu       sync.Mutex
	now, old map[wire.Fingerprint]time.Time // keys that have shown one, and until when
}

// NewDoor returns the door of the server with a key.
func NewDoor(key ed25519.PrivateKey) (*Door, error) {
	server, err := fingerprintOf(key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("trust: read server key: %w", err)
	}
	return &Door{key: key, server: server, most: guestsMost, now: map[wire.Fingerprint]time.Time{}}, nil
}

func fingerprintOf(key ed25519.PublicKey) (wire.Fingerprint, error) {
	spki, err := x509.MarshalPKIXPublicKey(key)
	return sha256.Sum256(spki), err
}

// Server returns the fingerprint of the server's key.
func (d *Door) Server() wire.Fingerprint { return d.server }

func signed(guest wire.Fingerprint, until []byte) []byte {
	return slices.Concat([]byte(ticketFor), guest[:], until)
}

// Ticket gives this server's word for a phone.
func (d *Door) Ticket(guest wire.Fingerprint, now time.Time) wire.Ticket {
	until := binary.BigEndian.AppendUint64(nil, uint64(now.Add(ticketLasts).UnixMilli()))
	return wire.Ticket(slices.Concat(d.key.Public().(ed25519.PublicKey), until, ed25519.Sign(d.key, signed(guest, until))))
}

// Knows reports whether a phone has shown a ticket that is still good.
func (d *Door) Knows(guest wire.Fingerprint, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	until, ok := d.now[guest]
	if !ok {
		until, ok = d.old[guest]
	}
	return ok && now.Before(until)
}

// Show takes a phone's ticket. known says which servers' word counts.
func (d *Door) Show(guest wire.Fingerprint, t wire.Ticket, known func(server wire.Fingerprint) bool, now time.Time) bool {
	const timeSize = 8
	if len(t) != ed25519.PublicKeySize+timeSize+ed25519.SignatureSize {
		return false
	}
	key, rest := ed25519.PublicKey(t[:ed25519.PublicKeySize]), []byte(t[ed25519.PublicKeySize:])
	until := time.UnixMilli(int64(binary.BigEndian.Uint64(rest)))
	server, err := fingerprintOf(key)
	switch {
	case err != nil, !now.Before(until), until.After(now.Add(2 * ticketLasts)), !known(server):
		return false
	case !ed25519.Verify(key, signed(guest, rest[:timeSize]), rest[timeSize:]):
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.now) >= d.most {
		d.now, d.old = make(map[wire.Fingerprint]time.Time, d.most/4), d.now
	}
	d.now[guest] = until
	return true
}
