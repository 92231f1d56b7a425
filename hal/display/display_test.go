package display_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"flexphone/hal"
	"flexphone/hal/display"
	"flexphone/hal/haltest"
)

func TestTerminal(t *testing.T) {
	haltest.Display(t, func(*testing.T) haltest.DisplayRig {
		var out bytes.Buffer
		d := display.NewTerminal(&out)
		return haltest.DisplayRig{Display: d, Close: d.Close, Lines: func() (string, string) {
			rows := strings.Split(out.String(), "\r\n")
			row := strings.Trim(rows[len(rows)-2], "[]")
			line1, line2, _ := strings.Cut(row, "|")
			return strings.TrimRight(line1, " "), strings.TrimRight(line2, " ")
		}}
	})
}

func TestTerminalPrintsChangesOnly(t *testing.T) {
	var out strings.Builder
	d := display.NewTerminal(&out)
	for range 3 {
		if err := d.Show("102", "ringing"); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := out.String(), "[102                     |ringing                 ]\r\n"; got != want {
		t.Errorf("printed %q; want %q", got, want)
	}
}

func TestTerminalTellsOfItsWriter(t *testing.T) {
	r, w := io.Pipe()
	r.Close()
	if err := display.NewTerminal(w).Show("a", "b"); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Show() = %v; want %v", err, io.ErrClosedPipe)
	}
}

// A writer that fails once, as a console does that is not there yet.
type failsOnce struct {
	strings.Builder
	failed bool
}

func (f *failsOnce) Write(b []byte) (int, error) {
	if !f.failed {
		f.failed = true
		return 0, io.ErrShortWrite
	}
	return f.Builder.Write(b)
}

func TestTerminalPrintsAgainWhatFailed(t *testing.T) {
	var out failsOnce
	d := display.NewTerminal(&out)
	if err := d.Show("102", "ringing"); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("Show() = %v; want %v", err, io.ErrShortWrite)
	}
	if err := d.Show("102", "ringing"); err != nil || !strings.Contains(out.String(), "102") {
		t.Errorf("shown again: printed %q, %v", out.String(), err)
	}
}

func TestTerminalIsClosedOnce(t *testing.T) {
	var out strings.Builder
	d := display.NewTerminal(&out)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"Close": d.Close(), "Show": d.Show("a", "b")} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s() = %v; want %v", what, err, os.ErrClosed)
		}
	}
	if out.Len() > 0 {
		t.Errorf("printed %q once it was closed", out.String())
	}
}

// What a caller has put into his name moves no cursor, and fits.
func FuzzFit(f *testing.F) {
	for _, s := range []string{"102", "\x1b[2J", "\r\n", "Jürgen \u200f\x9b", "\xff", strings.Repeat("ü", 2*hal.DisplayColumns)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := display.Fit(s)
		if n := utf8.RuneCountInString(got); n > hal.DisplayColumns || n != min(utf8.RuneCountInString(s), hal.DisplayColumns) {
			t.Errorf("Fit(%q) = %q, %d characters", s, got, n)
		}
		if i := strings.IndexFunc(got, func(r rune) bool { return r < ' ' || r >= 0x7f && r <= 0x9f }); i >= 0 || display.Fit(got) != got {
			t.Errorf("Fit(%q) = %q", s, got)
		}
	})
}
