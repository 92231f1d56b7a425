package sim

import (
	"fmt"
	"os"
	"sync"

	"flexphone/hal"
	"flexphone/hal/display"
)

// A Lamp is a hal.Lamp that remembers what it shows.
type Lamp struct {
	q     *queue[hal.LampState]
	state hal.LampState // guarded by q
}

var _ hal.Lamp = (*Lamp)(nil)

// NewLamp returns a lamp that is off.
func NewLamp() *Lamp { return &Lamp{q: newQueue[hal.LampState]()} }

// SetLamp makes the lamp show s.
func (l *Lamp) SetLamp(s hal.LampState) error {
	err := l.q.update(func() error {
		if s < hal.LampOff || s > hal.LampBlink {
			return fmt.Errorf("%d is no state of a lamp", s)
		}
		l.state = s
		return nil
	})
	if err != nil {
		return fmt.Errorf("sim: set lamp: %w", err)
	}
	return nil
}

// State returns what the lamp shows.
func (l *Lamp) State() hal.LampState {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	return l.state
}

// Changed returns a channel that is closed when the lamp is set next. Who
// fetches it before State misses nothing.
func (l *Lamp) Changed() <-chan struct{} {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	return l.q.changed
}

// Close makes SetLamp fail with os.ErrClosed.
func (l *Lamp) Close() error { return l.q.close() }

// A Display is a hal.Display that remembers its lines.
type Display struct {
	mu      sync.Mutex
	lines   [2]string
	shown   bool // whether anything was
	closed  bool
	changed chan struct{}
}

var _ hal.Display = (*Display)(nil)

// NewDisplay returns an empty display.
func NewDisplay() *Display { return &Display{changed: make(chan struct{})} }

// Show replaces both lines, each made to fit as a real display does.
func (d *Display) Show(line1, line2 string) error {
	lines := [2]string{display.Fit(line1), display.Fit(line2)}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fmt.Errorf("sim: show lines: %w", os.ErrClosed)
	}
	same := d.shown && d.lines == lines
	d.lines, d.shown = lines, true
	if !same {
		close(d.changed)
		d.changed = make(chan struct{})
	}
	return nil
}

// Lines returns both lines.
func (d *Display) Lines() (line1, line2 string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lines[0], d.lines[1]
}

// Changed returns a channel that is closed when the lines change next. Who
// fetches it before Lines misses nothing.
func (d *Display) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// Close makes Show fail with os.ErrClosed, and wakes who waits for a change.
func (d *Display) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return os.ErrClosed
	}
	d.closed = true
	close(d.changed)
	d.changed = make(chan struct{})
	return nil
}
