package gpio

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"flexphone/hal"
)

// halfBlink is how long a blinking lamp is on, and then off: 1 Hz.
const halfBlink = 500 * time.Millisecond

// A Lamp is a hal.Lamp on a line or an LED of the kernel's.
type Lamp struct {
	light func(on bool) error
	free  func() error

	mu     sync.Mutex
	closed bool
	blink  *blink // nil while the lamp does not blink
}

// A blink is the goroutine of a blinking lamp.
type blink struct {
	stop chan struct{}
	end  chan error
}

var _ hal.Lamp = (*Lamp)(nil)

// LampConfig wires a lamp. Its line is active while it shines.
type LampConfig struct {
	Line      Line
	ActiveLow bool // the lamp shines while the line is low
}

// OpenLamp requests the line. The lamp is off.
func OpenLamp(c LampConfig) (*Lamp, error) {
	var flags uint64
	if c.ActiveLow {
		flags |= flagActiveLow
	}
	l, err := requestOutputs([]Line{c.Line}, flags)
	if err != nil {
		return nil, err
	}
	return newLamp(l), nil
}

func newLamp(l lines) *Lamp {
	return &Lamp{free: l.Close, light: func(on bool) error {
		if on {
			return l.set(1)
		}
		return l.set(0)
	}}
}

// OpenLED opens an LED that a driver of the kernel has, by its name in
// /sys/class/leds, and takes it from what triggered it. The lamp is off.
func OpenLED(name string) (*Lamp, error) { return openLED("/sys/class/leds", name) }

func openLED(class, name string) (*Lamp, error) {
	dir := filepath.Join(class, name)
	brightest, err := os.ReadFile(filepath.Join(dir, "max_brightness"))
	if err != nil {
		return nil, fmt.Errorf("gpio: open LED: %w", err)
	}
	// Not every kernel has triggers; where there are none, nothing else lights it.
	if err := write(filepath.Join(dir, "trigger"), "none"); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("gpio: free LED of its trigger: %w", err)
	}
	on := strings.TrimSpace(string(brightest))
	l := &Lamp{free: func() error { return nil }, light: func(lit bool) error {
		if lit {
			return write(filepath.Join(dir, "brightness"), on)
		}
		return write(filepath.Join(dir, "brightness"), "0")
	}}
	if err := l.light(false); err != nil {
		return nil, fmt.Errorf("gpio: put out LED: %w", err)
	}
	return l, nil
}

// write writes a file of sysfs, which exists or not, but is never created.
func write(path, s string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(s)
	return err
}

// SetLamp makes the lamp show s. An error may be that of an earlier blink.
func (l *Lamp) SetLamp(s hal.LampState) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("gpio: set lamp: %w", os.ErrClosed)
	}
	if s < hal.LampOff || s > hal.LampBlink {
		return fmt.Errorf("gpio: set lamp: %d is no state of a lamp", s)
	}
	if s == hal.LampBlink && l.blink != nil {
		return nil // goes on in its rhythm
	}
	err := l.stopBlink()
	if e := l.light(s != hal.LampOff); e != nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("gpio: set lamp: %w", err)
	}
	if s == hal.LampBlink {
		b := &blink{stop: make(chan struct{}), end: make(chan error, 1)}
		l.blink = b
		go func() { b.end <- l.run(b.stop) }()
	}
	return nil
}

// run blinks a lamp that is on, until stop is closed.
func (l *Lamp) run(stop <-chan struct{}) error {
	tick := time.NewTicker(halfBlink)
	defer tick.Stop()
	for on := false; ; on = !on {
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
		if err := l.light(on); err != nil {
			return err
		}
	}
}

// stopBlink waits for the end of the blinking. l.mu is held.
func (l *Lamp) stopBlink() error {
	if l.blink == nil {
		return nil
	}
	close(l.blink.stop)
	err := <-l.blink.end
	l.blink = nil
	return err
}

// Close puts the lamp out and gives it back.
func (l *Lamp) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return os.ErrClosed
	}
	l.closed = true
	err := l.stopBlink()
	if e := l.light(false); e != nil {
		err = e
	}
	if e := l.free(); e != nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("gpio: close lamp: %w", err)
	}
	return nil
}
