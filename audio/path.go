package audio

import (
	"errors"
	"time"
)

// A Protocol tells a stream's sound from its reports, however a path carries the
// two: by two ports (RFC 3550, section 11) or by one (RFC 5761).
type Protocol uint8

// The protocols.
const (
	RTP  Protocol = iota + 1 // sound and digits (RFC 3550, section 5)
	RTCP                     // reports (RFC 3550, section 6)
)

// A Datagram is what a path has brought from the peer.
type Datagram struct {
	Protocol Protocol
	Bytes    []byte    // in the clear; of whoever takes it until that returns, to change as well
	At       time.Time // of its arrival, as early as the path can tell
	// NewPeer marks the first RTP since the path was led to somebody else, whose
	// source is then believed at once. A peer that moved is no other one.
	NewPeer bool
}

// ErrNoPeer is the error of a Path that has nobody to send to yet, or not now: it
// does not know an address, or has not shaken hands. It is no fault.
var ErrNoPeer = errors.New("no peer")

// A Path carries one stream's RTP and RTCP to one peer and back. Who the peer is,
// where it is, who may speak in its place and how all that changes is the path's
// own affair. Package pathtest has the tests that each implementation passes.
type Path interface {
	// Receive gives what arrives from the peer to take, without allocating, until
	// the path is closed, and returns nil then; or the error that makes an end of
	// receiving. It is called once. take is not called twice at a time for one
	// protocol, but may be for the two, and has returned for good when Receive
	// returns. What is not of the peer is left out.
	Receive(take func(Datagram)) error
	// Send sends b, in the clear, which it neither keeps nor changes: RTP of at
	// most rtp.HeaderSize+rtp.MaxPayload bytes, or RTCP of no more than these. It
	// does not wait for the network, and does not allocate for RTP. It may be
	// called by several goroutines at a time. Without a peer it returns ErrNoPeer.
	Send(p Protocol, b []byte) error
	// Close makes Receive return, and everything that the path holds free. Send is
	// an error from then on. Closing it again does nothing.
	Close() error
}
