package registry

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/internal/pass"
	"flexphone/registry-client/wire"
)

// Pair asks the server for a pass for its relay. The error wraps ErrRefused where nothing
// is relayed, and ErrUnknown where the server does not know what that is.
func (c *Client) Pair(ctx context.Context) (pass.Pass, error) {
	m, _, _, err := c.send(ctx, request{code: codes.POST, options: wire.PathOptions([]string{wire.PathPair})})
	if err == nil && m.Code != codes.Created {
		err = refusal(m)
	}
	if err != nil {
		return pass.Pass{}, fmt.Errorf("registry: ask for a pass: %w", err)
	}
	p, err := wire.DecodePass(m.Payload)
	if err != nil {
		return pass.Pass{}, fmt.Errorf("registry: ask for a pass: %w", err)
	}
	return p, nil
}

// Address returns where the server of the present session is; zero: there is none.
func (c *Client) Address() netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		return netip.AddrPort{}
	}
	return c.session.remote
}
