// Package boards describes the phones this firmware runs on.
//
// A board is data, never code: it names the GPIO lines, the input device, the
// sound card and the network port that the kernel's device tree already
// declares. One file a board, and one line in All. This package imports nothing
// from the module and refuses to know what a driver is.
//
// # Adding a board
//
// Copy the file of the board that is most like it, change what it says, add it
// to All, and run the tests of this package.
package boards

import (
	"fmt"
	"strings"
	"time"
)

// A Board names the parts of one phone. What a phone lacks is a zero value.
type Board struct {
	// Name is what BOARD= and the settings call it.
	Name string
	// Compatible are strings of /proc/device-tree/compatible, any of which
	// tells that this is the board. None: it must be chosen by its name.
	Compatible []string
	// Arch is what the firmware is compiled for.
	Arch Arch
	// Keypads are the ways in which keys are wired. The first is taken unless
	// the settings name another.
	Keypads  []Keypad
	Hook     Hook
	Lamp     Lamp
	Display  Display
	Sound    Sound
	RealTime RealTime
	Port     string // network interface, such as "eth0"
	Watchdog string // device of the hardware watchdog, such as "/dev/watchdog0"
	Image    Image  // what is flashed; zero: nothing is, the program is installed
}

// An Image is what firmware/image makes for the board, and of what.
type Image struct {
	Arch   string // of Debian's packages: "arm64" or "armhf"
	Kernel string // Debian's package that brings the newest kernel; OwnKernel: ours
	// Trees are the device trees in the kernel's package, of which the loader
	// takes the machine's. Without any, Overlay names one of firmware/image/kernel
	// that is laid over the tree of QEMU's virt machine.
	Trees   []string
	Overlay string
	Console string // of the kernel, such as "ttyS1,115200"
	// InitrdModules are the kernel modules without which the root cannot be
	// mounted. With none there is no initramfs, and the kernel has all built in.
	InitrdModules []string
	Modules       []string // kernel modules of the phone's parts
	Boot          Boot
	BootMiB       int // size of the boot partition
}

// OwnKernel is the kernel that is built from firmware/image/kernel.
const OwnKernel = "built"

// A Boot is how the board's loader finds the kernel.
type Boot string

// The ways to boot. Every boot partition has extlinux/extlinux.conf, which
// U-Boot reads, and QEMU needs nothing at all.
const (
	Extlinux  Boot = "extlinux"
	Raspberry Boot = "raspberry" // config.txt, and the Raspberry Pi's own loader beside it
)

// An Arch is a target of the Go compiler.
type Arch struct {
	GOARCH string // empty: that of the machine that builds
	GOARM  string // for GOARCH arm
}

// A Line names one GPIO line.
type Line struct {
	Chip   string // label of its chip; empty: whichever has a line of this name
	Name   string // its name in the device tree; empty: Offset counts
	Offset int
}

// A Bias is the resistor that the GPIO chip puts at an input.
type Bias int

// The biases. AsIs leaves what the device tree set.
const (
	AsIs Bias = iota
	PullUp
	PullDown
)

// An Input is a GPIO line that is read.
type Input struct {
	Line      Line
	ActiveLow bool
	Bias      Bias
}

// A Keypad is one way in which keys are wired: exactly one of Matrix, Direct,
// Device and Simulated is set.
type Keypad struct {
	Name string // what the settings call it
	// Of a Matrix or Direct each key is one of 0-9 * #, or one beside the keypad: + and -
	// of the volume, M mutes.
	Matrix    *Matrix
	Direct    *Direct
	Device    string // name of a Linux input device
	Simulated bool   // keys come from the control socket alone
	Hook      *Hook  // the hook switch that goes with it; nil: the board's
}

// A Matrix is a keypad of rows and columns, each of them on one chip. The rows
// are driven low in turn, the columns are read with pull-ups.
type Matrix struct {
	Rows, Cols []Line
	Keys       []string // one string a row, one character a column
	PushPull   bool     // each key has a diode: rows may be driven high, too
	// Settle is how long the columns take to follow a row; 0: what membrane and
	// cable need.
	Settle time.Duration
}

// A Direct is a keypad with one line a key, all on one chip.
type Direct struct {
	Keys      string // one character a line
	Lines     []Line
	ActiveLow bool
	Bias      Bias
}

