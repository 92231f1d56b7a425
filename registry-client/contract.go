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
	// Observe calls changed with the present row and with each later one, in
	// order, until ctx is done.
	Observe(ctx context.Context, q wire.Query, changed func(wire.Row)) error
}
