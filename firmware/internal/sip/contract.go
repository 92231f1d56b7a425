package sip

import (
	"errors"
	"net/netip"
	"reflect"
	"time"
)

// Well-known ports: of SIP over UDP and TCP, and over TLS (RFC 3261, 19.1.2).
const (
	Port       = 5060
	SecurePort = 5061
)

// A LocalMedia is our end of a call's media as it is at a time: it writes what
// signalling carries to the peer, and reads what comes back (RFC 3264). It is
// asked by one goroutine at a time. Bodies are application/sdp.
type LocalMedia interface {
	// Offer describes this end to the peer.
	Offer() (offer []byte, err error)
	// Answer answers an offer that came from the host from, and tells what is
	// agreed by that.
	Answer(offer []byte, from netip.Addr) (answer []byte, m Media, err error)
	// Take tells what is agreed by an answer, from the host from, to what Offer
	// wrote last. There may be several: each phone that an INVITE reaches, or
	// the same one again, gives its own.
	Take(answer []byte, from netip.Addr) (Media, error)
}

// Errors of a LocalMedia that the peer is told about. Every other is ErrNoMedia
// to it.
var (
	ErrNoMedia     = errors.New("no audio that both ends can do")
	ErrDescription = errors.New("malformed session description")
)

// A Media is what offer and answer agreed upon, as far as a telephone has to know
// it, however its sound is carried.
type Media struct {
	Remote     netip.AddrPort // where what we say goes
	Codec      string         // that we say it in, by its name
	PacketTime time.Duration  // a=ptime of the peer: a wish (RFC 8866, 6.4); 0: none
	Send, Recv bool           // our direction
	// Holds: this end has the other wait, so that Send does not say whether the other
	// would listen.
	Holds bool
	// Private: what is said is encrypted, with keys of which TLS says that they
	// are the peer's.
	Private bool
	// Silent: it was agreed that the peer may send nothing for as long as it
	// likes, neither sound nor reports, so that hearing nothing does not mean
	// that it is gone (RFC 3264, 8.4). So it is unless both ends send; where
	// the peer has no port for RTCP or sends no reports (RFC 3556); and where
	// it names comfort noise (RFC 3389) or silence suppression.
	Silent bool
	// Terms are everything else. They are read by whoever carries the sound, who
	// knows of what kind its LocalMedia was.
	Terms any
}

// Equal reports whether m and o are the same agreement.
func (m Media) Equal(o Media) bool { return reflect.DeepEqual(m, o) }

// A Target is whom an INVITE goes to, and where.
type Target struct {
	User string         // of the request URI: 12 hex digits of the MAC, or what was dialled
	Addr netip.AddrPort // where the phone is now
	// Pin, unless zero, asks for TLS 1.3 to Addr with the peer's certificate
	// holding the key of this SHA-256 fingerprint (of SubjectPublicKeyInfo).
	Pin [32]byte
	Way Way // by what the phone may be connected with, if it is called by its key
	// Browser: it is no phone, but the page of a browser, which has no Addr. Who calls it
	// is not this package.
	Browser bool
}

// An EventKind says what happened to a call.
type EventKind int

// The events of a call, in the order in which they can come.
const (
	Progress EventKind = iota + 1 // 180 or 183 came
	// Early: sound may flow with Media before the call is up, and may come
	// again with another Media. To the caller it means early media, described
	// in a 180 or 183 (RFC 3261, 13.2.1; RFC 3960); to the answerer that its
	// 200 has left: it speaks without waiting for the ACK (RFC 3264, 6).
	Early
	Established // 200 and ACK: Media says how to talk
	Changed     // a re-INVITE or UPDATE was agreed: Media is new
	Ended       // Code and Reason say why; nothing comes after it
)

// An Event is something that happened to a call.
type Event struct {
	Kind   EventKind
	Media  Media
	Code   int    // Ended: the final SIP status of a call that never was, 0 after BYE
	Reason string // Ended: "hangup", "busy", "unknown number", "no answer", "wrong phone", …
}
