// Package hal is the contract between the phone and its hardware.
//
// It holds interfaces and the values they pass, and nothing else. Each interface
// has a simulated implementation (package sim) and at least one Linux driver
// (packages gpio, evdev and display), and one conformance suite in haltest that all of
// them pass. A read blocks until there is something to tell, can fail, and ends
// when its context does. A part that was closed answers with an error that is
// os.ErrClosed, one that has left the machine with the kernel's.
package hal

import (
	"context"
	"time"
)

// A Key is a key of a telephone: one of the twelve characters of its keypad, 0-9 * #, or
// one of those beside it, which not every telephone has.
type Key rune

// The keys beside a keypad.
const (
	VolumeUp   Key = '+'
	VolumeDown Key = '-'
	Mute       Key = 'M'
)

// A KeyEvent is one debounced change of one key.
type KeyEvent struct {
	Key    Key
	Motion Motion
	At     time.Time // when the contact moved, not when it was read
}

// A Motion says which way a key went.
type Motion int

// The motions of a key.
const (
	Down Motion = iota
	Up
)

// A Keypad reports its keys, debounced, free of ghosts, in the order in which
// they moved. Every Down is followed by its Up.
type Keypad interface {
	ReadKey(ctx context.Context) (KeyEvent, error)
}

// A HookState says where the handset is.
type HookState int

// The states of a hook switch.
const (
	OnHook  HookState = iota // the handset lies on the phone
	OffHook                  // somebody holds it
)

// A Hook is the hook switch.
type Hook interface {
	// ReadHook returns the present state at its first call, and at each later
	// one blocks until the state is another than it returned before.
	ReadHook(ctx context.Context) (HookState, error)
}

// A LampState is what a lamp shows.
type LampState int

// The states of a lamp.
const (
	LampOff LampState = iota
	LampOn
	LampBlink // 1 Hz, half of the time on
)

// A Lamp is the message lamp.
type Lamp interface {
	SetLamp(LampState) error
}

// DisplayColumns is how many characters a line of a Display shows; longer ones
// are cut by the driver.
const DisplayColumns = 24

// A Display shows two lines of text.
type Display interface {
	Show(line1, line2 string) error
}
