// Package rtp is the packet level of a call's sound: RTP and RTCP (RFC 3550),
// and telephone events (RFC 4733), on the wire formats of pion/rtp and
// pion/rtcp.
//
// It knows what stands in packets and what their numbers say: which source is
// heard, what was lost, how evenly they come, how far away the peer is. It has
// no sockets, no clock (time is passed in) and no goroutines, and it knows
// nothing of codecs or of when a packet is played.
//
// Everything in it takes any bytes from the network without a panic.
package rtp

import (
	"errors"
	"fmt"

	"github.com/pion/rtp"
)

// HeaderSize is the size of the RTP header that we send, in bytes (RFC 3550,
// section 5.1; no contributing sources, no extensions).
const HeaderSize = 12

// MaxPayload is the largest payload that is taken, in bytes: 120 ms of G.711
// are 960, the largest Opus packet of one frame is 1275 (RFC 6716, section 3.2).
const MaxPayload = 1300

// ErrVersion is the error of a packet that is not of RTP version 2.
var ErrVersion = errors.New("not version 2")

// A Packet is one RTP packet. Payload belongs to the buffer it was parsed from.
type Packet struct {
	PayloadType uint8
	Marker      bool
	Sequence    uint16
	Timestamp   uint32
	SSRC        uint32
	Payload     []byte
}

// A Parser parses packets. It is reused so that parsing does not allocate, and
// belongs to one goroutine. The zero value is ready.
type Parser struct{ p rtp.Packet }

// Parse fills p from b. p.Payload is a part of b.
func (r *Parser) Parse(p *Packet, b []byte) error {
	if err := r.p.Unmarshal(b); err != nil {
		return fmt.Errorf("rtp: parse packet: %w", err)
	}
	h := &r.p.Header
	if h.Version != 2 {
		return fmt.Errorf("rtp: parse packet: %w", ErrVersion)
	}
	if len(r.p.Payload) > MaxPayload {
		return fmt.Errorf("rtp: parse packet: payload of %d bytes", len(r.p.Payload))
	}
	*p = Packet{
		PayloadType: h.PayloadType,
		Marker:      h.Marker,
		Sequence:    h.SequenceNumber,
		Timestamp:   h.Timestamp,
		SSRC:        h.SSRC,
		Payload:     r.p.Payload,
	}
	return nil
}

// PutHeader writes p's header into the first HeaderSize bytes of b; the payload
// is expected to stand behind it already.
func (p *Packet) PutHeader(b []byte) error {
	h := rtp.Header{
		Version:        2,
		Marker:         p.Marker,
		PayloadType:    p.PayloadType,
		SequenceNumber: p.Sequence,
		Timestamp:      p.Timestamp,
		SSRC:           p.SSRC,
	}
	if _, err := h.MarshalTo(b); err != nil {
		return fmt.Errorf("rtp: write header: %w", err)
	}
	return nil
}
