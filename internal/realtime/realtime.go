// Package realtime gives a program's threads a real-time priority, where the kernel
// permits it (sched(7)).
//
// It knows threads, and what Go's runtime does with them. It refuses to know what is so
// urgent.
//
// # Why all threads
//
// A packet, or a tick of a sound card, is waited for by whichever thread Go's runtime has
// at hand, and that one wakes the one that is to work on it. One thread of high priority
// that waits for others of usual priority is as late as these.
//
// Go shares the processors among its goroutines as ever, for which it has a thread that
// interrupts those that take long. It is the first that the runtime makes, and has a
// priority above the others: it could not interrupt them else.
package realtime

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Inherit says which threads and processes that are made later have the priority, too.
type Inherit uint64

const (
	All     Inherit = 0                             // also other programs that are started
	Nothing Inherit = unix.SCHED_FLAG_RESET_ON_FORK // only those that are there now
)

// Prompt gives all threads of this program SCHED_RR: no program of usual priority keeps
// them waiting. The priority is 1 to 98.
func Prompt(priority int, inherit Inherit) error {
	for {
		changed, err := promptNow(priority, inherit)
		if err != nil {
			return fmt.Errorf("realtime: set priority: %w", err)
		}
		if !changed || inherit == Nothing {
			return nil
		}
		// Some may have been made meanwhile by threads that did not have it yet.
	}
}

// promptNow reports whether there was a thread that it changed.
func promptNow(priority int, inherit Inherit) (changed bool, err error) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return false, err
	}
	var ids []int
	for _, t := range threads {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for i, id := range ids {
		a := unix.SchedAttr{Policy: unix.SCHED_RR, Flags: uint64(inherit), Priority: uint32(priority)}
		a.Size = uint32(unsafe.Sizeof(a))
		if i == watcher {
			a.Priority++
		}
		if was, err := unix.SchedGetAttr(id, 0); err == nil && was.Policy == a.Policy {
			continue
		}
		if err := unix.SchedSetAttr(id, &a, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// watcher is the place of the runtime's own thread among all, the oldest first.
const watcher = 1
