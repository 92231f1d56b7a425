package sip

import (
	"net/netip"
	"reflect"
	"time"
)

// A Codec is one line of an SDP media description (RFC 8866).
type Codec struct {
	Name        string // encoding name: "PCMU", "PCMA", "opus", "telephone-event"
	PayloadType uint8
	ClockRate   int
	Channels    int    // 0 and 1: one
	Params      string // a=fmtp, without the payload type
}

// A LocalMedia is what we offer or answer with.
type LocalMedia struct {
	Addr   netip.Addr // goes into c=
	Port   uint16     // RTP
	Codecs []Codec    // preferred first, telephone-event among them
	Hold   bool       // we do not want to hear the peer: a=sendonly
}

// A Media is what offer and answer agreed upon (RFC 3264).
type Media struct {
	Remote     netip.AddrPort // RTP
	RemoteRTCP netip.AddrPort // RTP's port + 1, or a=rtcp (RFC 3605)
	Codec      Codec          // to send with, under the peer's payload type
	DTMF       uint8          // payload type of telephone-event as the peer wants it; 0: none
	DTMFRate   int            // its clock rate in Hz
	// Receive is every format of our own description in force, telephone-event
	// among them, under the payload types with which the peer sends it. The
	// peer may change from one to another with each packet (RFC 3264, 6.1 and
	// 7). No two have the same payload type.
	Receive    []Codec
	PacketTime time.Duration // a=ptime of the peer: a wish (RFC 8866, 6.4); 0: none
	Send, Recv bool          // our direction
	// Silent: it was agreed that the peer may send nothing for as long as it
	// likes, neither sound nor reports, so that hearing nothing does not mean
	// that it is gone (RFC 3264, 8.4). So it is unless both ends send; where
	// the peer has no port for RTCP or sends no reports (RFC 3556); and where
	// it names comfort noise (RFC 3389) or silence suppression.
	Silent bool
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