// A Hook is a hook switch: exactly one of Input, Device and Simulated is set.
type Hook struct {
	Input     *Input // active while somebody holds the handset
	Device    string // name of the Linux input device that has KEY_PHONE
	Simulated bool
}

// A Lamp is the message lamp: at most one of Output, LED and Simulated is set.
type Lamp struct {
	Output    *Output
	LED       string // name in /sys/class/leds
	Simulated bool
}

// An Output is a GPIO line that is driven.
type Output struct {
	Line      Line
	ActiveLow bool
}

// A Display shows two lines: exactly one of TTY and Simulated is set.
type Display struct {
	TTY       string // path of the terminal that it prints to
	Simulated bool
}

// A Sound is the card of the handset.
type Sound struct {
	Card string // ALSA card id, such as "Loopback"
	// Capture and Playback are the device names as PortAudio lists them, or
	// any part of them that no other device has. Empty: its default.
	Capture, Playback string
	// Ringer names the device that rings, as Playback does, such as a loudspeaker
	// beside a handset; empty: the same rings.
	Ringer string
	// Buffer is how much sound waits for the card, in whole hundredths of a
	// second; 0: as little as can be. What the processor may stand still.
	Buffer time.Duration
	// Mode is how the phone is talked into, unless it is told: "handset" or
	// "hands-free". Empty: neither, what is captured has no echo.
	Mode string
}

// A RealTime is what is asked of the kernel and of Go's runtime, so that sound is not
// late. What is refused is gone without.
type RealTime struct {
	Priority int // SCHED_RR of the card's thread, 1 to 98; 0: as all others
	// Prompt is that all threads of the phone have it. Where the kernel's own threads, by
	// which keys and packets come, have no processor beside theirs, it waits for itself.
	Prompt    bool
	Lock      bool // memory stays where it is once it was touched
	Garbage   int  // GOGC, in percent; 0: what the environment or Go says
	MemoryMiB int  // GOMEMLIMIT; 0: likewise
}

// soundPriority is above all programs of usual priority, and below what the kernel's
// own threads of interrupts have (50).
const soundPriority = 10

// All returns every board.
func All() []Board { return []Board{host(), qemuVirt(), imx6ulEVK(), rpi()} }

// Named returns the board of that name.
func Named(name string) (Board, error) {
	var names []string
	for _, b := range All() {
		if b.Name == name {
			return b, nil
		}
		names = append(names, b.Name)
	}
	return Board{}, fmt.Errorf("boards: no board is called %q; there are %s", name, strings.Join(names, ", "))
}

// Find returns the board that a machine is, by the content of its
// /proc/device-tree/compatible: strings from the most special to the most
// general, a NUL after each.
func Find(compatible string) (Board, error) {
	list := strings.Split(strings.TrimRight(compatible, "\x00"), "\x00")
	for _, c := range list {
		for _, b := range All() {
			for _, mine := range b.Compatible {
				if mine == c {
					return b, nil
				}
			}
		}
	}
	return Board{}, fmt.Errorf("boards: no board is compatible with %q: name one in the settings, or add it", list)
}

// Keypad returns the keypad of that name, or with no name the board's first.
func (b Board) Keypad(name string) (Keypad, error) {
	var names []string
	for _, k := range b.Keypads {
		if name == "" || k.Name == name {
			return k, nil
		}
		names = append(names, k.Name)
	}
	return Keypad{}, fmt.Errorf("boards: %s has no keypad %q; it has %s", b.Name, name, strings.Join(names, ", "))
}

// HookWith returns the hook switch that is read beside k.
func (b Board) HookWith(k Keypad) Hook {
	if k.Hook != nil {
		return *k.Hook
	}
	return b.Hook
}

// lines returns lines of one chip by their names.
func lines(chip string, names ...string) []Line {
	var l []Line
	for _, n := range names {
		l = append(l, Line{Chip: chip, Name: n})
	}
	return l
}

// offsets returns n lines of one chip that follow one another.
func offsets(chip string, from, n int) []Line {
	var l []Line
	for i := range n {
		l = append(l, Line{Chip: chip, Offset: from + i})
	}
	return l
}
