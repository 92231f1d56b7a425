package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"

	"flexphone/boards"
	"flexphone/internal/realtime"
)

// realTime asks for what keeps sound from being late on a board, and says in one line
// what was got, and what was refused and why. It goes on without.
func realTime(b boards.RealTime, log *slog.Logger) {
	var got, refused []string
	tell := func(what, needs string, err error) {
		if err == nil {
			got = append(got, what)
			return
		}
		refused = append(refused, fmt.Sprintf("%s: %v: %s", what, err, needs))
	}
	if b.Priority > 0 && b.Prompt {
		tell(fmt.Sprintf("SCHED_RR %d", b.Priority), "wants CAP_SYS_NICE, or RLIMIT_RTPRIO of as much", realtime.Prompt(b.Priority, realtime.All))
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
}

func orNothing(all []string) string {
	if len(all) == 0 {
		return "nothing"
	}
	return strings.Join(all, ", ")
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
