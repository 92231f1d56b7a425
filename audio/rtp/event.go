package rtp

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// EventSize is the size of a telephone event's payload, in bytes.
const EventSize = 4

// keys are the DTMF keys in the order of their event codes (RFC 4733, section
// 3.2).
const keys = "0123456789*#ABCD"

// An Event is the payload of a telephone-event packet (RFC 4733, section 2.3).
type Event struct {
	Code     uint8  // 0 to 15 are the DTMF keys
	End      bool   // the key was let go
	Volume   uint8  // power below 0 dBm0 in dB, 0 to 63
	Duration uint16 // since the event's timestamp, in its clock's units
}

// EventOf returns the event code of a DTMF key: 0-9, *, #, A-D.
func EventOf(key rune) (code uint8, ok bool) {
	i := strings.IndexRune(keys, key)
	return uint8(max(i, 0)), i >= 0
}

// Key returns the DTMF key that e stands for, if it stands for one.
func (e Event) Key() (key rune, ok bool) {
	if int(e.Code) >= len(keys) {
		return 0, false
	}
	return rune(keys[e.Code]), true
}

// ParseEvent parses the payload of a telephone-event packet. A payload may hold
// several events (section 2.5.1.5); the first is the newest.
func ParseEvent(b []byte) (Event, error) {
	if len(b) < EventSize {
		return Event{}, fmt.Errorf("rtp: parse event: %d bytes of %d", len(b), EventSize)
	}
	return Event{
		Code:     b[0],
		End:      b[1]&0x80 != 0,
		Volume:   b[1] & 0x3f,
		Duration: binary.BigEndian.Uint16(b[2:]),
	}, nil
}

// Put writes e into the first EventSize bytes of b.
func (e Event) Put(b []byte) {
	b[0] = e.Code
	b[1] = e.Volume & 0x3f
	if e.End {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], e.Duration)
}

// Events tells the key presses in a stream of event packets, each of which
// says again what the others said. The zero value is ready.
type Events struct {
	heard     bool
	timestamp uint32 // of the newest event: all packets of one event carry the same
}

// Add takes the next event packet. It returns the key, and true, once for each
// press: at its first packet that arrives.
func (v *Events) Add(timestamp uint32, payload []byte) (key rune, pressed bool, err error) {
	e, err := ParseEvent(payload)
	if err != nil {
		return 0, false, err
	}
	key, ok := e.Key()
	if !ok {
		return 0, false, nil // a modem's or a line's event: not a key
	}
	if v.heard && int32(timestamp-v.timestamp) <= 0 {
		return 0, false, nil // more of this event, or late
	}
	v.heard, v.timestamp = true, timestamp
	return key, true, nil
}

// Reset forgets the events so far: another source begins.
func (v *Events) Reset() { *v = Events{} }
