// Package media is what two phones tell each other about their sound: offers and
// answers (RFC 3264) in session descriptions (RFC 8866), and what follows from
// them. Signalling carries these as bytes and asks for them by sip.LocalMedia.
//
// It knows codecs by their names and parameters only, and where sound is to go. It
// refuses to know sound itself, calls, their messages, and the user. What was
// agreed reaches whoever carries the sound as RTP, in the terms of a sip.Media.
//
// # What peers describe
//
// Descriptions are written by pion/sdp and read here: its reader wants every
// line to be known and in its place, and other telephones send lines that are
// neither. What cannot be read costs its own stream, never the call. One
// stream of sound is taken and every other refused in its place. No name in a description is looked up: where c= holds one, or is
// missing, media go to the host that the message came from.
//
// # Private sound
//
// It is taken wherever it is offered and can be: by DTLS (RFC 5763), or by keys in
// the description (RFC 4568) if that came by TLS, on a line of its own or on a
// plain one that allows it (RFC 8643). The best way that an offer leaves is taken,
// not its first. We offer it to phones of ours alone, as the first of two lines, of
// which the second is plain RTP: a phone of ours that knows nothing else refuses the
// first and takes the second, and both displays say so. Nobody on the way can choose
// that for them, since descriptions between our phones go by TLS. A call that has
// become private is never made plain again.
package media

import (
	"net/netip"
	"time"

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
	Codecs []Codec    // preferred first, telephone-event and CN among them
	Hold   bool       // nothing is to be said or heard for now: a=inactive
	// PacketTime is how long the peer's packets should be, in whole milliseconds; 0: as
	// usual, 20 ms.
	PacketTime time.Duration
	// NewKeys: what was offered of keys (RFC 4568) is worn, and others are to be.
	NewKeys bool
	// Private is how this end can be private; nil: it cannot.
	Private *Private
	// Vouched: nobody but the peer reads or changes what is described, since the
	// signalling goes by TLS. Only then do keys stand in descriptions, and is
	// sound called private.
	Vouched bool
	// OnlyPrivate: plain RTP is neither offered nor taken.
	OnlyPrivate bool
}

// RTP are the terms of RTP, beside what a sip.Media says itself.
type RTP struct {
	RemoteRTCP netip.AddrPort // RTP's port + 1, or a=rtcp (RFC 3605), or RTP's where both go one way (RFC 5761); invalid: none
	Codec      Codec          // to send with, under the peer's payload type and with its parameters
	DTMF       uint8          // payload type of telephone-event as the peer wants it; 0: none
	DTMFRate   int            // its clock rate in Hz
	Noise      uint8          // payload type of comfort noise (RFC 3389) as the peer wants it; 0: none
	// Receive is every format of our own description in force, telephone-event and
	// CN among them, under the payload types with which the peer sends it. The
	// peer may change from one to another with each packet (RFC 3264, 6.1 and
	// 7). No two have the same payload type.
	Receive []Codec
	// Metrics: the peer wants to be told how it is heard (RFC 3611, section 5).
	Metrics bool
	// Protection keeps it private; nil: it goes as it is.
	Protection *Protection
}

// A Call is the offers and answers of one call. Its ends are for one goroutine at a
// time, all together.
type Call struct {
	session session
	source  func(to netip.Addr) netip.Addr
}

// NewCall begins the offers and answers of a call.
func NewCall() *Call { return &Call{session: newSession(), source: reach.Source} }

// With is our end of the call when it is as lm says.
func (c *Call) With(lm Local) sip.LocalMedia { return &end{call: c, local: lm} }

// Answerable returns whether an offer, which came from the host from, can be
// answered by an end with codecs; nil: it can. Secure: it came by TLS. With
// onlyPrivate, what is not private is refused.
func Answerable(codecs []Codec, onlyPrivate bool) func(offer []byte, from netip.Addr, secure bool) error {
	return func(offer []byte, from netip.Addr, secure bool) error {
		if onlyPrivate && !secure {
			return sip.ErrNoMedia
		}
		_, err := usable(offer, origin{host: from, source: reach.Source}, Local{Codecs: codecs, Private: &Private{}, Vouched: secure, OnlyPrivate: onlyPrivate})
		return err
	}
}

// end is a sip.LocalMedia.
type end struct {
	call  *Call
	local Local // as it was offered, once it has been
	ways  []way // likewise: how each line's sound would be carried
}

// Offer implements sip.LocalMedia.
func (e *end) Offer() ([]byte, error) {
	offer, as, ways, err := e.call.session.offer(e.local)
	if err != nil {
		return nil, err
	}
	e.local, e.ways = as, ways
	return offer, nil
}

// Answer implements sip.LocalMedia.
func (e *end) Answer(offer []byte, from netip.Addr) ([]byte, sip.Media, error) {
	return e.call.session.answer(offer, e.origin(from), e.local)
}

// Take implements sip.LocalMedia.
func (e *end) Take(answer []byte, from netip.Addr) (sip.Media, error) {
	return e.call.session.take(answer, e.origin(from), e.local, e.ways)
}

// origin is of a description that came from the host from.
func (e *end) origin(from netip.Addr) origin {
	return origin{host: from, source: e.call.source, passed: e.local.Private != nil && passes(e.local.Private.Candidates)}
}
