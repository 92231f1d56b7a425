// Package media is what two phones tell each other about their sound: offers and
// answers (RFC 3264) in session descriptions (RFC 8866), and what follows from
// them. Signalling carries these as bytes and asks for them by sip.LocalMedia, of
// which Plain, RTP as anybody can read it, is an implementation.
//
// It knows codecs by their names and parameters only, and where sound is to go. It
// refuses to know sound itself, calls, their messages, and the user. What was
// agreed reaches whoever carries the sound as RTP, in the terms of a sip.Media.
//
// # What peers describe
//
// Descriptions are written by pion/sdp and read here: its reader wants every
// line to be known and in its place, and other telephones send lines that are
// neither. What cannot be read costs its own stream, never the call. The first
// stream of sound that plain RTP can carry is taken and every other refused in
// its place. No name in a description is looked up: where c= holds one, or is
// missing, media go to the host that the message came from.
package media

import (
	"net/netip"

	"flexphone/firmware/internal/reach"
	"flexphone/firmware/internal/sip"
)

// A Codec is one line of an SDP media description (RFC 8866).
type Codec struct {
	Name        string // encoding name: "PCMU", "PCMA", "opus", "telephone-event"
	PayloadType uint8
	ClockRate   int
	Channels    int    // 0 and 1: one
	Params      string // a=fmtp, without the payload type
}

// A Local is what we offer or answer with.
type Local struct {
	Addr   netip.Addr // goes into c=
	Port   uint16     // RTP
	Codecs []Codec    // preferred first, telephone-event among them
	Hold   bool       // we do not want to hear the peer: a=sendonly
}

// RTP are the terms of plain RTP, beside what a sip.Media says itself.
type RTP struct {
	RemoteRTCP netip.AddrPort // RTP's port + 1, or a=rtcp (RFC 3605); invalid: none
	Codec      Codec          // to send with, under the peer's payload type and with its parameters
	DTMF       uint8          // payload type of telephone-event as the peer wants it; 0: none
	DTMFRate   int            // its clock rate in Hz
	// Receive is every format of our own description in force, telephone-event
	// among them, under the payload types with which the peer sends it. The
	// peer may change from one to another with each packet (RFC 3264, 6.1 and
	// 7). No two have the same payload type.
	Receive []Codec
}

// A Plain is the offers and answers of one call whose sound goes by plain RTP. Its
// ends are for one goroutine at a time, all together.
type Plain struct {
	session session
	source  func(to netip.Addr) netip.Addr
}

// NewPlain begins the offers and answers of a call.
func NewPlain() *Plain { return &Plain{session: newSession(), source: reach.Source} }

// With is our end of the call when it is as lm says.
func (p *Plain) With(lm Local) sip.LocalMedia { return &end{plain: p, local: lm} }

// Answerable returns whether an offer, which came from the host from, can be
// answered by an end with codecs; nil: it can.
func Answerable(codecs []Codec) func(offer []byte, from netip.Addr) error {
	return func(offer []byte, from netip.Addr) error {
		_, _, _, err := usable(offer, origin{from, reach.Source}, codecs)
		return err
	}
}

// end is a sip.LocalMedia.
type end struct {
	plain *Plain
	local Local // as it was offered, once it has been
}

// Offer implements sip.LocalMedia.
func (e *end) Offer() ([]byte, error) {
	offer, as, err := e.plain.session.offer(e.local)
	if err != nil {
		return nil, err
	}
	e.local = as
	return offer, nil
}

// Answer implements sip.LocalMedia.
func (e *end) Answer(offer []byte, from netip.Addr) ([]byte, sip.Media, error) {
	return e.plain.session.answer(offer, origin{from, e.plain.source}, e.local)
}

// Take implements sip.LocalMedia.
func (e *end) Take(answer []byte, from netip.Addr) (sip.Media, error) {
	return readAnswer(answer, origin{from, e.plain.source}, e.local)
}
