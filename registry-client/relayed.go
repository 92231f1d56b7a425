package registry

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/link"
	"flexphone/registry-client/wire"
)

// Errors of relayed links.
var (
	// ErrNoRelay: the server passes nothing on, or not to that phone.
	ErrNoRelay = errors.New("the storing server does not pass it on")
	// ErrNotTaken: the other phone does not take the link.
	ErrNotTaken = link.ErrNotTaken
)

// A PhoneAddr is the end of a relayed link: a phone, wherever it is, or a browser.
type PhoneAddr = link.Addr

// DialRelayed opens a link to a phone through the storing servers, which see who
// talks to whom, and its bytes. It survives changes of the addresses of both ends,
// and ends when the other end has said nothing for 20 s though it ought to. An error
// wraps ErrNoRelay, ErrNotTaken or ErrUnreachable.
func (c *Client) DialRelayed(ctx context.Context, to wire.MAC) (net.Conn, error) {
	conn, err := c.links.Dial(ctx, to)
	switch {
	case errors.Is(err, link.ErrUnreachable):
		return nil, fmt.Errorf("registry: %w", unreachable(err))
	case err != nil:
		return nil, fmt.Errorf("registry: %w", err)
	}
	return conn, nil
}

// AcceptRelayed waits for the next link that another phone opens: which one it is
// says its remote address, a PhoneAddr, as the server does. Until then the phone waits.
func (c *Client) AcceptRelayed(ctx context.Context) (net.Conn, error) {
	conn, err := c.links.Accept(ctx)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// AcceptBrowser waits for the next link that a browser opens, whose storing server
// has let it: what comes is a wire.BrowserOffer.
func (c *Client) AcceptBrowser(ctx context.Context) (net.Conn, error) {
	conn, err := c.links.AcceptBrowser(ctx)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// take takes a message of the server, and reports whether it is a link's. It must not
// keep m's bytes.
func (c *Client) take(m message.Message) bool {
	switch {
	case m.Code == codes.POST && len(wire.Strings(m, message.URIPath)) == 1 && wire.Strings(m, message.URIPath)[0] == wire.PathLink:
		msg, err := wire.DecodeLink(m.Payload)
		if err != nil {
			return false
		}
		c.links.Came(msg)
		return true
	case m.Code >= codes.BadRequest && len(m.Token) == len(wire.LinkID{}):
		// What is only too much is sent again later, and who is away may come back.
		busy := m.Code == wire.CodeTooManyRequests || m.Code == codes.NotFound
		return c.links.Refuse(wire.LinkID(m.Token), fmt.Errorf("%w: %w", ErrNoRelay, refusal(m)), busy)
	}
	return false
}

// A carrier is a Client that carries the messages of its links, in its present session.
type carrier struct{ *Client }

// Post implements link.Carrier.
func (c carrier) Post(m wire.LinkMessage) {
	body, err := wire.EncodeLink(m)
	if err != nil {
		return
	}
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	if s == nil || s.lost() {
		return
	}
	s.post(request{code: codes.POST, payload: body, options: append(wire.PathOptions([]string{wire.PathLink}),
		wire.UintOption(message.ContentFormat, wire.FormatCBOR), wire.UintOption(message.NoResponse, 2))}, m.Link[:])
}

// Lost implements link.Carrier.
func (c carrier) Lost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closed && (c.session == nil || c.session.lost())
}

// Doubt implements link.Carrier.
func (c carrier) Doubt(ctx context.Context) { _, _ = c.Alive(ctx) } // without an answer it goes on without
