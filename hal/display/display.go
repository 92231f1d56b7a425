// Package display is the driver of a display that is a terminal: a console on
// HDMI, or a serial line with a display of text behind it.
//
// It knows how a line of text is made to fit, and how two of them are printed. It
// refuses to know what the text means, and which terminal it is.
package display

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"

	"flexphone/hal"
)

// A Terminal is a hal.Display that prints each change to a writer, as one row of
// text:
//
//	[101                     |not private             ]
//
// It is safe for concurrent use.
type Terminal struct {
	out io.Writer

	showing sync.Mutex // held by the one Show at a time, over its write
	shown   bool       // whether lines is what the terminal shows
	lines   [2]string

	mu     sync.Mutex // never held over a write
	closed bool
}

var _ hal.Display = (*Terminal)(nil)

// NewTerminal returns a display that prints to w.
func NewTerminal(w io.Writer) *Terminal { return &Terminal{out: w} }

// Show replaces both lines, each as Fit makes it. An error is the writer's, or
// os.ErrClosed. Lines that the writer has refused are printed when they are shown
// again.
func (d *Terminal) Show(line1, line2 string) error {
	d.showing.Lock()
	defer d.showing.Unlock()
	lines := [2]string{Fit(line1), Fit(line2)}
	d.mu.Lock()
	closed := d.closed
	d.mu.Unlock()
	if closed {
		return fmt.Errorf("display: show lines: %w", os.ErrClosed)
	}
	if d.shown && d.lines == lines {
		return nil
	}
	_, err := fmt.Fprintf(d.out, "[%-*s|%-*s]\r\n", hal.DisplayColumns, lines[0], hal.DisplayColumns, lines[1])
	if d.lines, d.shown = lines, err == nil; err != nil {
		return fmt.Errorf("display: print lines: %w", err)
	}
	return nil
}

// Close makes Show fail with os.ErrClosed. It does not close the writer.
func (d *Terminal) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return os.ErrClosed
	}
	d.closed = true
	return nil
}

// Fit returns as much of s as a line shows. What cannot be printed, such as the
// escape sequences that a caller may have put into his name, is '?'.
func Fit(s string) string {
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
