package sip

import (
	"net/netip"
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
	Codec      Codec
	DTMF       uint8         // payload type of telephone-event as the peer wants it; 0: none
	DTMFRate   int           // its clock rate in Hz
	RecvType   uint8         // payload type with which the peer sends Codec
	RecvDTMF   uint8         // payload type with which the peer sends telephone-event; 0: none
	PacketTime time.Duration // a=ptime of the peer; 0: not said
	Send, Recv bool          // our direction
}

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
	Progress    EventKind = iota + 1 // 180 or 183 came
	Established                      // 200 and ACK: Media says how to talk
	Changed                          // a re-INVITE or UPDATE was agreed: Media is new
	Ended                            // Code and Reason say why; nothing comes after it
)

// An Event is something that happened to a call.
type Event struct {
	Kind   EventKind
	Media  Media
	Code   int    // Ended: the final SIP status of a call that never was, 0 after BYE
	Reason string // Ended: "hangup", "busy", "unknown number", "no answer", "wrong phone", …
}
