package main

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/testbed/pace"
)

// A copper stands for the contacts of a matrix: gpio-sim has lines, but nothing
// between them. The columns are pulled as the rows are driven, through all
// contacts that are closed, backwards through a third one too.
// It is not copper: the phone has to give it some time (boards.Matrix.Settle).
type copper struct {
	dir    string
	rows   [rows]*os.File // their values
	closed [rows]int      // the columns that the contacts of each row join to it, one bit each
	pulled int            // the columns that are low, one bit each
	driven int            // the rows that were low when it last looked, one bit each
	looked time.Duration  // when that was
	behind time.Duration  // the longest from one look to the next
}

// The lines of the matrix in its bank, low when driven.
const (
	rows, firstRow       = 4, 13
	columns, firstColumn = 3, 17
)

const (
	// looks is how often the phone is let look at what has changed. Two in
	// succession would do, but for a copper that is late.
	looks = 5
	// copperTick is how long the copper may be behind: a fifth of what the phone
	// gives it. More often would leave a slow processor to nobody else.
	copperTick = 2 * time.Millisecond
	// ignored is for how many ticks keys are held that nobody looks at: ten seconds, of
	// which those do not count in which the machine stands still.
	ignored = 5000
)

// openCopper makes the caller's goroutine, which ends with its order, go before
// whatever else wants the processor, the phone's threads and their real-time priority
// included: electrons do not wait for programs.
func openCopper(dir string) (*copper, error) {
	runtime.LockOSThread() // and never unlocked, so that the thread ends with it
	first := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 90}
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

func (c *copper) move(key int, down bool) error {
	row, column := key/columns, key%columns
	if c.closed[row] &^= 1 << column; down {
		c.closed[row] |= 1 << column
	}
	return c.tick()
}

// hold returns once the phone has looked at the keys as they are, or, when all
// are up, has driven all rows again and waits.
func (c *copper) hold() error {
	seen := 0
	for range ignored {
		before := c.driven
		if err := c.tick(); err != nil {
			return err
		}
		if c.closed == [rows]int{} && c.driven == 1<<rows-1 {
			return nil
		}
		if c.driven != before && c.driven == 1<<(rows-1) { // the last of a look
			if seen++; seen > looks { // the first may have begun before
				return nil
			}
		}
	}
	return errors.New("nobody looks at the matrix")
}

// tick lets the columns follow the rows, and a moment pass.
func (c *copper) tick() error {
	now := pace.Now()
	if c.looked != 0 {
		c.behind = max(c.behind, now-c.looked)
	}
	c.looked, c.driven = now, 0
	var level [1]byte
	for row, f := range c.rows {
		if _, err := unix.Pread(int(f.Fd()), level[:], 0); err != nil {
			return fmt.Errorf("read row %d: %w", row, err)
		}
		if level[0] == '0' {
			c.driven |= 1 << row
		}
	}
	low := c.low(c.driven)
	for column := range columns {
		if bit := 1 << column; (low^c.pulled)&bit != 0 {
			if err := pull(c.dir, firstColumn+column, low&bit != 0); err != nil {
				return err
			}
		}
	}
	c.pulled = low
	moment := unix.NsecToTimespec(copperTick.Nanoseconds())
	_ = unix.Nanosleep(&moment, nil)
	return nil
}

func (c *copper) late() time.Duration { return c.behind }

// low returns the columns that are joined to a driven row, in any number of steps.
func (c *copper) low(driven int) (low int) {
	for reached := bits.OnesCount(uint(driven)); ; {
		for row, joined := range c.closed {
			if driven>>row&1 == 1 {
				low |= joined
			} else if joined&low != 0 {
				driven |= 1 << row
			}
		}
		now := bits.OnesCount(uint(driven))
		if now == reached {
			return low
		}
		reached = now
	}
}
