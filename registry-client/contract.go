// Package registry tells the storing server where this phone is, and asks it
// where others are.
//
// It knows how one request is made and repeated (Client, over CoAP and DTLS
// with Connection ID: RFC 7252, 7641, 6347, 9146; package wire is the
// specification), and when a request is due (Announcer). It keeps the phone's
// key, its sequence number and the server's pinned key. It refuses to know how
// an address was got, and what a call is.
//
// # Why
//
// The address that counts stands in the protected payload, with a sequence
// number: who delivers a recorded datagram from elsewhere moves nothing. One
// session is kept while the phone's address changes, so that a new address is
// announced in one round trip with one datagram each way; a handshake would
// take four. Keys are pinned on first use at both ends, so that a phone needs
// no authority, no clock and no setting.
package registry

import (
	"context"
	"errors"

	"flexphone/registry-client/wire"
)

// Errors that callers branch on.
var (
	// ErrUnknown: the server has no such row.
	ErrUnknown = errors.New("not registered")
	// ErrStale: the row holds a higher sequence number.
	ErrStale = errors.New("stale sequence number")
	// ErrForeign: another key owns this MAC.
	ErrForeign = errors.New("the MAC belongs to another key")
	// ErrRefused: a policy of the server forbids it.
	ErrRefused = errors.New("refused by the server's policy")
	// ErrUnreachable: no answer came.
	ErrUnreachable = errors.New("storing server does not answer")
)

// A Server is what the storing server does for a phone. Client is one.
type Server interface {
	Register(ctx context.Context, r wire.Registration) (wire.Receipt, error)
	Release(ctx context.Context, mac wire.MAC, sequence uint64) error
	Resolve(ctx context.Context, q wire.Query) (wire.Row, error)
	// Observe calls told with the present row and with each later one, in order,
	// until ctx is done; and without current when it is not told of changes any
	// more, until it is again.
	Observe(ctx context.Context, q wire.Query, told func(row wire.Row, current bool)) error
}
