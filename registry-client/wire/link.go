package wire

import "fmt"

// PathLink is where the messages of relayed links go, in both directions.
const PathLink = "link"

// Bounds of relayed links.
const (
	// MaxSegment is how many bytes one message of a link carries: with what stands
	// beside them it fits into MaxBody.
	MaxSegment = 900
	// LinkWindow is how many bytes of a link may be on their way to a phone that has
	// not said more: the answer to an open tells the rest.
	LinkWindow = 8 << 10
	// MaxLinkBytes bounds the bytes of a link in one direction. Signalling is a few
	// thousand.
	MaxLinkBytes = 1 << 40
)

// A LinkKind says what a message of a link is.
type LinkKind uint8

// The kinds, as they are sent.
const (
	LinkOpen  LinkKind = iota + 1 // whoever sends it would like to have a link
	LinkData                      // bytes, or what has come and may come, or all of that
	LinkClose                     // there is no link any more
)

// An Ending says why a link is closed.
type Ending uint8

// The endings, as they are sent. Others that may come are as EndRefused.
const (
	EndDone    Ending = iota + 1 // all bytes before Offset were sent: there are no more
	EndRefused                   // the phone takes no links, or not this one
	EndUnknown                   // it knows of no such link
	EndReset                     // the phone has left it, and nothing on its way counts
)

// A LinkID names a link, beside the two phones. Who opens it draws it.
type LinkID [8]byte

// A LinkMessage is one message of a relayed link. It is at most one packet, may be
// lost, doubled and overtaken: the two phones see to that (RFC 9293 in small).
type LinkMessage struct {
	// Peer is the other phone: to whom it goes on its way to the server, and from
	// whom it comes on its way from there.
	Peer   MAC
	Link   LinkID
	Kind   LinkKind
	Offset uint64 // of the first byte of Data in the stream of its sender
	Data   []byte // at most MaxSegment
	Next   uint64 // all bytes of the receiver's stream before this have come
	Limit  uint64 // and those before this may be sent
	Ending Ending // of LinkClose
}

type linkBody struct {
	MAC    []byte `cbor:"1,keyasint"`
	Link   []byte `cbor:"24,keyasint"`
	Kind   uint8  `cbor:"25,keyasint"`
	Offset uint64 `cbor:"26,keyasint,omitempty"`
	Data   []byte `cbor:"27,keyasint,omitempty"`
	Next   uint64 `cbor:"28,keyasint,omitempty"`
	Limit  uint64 `cbor:"29,keyasint,omitempty"`
	Ending uint8  `cbor:"30,keyasint,omitempty"`
}

// Validate reports why m cannot be meant.
func (m LinkMessage) Validate() error {
	switch {
	case !m.Peer.Valid():
		return fmt.Errorf("wire: link: MAC %v is not unicast: %w", m.Peer, ErrInvalid)
	case m.Kind < LinkOpen || m.Kind > LinkClose:
		return fmt.Errorf("wire: link: kind %d: %w", m.Kind, ErrInvalid)
	case len(m.Data) > MaxSegment:
		return fmt.Errorf("wire: link: %d bytes, want at most %d: %w", len(m.Data), MaxSegment, ErrInvalid)
	case len(m.Data) > 0 && m.Kind != LinkData:
		return fmt.Errorf("wire: link: bytes in a message of kind %d: %w", m.Kind, ErrInvalid)
	case max(m.Offset, m.Next, m.Limit) > MaxLinkBytes:
		return fmt.Errorf("wire: link: byte %d, want at most %d: %w", max(m.Offset, m.Next, m.Limit), uint64(MaxLinkBytes), ErrInvalid)
	case (m.Kind == LinkClose) != (m.Ending != 0):
		return fmt.Errorf("wire: link: ending %d in a message of kind %d: %w", m.Ending, m.Kind, ErrInvalid)
	}
	return nil
}

// EncodeLink returns m as the body of POST /link. It refuses what Validate does.
func EncodeLink(m LinkMessage) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return encode("link", linkBody{
		MAC: m.Peer[:], Link: m.Link[:], Kind: uint8(m.Kind), Offset: m.Offset, Data: m.Data,
		Next: m.Next, Limit: m.Limit, Ending: uint8(m.Ending),
	})
}

// DecodeLink reads and validates the body of POST /link. Its Data is a copy.
func DecodeLink(b []byte) (LinkMessage, error) {
	var body linkBody
	if err := decode("link", b, &body); err != nil {
		return LinkMessage{}, err
	}
	m := LinkMessage{
		Kind: LinkKind(body.Kind), Offset: body.Offset, Data: body.Data, Next: body.Next, Limit: body.Limit, Ending: Ending(body.Ending),
	}
	var err error
	if m.Peer, err = macBytes(body.MAC); err != nil {
		return LinkMessage{}, fmt.Errorf("wire: decode link: %w", err)
	}
	if len(body.Link) != len(m.Link) {
		return LinkMessage{}, fmt.Errorf("wire: decode link: name of %d bytes: %w", len(body.Link), ErrInvalid)
	}
	copy(m.Link[:], body.Link)
	return m, m.Validate()
}
