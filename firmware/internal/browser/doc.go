// Package browser is a phone's side of calls from browsers and to them: it answers a
// browser's WebRTC offer, and makes a call and a path for sound of what follows.
//
// It knows WebRTC (RFC 8825, by pion/webrtc), what page and phone say in its data
// channel, and how the phone signs its answer. It refuses to know how an offer
// reaches the phone, who may call, what rings, and what is said.
//
// # Why
//
// The storing server passes on one offer and one answer, and the phone signs both
// (wire.SignedAnswer): so the keys of DTLS are those of the page and of this phone,
// whatever the server does, and all else is said directly, under them. A call rings
// only once the data channel is open: whoever cannot be reached is not lifted the
// handset for, and sound flows as soon as that is lifted. A browser that is called is
// asked for an offer, and then all is the same, but for who rings.
//
// Behind a NAT the answer names the places as which the storing server sees the socket, so
// that a browser behind another one finds it: both ask each other at once, which opens
// both. That takes a round trip, while the answer is made.
//
// A phone that moves asks the page from where it is then, under the keys of the call, within
// half a second. Where a NAT of the page's, or a TURN server, lets that not through, the page
// misses the phone after some seconds, and offers again by way of the storing server (ICE
// restart): the call gets another way, and stays the same one.
//
// Browsers take no Ed25519 in DTLS: its certificate holds a P-256 key, which the
// device's key has signed.
//
// The build tag nobrowser leaves all of it out but this file, for boards with little
// flash.
package browser

import (
	"net/netip"

	"flexphone/audio"
	"flexphone/firmware/internal/sip"
)

// Terms are the terms of a sip.Media whose peer is a browser.
type Terms struct {
	Path    audio.Path    // of the sound; the same one for the whole call
	Session audio.Session // how it is carried, but for its direction
}

// Local is this end of a call with a browser, which describes itself otherwise: it
// says what is wanted of the call alone.
type Local struct{ Hold bool }

// Offer implements sip.LocalMedia.
func (Local) Offer() ([]byte, error) { return nil, sip.ErrNoMedia }

// Answer implements sip.LocalMedia.
func (Local) Answer([]byte, netip.Addr) ([]byte, sip.Media, error) {
	return nil, sip.Media{}, sip.ErrNoMedia
}

// Take implements sip.LocalMedia.
func (Local) Take([]byte, netip.Addr) (sip.Media, error) { return sip.Media{}, sip.ErrNoMedia }
