// Package usage reads what processes take of the machine from /proc.
//
// It knows proc(5), and that a program may be several processes. It refuses to
// know what they do, and how much would be too much.
package usage

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTick is of /proc/PID/stat: USER_HZ is 100 on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// A Usage is what processes have taken.
type Usage struct {
	CPU time.Duration // of user and system, in steps of 10 ms a process
	// Anonymous are the bytes that are resident and belong to no file.
	Anonymous int64
}

// Of adds up pid and its children and theirs. Those that have ended count
// nothing.
func Of(pid int) Usage {
	var u Usage
	for _, p := range Family(pid) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		if err != nil {
			continue // it has ended
		}
		// proc(5): the name stands in brackets and may hold anything.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 13 {
			continue
		}
		user, _ := strconv.ParseInt(fields[11], 10, 64)
		system, _ := strconv.ParseInt(fields[12], 10, 64)
		u.CPU += time.Duration(user+system) * clockTick
		u.Anonymous += bytesOf(fmt.Sprintf("/proc/%d/status", p), "RssAnon:")
	}
	return u
}

// Proportional returns the resident bytes of pid and its children and theirs, of
// which those that are shared count for each of their users in part (PSS). 0: they
// may not be read. It walks all their pages, so it is dear.
func Proportional(pid int) int64 {
	var sum int64
	for _, p := range Family(pid) {
		sum += bytesOf(fmt.Sprintf("/proc/%d/smaps_rollup", p), "Pss:")
	}
	return sum
}

// Resident returns the resident bytes of pid and its children and theirs, of which
// those that are shared count wholly for each (RSS). 0: they may not be read.
func Resident(pid int) int64 {
	var sum int64
	for _, p := range Family(pid) {
		sum += bytesOf(fmt.Sprintf("/proc/%d/status", p), "VmRSS:")
	}
	return sum
}

// bytesOf reads the line of a file that begins with word and counts in kB; 0:
// there is none.
func bytesOf(file, word string) int64 {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, word); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// Family returns pid and all that descend from it.
func Family(pid int) []int {
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		for _, t := range tasks {
			b, _ := os.ReadFile(t)
			for _, f := range strings.Fields(string(b)) {
				if n, err := strconv.Atoi(f); err == nil {
					all = append(all, n)
				}
			}
		}
	}
	return all
}

// OwnCPU returns the processor time of this process; 0: it cannot be read.
func OwnCPU() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
