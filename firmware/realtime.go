package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"flexphone/boards"
)

// realTime asks for what keeps sound from being late on a board, and says in one line
// what was got, and what was refused and why. It goes on without. What it returns makes
// the calling thread one that other programs do not keep waiting; nil: it cannot.
func realTime(b boards.RealTime, log *slog.Logger) (urgent func()) {
	var got, refused []string
	tell := func(what, needs string, err error) {
		if err == nil {
			got = append(got, what)
			return
		}
		refused = append(refused, fmt.Sprintf("%s: %v: %s", what, err, needs))
	}
	if b.Priority > 0 {
		err := allowed(b.Priority)
		tell(fmt.Sprintf("SCHED_RR %d for sound", b.Priority), "wants CAP_SYS_NICE, or RLIMIT_RTPRIO of as much", err)
		if err == nil {
			urgent = func() { _ = roundRobin(b.Priority) } // it was allowed; else it is as ever
		}
	}
	if b.Lock {
		tell("memory locked as it is touched", "wants CAP_IPC_LOCK, or no RLIMIT_MEMLOCK", lockMemory())
	}
	if b.Garbage > 0 && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(b.Garbage)
		got = append(got, fmt.Sprintf("GOGC=%d", b.Garbage))
	}
	if b.MemoryMiB > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(b.MemoryMiB) << 20)
		got = append(got, fmt.Sprintf("GOMEMLIMIT=%dMiB", b.MemoryMiB))
	}
	log.Info("real time", "got", orNothing(got), "refused", orNothing(refused))
	return urgent
}

func orNothing(all []string) string {
	if len(all) == 0 {
		return "nothing"
	}
	return strings.Join(all, ", ")
}

// allowed asks for a priority on a thread of its own, which ends with it.
func allowed(priority int) error {
	answer := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the runtime ends the thread
		answer <- roundRobin(priority)
	}()
	return <-answer
}

// roundRobin is SCHED_RR for the calling thread (sched(7)): it waits for no program of
// usual priority, and shares the processor with its like.
func roundRobin(priority int) error {
	a := unix.SchedAttr{Policy: unix.SCHED_RR, Priority: uint32(priority)}
	a.Size = uint32(unsafe.Sizeof(a))
	return unix.SchedSetAttr(0, &a, 0)
}

// capIPCLock is CAP_IPC_LOCK (capabilities(7)).
const capIPCLock = 1 << unix.CAP_IPC_LOCK

// errBounded is why memory is not locked within a bound, which the kernel would grant:
// what is mapped beyond it later would be refused, and end the program.
var errBounded = errors.New("only within a bound")

// lockMemory keeps in memory what was touched once: no page of the program is read from
// the disk again while somebody talks. Only pages that are used count (MCL_ONFAULT), as
// Go reserves far more.
func lockMemory() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return err
	}
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return err
	}
	if limit.Cur != unix.RLIM_INFINITY && data[0].Effective&capIPCLock == 0 {
		return errBounded
	}
	return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}
