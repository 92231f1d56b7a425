// Package poweron tells how long a phone took from power-on to its dial tone.
//
// All times are CLOCK_BOOTTIME (clock_gettime(2)): the kernel starts it, so the
// steps before this program ran stand on the same clock as those after. What a
// boot loader does comes before it and is not seen.
package poweron

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ticks is USER_HZ, the unit of times in /proc/PID/stat: 100 a second on every
// architecture that Linux runs Go on.
const ticks = 10 * time.Millisecond

// A Chain is the steps from power-on, each the first time that it is reached.
type Chain struct {
	now func() (time.Duration, error)

	mu    sync.Mutex
	steps []slog.Attr
	seen  map[string]bool
}

// Start returns the chain of this boot with the steps before now: "init", when
// process 1 was started, and "firmware", when this one was.
func Start() (*Chain, error) {
	c := &Chain{now: sinceBoot, seen: map[string]bool{}}
	for _, p := range []struct{ step, stat string }{{"init", "/proc/1/stat"}, {"firmware", "/proc/self/stat"}} {
		text, err := os.ReadFile(p.stat)
		if err != nil {
			return nil, fmt.Errorf("poweron: %w", err)
		}
		at, err := startTime(string(text))
		if err != nil {
			return nil, fmt.Errorf("poweron: %s: %w", p.stat, err)
		}
		c.add(p.step, at)
	}
	return c, nil
}

func (c *Chain) add(step string, at time.Duration) {
	c.seen[step] = true
	c.steps = append(c.steps, slog.Duration(step, at))
}

// Reached notes that step is reached now. Only the first time counts; it reports
// whether this was it.
func (c *Chain) Reached(step string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen[step] {
		return false
	}
	at, err := c.now()
	if err != nil {
		return false
	}
	c.add(step, at)
	return true
}

// Steps returns the steps so far, each with its time since the kernel started.
func (c *Chain) Steps() []slog.Attr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]slog.Attr(nil), c.steps...)
}

func sinceBoot() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0, fmt.Errorf("poweron: read clock: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// startTime reads field 22 of a /proc/PID/stat (proc(5)): when the process was
// started. Field 2, a name in parentheses, may hold blanks and parentheses.
func startTime(stat string) (time.Duration, error) {
	end := strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[end+1:])
	const field = 22 - 3 // the first of these is field 3
	if end < 0 || len(fields) <= field {
		return 0, fmt.Errorf("not a process's stat: %.40q", stat)
	}
	n, err := strconv.ParseInt(fields[field], 10, 64)
	if err != nil || n < 0 || n > int64(1<<62/ticks) {
		return 0, fmt.Errorf("start time %q", fields[field])
	}
	return time.Duration(n) * ticks, nil
}
