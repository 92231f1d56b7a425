package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// A copper stands for the contacts of a matrix: gpio-sim has lines, but nothing
// between them. While a key is down, its column is pulled as its row is driven.
// It is not copper: the phone has to give it some time (boards.Matrix.Settle).
type copper struct {
	dir  string
	rows [rows]*os.File // their values
}

// The lines of the matrix in its bank, low when driven.
const (
	rows, firstRow       = 4, 13
	columns, firstColumn = 3, 17
)

const (
	// looks is how often the phone is let look at a key that is down. Two in
	// succession would do, but for a copper that is late.
	looks = 5
	// copperTick is how long the copper may be behind: a fifth of what the phone
	// gives it. More often would leave a slow processor to nobody else.
	copperTick = 2 * time.Millisecond
	// ignored is how long a key is held that nobody looks at.
	ignored = 10 * time.Second
)

// openCopper makes the caller's goroutine, which ends with its order, go before
// whatever else wants the processor: electrons do not wait for programs.
func openCopper(dir string) (*copper, error) {
	runtime.LockOSThread() // and never unlocked, so that the thread ends with it
	first := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if err := unix.SchedSetAttr(0, &first, 0); err != nil {
		return nil, fmt.Errorf("go before the others: %w", err)
	}
	// Nor do they wait for goroutines, whose threads do not go first.
	runtime.GOMAXPROCS(8)
	c := &copper{dir: dir}
	for row := range c.rows {
		f, err := os.Open(filepath.Join(dir, fmt.Sprintf("sim_gpio%d", firstRow+row), "value"))
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.rows[row] = f
	}
	return c, nil
}

// Close closes what openCopper opened.
func (c *copper) Close() error {
	var problems []error
	for _, f := range c.rows {
		if f != nil {
			problems = append(problems, f.Close())
		}
	}
	return errors.Join(problems...)
}

// press closes a contact until the phone has seen it, and returns once the phone
// has seen it open: all rows are driven again.
func (c *copper) press(row, column int) error {
	line := firstColumn + column
	seen := 0
	err := c.follow(func(driven int) bool {
		if driven == 1<<row {
			seen++
		}
		return seen == looks
	}, func(driven int) error { return pull(c.dir, line, driven>>row&1 == 1) })
	return errors.Join(err, pull(c.dir, line, false),
		c.follow(func(driven int) bool { return driven == 1<<rows-1 }, func(int) error { return nil }))
}

// follow calls pull whenever other rows are driven, until it was done for those
// that end accepts.
func (c *copper) follow(end func(driven int) bool, pull func(driven int) error) error {
	tick := unix.NsecToTimespec(copperTick.Nanoseconds())
	before := -1
	for late := time.Now().Add(ignored); ; {
		driven, err := c.driven()
		if err != nil {
			return err
		}
		if driven != before {
			before = driven
			if err := pull(driven); err != nil {
				return err
			}
			if end(driven) {
				return nil
			}
		}
		if time.Now().After(late) {
			return errors.New("nobody looks at the matrix")
		}
		_ = unix.Nanosleep(&tick, nil)
	}
}

// driven returns the rows that are driven, one bit each.
func (c *copper) driven() (bits int, err error) {
	var level [1]byte
	for row, f := range c.rows {
		if _, err := unix.Pread(int(f.Fd()), level[:], 0); err != nil {
			return 0, fmt.Errorf("read row %d: %w", row, err)
		}
		if level[0] == '0' {
			bits |= 1 << row
		}
	}
	return bits, nil
}
