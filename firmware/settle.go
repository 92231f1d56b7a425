package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// settledAfter is how long a phone has been starting for certain.
const settledAfter = 5 * time.Second

// settle gives back, once the phone has started, what only that took: a third of its memory.
// lock says that memory is kept where it is once it was touched, which it is to be again.
func settle(ctx context.Context, lock bool, log *slog.Logger) {
	wait := time.NewTimer(settledAfter)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return
	}
	debug.FreeOSMemory()
	if err := forget(lock); err != nil {
		log.Debug("pages of the start not given back", "err", err)
	}
}

// forget unmaps the pages of the program itself that were only read. Those that are needed
// are still in the kernel's cache, and are mapped again as they are touched, sixteen at a
// time; those of the start are not.
func forget(lock bool) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("forget pages: %w", err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("forget pages: %w", err)
	}
	for _, m := range onlyRead(string(smaps), program) {
		if lock { // of locked pages the kernel forgets none (madvise(2))
			if _, _, e := unix.Syscall(unix.SYS_MUNLOCK, m.begin, m.size, 0); e != 0 {
				return fmt.Errorf("forget pages: unlock them: %w", e)
			}
		}
		_, _, failed := unix.Syscall(unix.SYS_MADVISE, m.begin, m.size, unix.MADV_DONTNEED)
		if lock {
			if _, _, e := unix.Syscall(unix.SYS_MLOCK2, m.begin, m.size, unix.MLOCK_ONFAULT); e != 0 {
				return fmt.Errorf("forget pages: lock them again: %w", e)
			}
		}
		if failed != 0 {
			return fmt.Errorf("forget pages: %w", failed)
		}
	}
	return nil
}

// A mapping is where something stands in memory.
type mapping struct{ begin, size uintptr }

// onlyRead returns the mappings in smaps (proc(5)) of a program that nobody can write to,
// and nobody has: what the linker wrote before it forbade that stands nowhere else.
func onlyRead(smaps, program string) (all []mapping) {
	var m mapping
	for line := range strings.Lines(smaps) {
		if is, ok := isOf(line, program); ok {
			m = is
			continue
		}
		if v, ok := strings.CutPrefix(line, "Anonymous:"); ok && m.size > 0 && strings.TrimSpace(v) == "0 kB" {
			all = append(all, m)
		}
	}
	return all
}

// isOf reads the first line of a mapping, which is none if it is not of the program, or can
// be written to.
func isOf(line, program string) (m mapping, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 5 || strings.HasSuffix(fields[0], ":") {
		return m, false
	}
	if strings.Join(fields[5:], " ") != program || fields[1] != "r--p" && fields[1] != "r-xp" {
		return m, true
	}
	from, to, _ := strings.Cut(fields[0], "-")
	begin, err := strconv.ParseUint(from, 16, strconv.IntSize)
	if err != nil {
		return m, true
	}
	end, err := strconv.ParseUint(to, 16, strconv.IntSize)
	if err != nil || end <= begin {
		return m, true
	}
	return mapping{uintptr(begin), uintptr(end - begin)}, true
}
