package evdev

import (
	"encoding/binary"
	"fmt"
	"time"
)

// A layout is how the kernel lays out struct input_event for a program: the two
// words of its time are as wide as the program's long.
type layout struct {
	word  int // bytes of a long: 4 or 8
	order binary.ByteOrder
}

// size returns how many bytes an event has.
func (l layout) size() int { return 2*l.word + 8 }

// Types and codes of linux/input-event-codes.h.
const (
	typeSyn = 0
	typeKey = 1

	codeSynReport  = 0
	codeSynDropped = 3
)

// An event is a struct input_event.
type event struct {
	at    time.Duration // on the clock that the device was told to use
	typ   uint16
	code  uint16
	value int32
}

// decode returns the whole events in b.
func (l layout) decode(b []byte) ([]event, error) {
	if len(b)%l.size() != 0 {
		return nil, fmt.Errorf("decode events: %d bytes are not a multiple of %d", len(b), l.size())
	}
	var events []event
	for ; len(b) > 0; b = b[l.size():] {
		rest := b[2*l.word:]
		events = append(events, event{
			at:    time.Duration(l.long(b))*time.Second + time.Duration(l.long(b[l.word:]))*time.Microsecond,
			typ:   l.order.Uint16(rest),
			code:  l.order.Uint16(rest[2:]),
			value: int32(l.order.Uint32(rest[4:])),
		})
	}
	return events, nil
}

// long returns the first word of b. The time of a 32-bit program is unsigned,
// so that it lasts beyond 2038.
func (l layout) long(b []byte) uint64 {
	if l.word == 4 {
		return uint64(l.order.Uint32(b))
	}
	return l.order.Uint64(b)
}
