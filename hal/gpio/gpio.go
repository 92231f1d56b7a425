// Package gpio drives a phone's keys, hook switch and lamp through Linux GPIO
// character devices (the uAPI of linux/gpio.h, version 2).
//
// It knows lines: how the kernel finds, debounces and timestamps them; how keys
// are wired to them, one line a key or as a matrix; and that a lamp blinks. It
// refuses to know which lines a phone has: that is the board's to say.
//
// # Why the kernel's debounce, and why not for a matrix
//
// The kernel debounces a line with a timer and gives out one edge with the time
// of the contact. A matrix has its rows driven in turn, so its columns must be
// seen as they are at that moment; there the scanner debounces.
//
// # Why rows are open drain
//
// Two keys of one column join two rows. If both were driven, one high and one
// low, they would fight; an open-drain row that is not selected lets go.
package gpio

import (
	"context"
	"fmt"
	"time"
)

// Debounce is how long a contact must rest before it is believed, where a
// configuration does not say. Tact switches bounce for less than 5 ms.
const Debounce = 5 * time.Millisecond

// A Line names one GPIO line.
type Line struct {
	// Chip is the label of the chip, such as "pinctrl-bcm2711", or its name,
	// such as "gpiochip0". Empty: the first chip that has a line called Name.
	Chip string
	// Name is the line's name in the device tree. Empty: Offset counts.
	Name   string
	Offset int
}

// String returns the line as an error calls it.
func (l Line) String() string {
	chip := l.Chip
	if chip == "" {
		chip = "any chip"
	}
	if l.Name != "" {
		return fmt.Sprintf("line %q of %s", l.Name, chip)
	}
	return fmt.Sprintf("line %d of %s", l.Offset, chip)
}

// A Bias is the resistor at an input. A chip without such resistors ignores it.
type Bias int

// The biases. AsIs leaves what the device tree or the reset set.
const (
	AsIs Bias = iota
	PullUp
	PullDown
	Floating
)

// An edge is one change of one line of a request.
type edge struct {
	line   int // index in the request
	active bool
	at     time.Time
}

// lines are some lines of one chip, requested together: the kernel's, or a
// fake's. Values are bitmaps by index in the request; 1 is active.
type lines interface {
	// edges blocks until lines changed, and fills buf. lost tells that the
	// kernel had to drop edges older than these.
	edges(ctx context.Context, buf []edge) (n int, lost bool, err error)
	// drain forgets the edges that wait now, and tells how many.
	drain() (int, error)
	values() (uint64, error)
	set(values uint64) error
	Close() error
}
