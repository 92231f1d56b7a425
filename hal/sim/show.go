package sim

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"

	"flexphone/hal"
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

// A Display is a hal.Display that remembers its lines and may print them.
type Display struct {
	out io.Writer // nil: shows nothing

	showing sync.Mutex // held by the one Show at a time, over its write

	mu      sync.Mutex // never held over a write
	lines   [2]string
	shown   bool // whether anything was
	closed  bool
	changed chan struct{}
}

var _ hal.Display = (*Display)(nil)

// NewDisplay returns an empty display.
func NewDisplay() *Display { return NewPrinter(nil) }

// NewPrinter returns a display that also writes each change to w, a serial
// console for instance, as one row of text:
//
//	[101                     |not private             ]
func NewPrinter(w io.Writer) *Display {
	return &Display{out: w, changed: make(chan struct{})}
}

// Show replaces both lines. Each is cut to hal.DisplayColumns characters; what
// cannot be printed, such as the escape sequences a caller may have put into
// his name, is shown as '?'. An error is the writer's; the lines are kept
// nevertheless.
func (d *Display) Show(line1, line2 string) error {
	d.showing.Lock()
	defer d.showing.Unlock()
	lines := [2]string{fit(line1), fit(line2)}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return fmt.Errorf("sim: show lines: %w", os.ErrClosed)
	}
	same := d.shown && d.lines == lines
	d.lines, d.shown = lines, true
	if !same {
		close(d.changed)
		d.changed = make(chan struct{})
	}
	d.mu.Unlock()
	if same || d.out == nil {
		return nil
	}
	if _, err := fmt.Fprintf(d.out, "[%-*s|%-*s]\r\n", hal.DisplayColumns, lines[0], hal.DisplayColumns, lines[1]); err != nil {
		return fmt.Errorf("sim: print lines: %w", err)
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

// Close makes Show fail with os.ErrClosed. It does not close the writer, and
// wakes who waits for a change.
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

// fit returns as much of s as a line shows.
func fit(s string) string {
	n := 0
	return strings.Map(func(r rune) rune {
		if n++; n > hal.DisplayColumns {
			return -1
		}
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
