package main

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"flexphone/boards"
	"flexphone/firmware/internal/config"
)

// A device rings where the settings, or else the board, name one, and none of files does.
func TestWhoRings(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, tt := range []struct {
		board, setting, backend string
		rings                   bool
	}{{"", "", "", false}, {"no card of a board is called so", "", "", true}, {"", "no card is called so", "", true}, {"x", "y", "wav", false}} {
		open := ringerOf(boards.Sound{Ringer: tt.board}, 0, config.Audio{Ringer: tt.setting, Backend: tt.backend}, log)
		if (open != nil) != tt.rings {
			t.Errorf("%+v: rings %v", tt, open != nil)
			continue
		}
		if open == nil {
			continue
		}
		if _, err := open(); err == nil || !strings.Contains(err.Error(), tt.board+tt.setting) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

// whole asks for everything.
var whole = boards.RealTime{Priority: 10, Lock: true, Garbage: 150, MemoryMiB: 512}

// asked returns what the log says when whole is asked for, and the policy of a thread
// that is made urgent.
func asked() (line string, policy uint32) {
	var log bytes.Buffer
	urgent := realTime(whole, slog.New(slog.NewTextHandler(&log, nil)))
	answer := make(chan uint32)
	go func() {
		runtime.LockOSThread()
		if urgent != nil {
			urgent()
		}
		a, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			a = &unix.SchedAttr{Policy: 99}
		}
		answer <- a.Policy
	}()
	return log.String(), <-answer
}

// What the log says was got is so, and what was refused is told with what it wants; the
// phone goes on either way. The test runs itself again where the kernel grants nothing.
func TestRealTime(t *testing.T) {
	const marked = "FLEXPHONE_REALTIME"
	if os.Getenv(marked) != "" {
		line, policy := asked()
		os.Stdout.WriteString(line)
		if strings.Contains(line, "SCHED_RR") && policy == unix.SCHED_RR || strings.Count(line, "\n") != 1 {
			t.Errorf("policy %d, %s", policy, line)
		}
		return
	}
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	gc, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer func() {
		debug.SetGCPercent(gc)
		debug.SetMemoryLimit(limit)
		_ = unix.Munlockall() // it may not have been locked
	}()
	line, policy := asked()
	t.Log(line)
	got, refused, ok := strings.Cut(line, "refused=")
	if !ok || strings.Count(line, "\n") != 1 || !strings.Contains(got, "GOGC=150, GOMEMLIMIT=512MiB") || debug.SetMemoryLimit(-1) != 512<<20 || debug.SetGCPercent(100) != 150 {
		t.Errorf("%s", line)
	}
	if has := policy == unix.SCHED_RR; has != strings.Contains(got, "SCHED_RR 10") || has == strings.Contains(refused, "CAP_SYS_NICE") {
		t.Errorf("policy %d: %s", policy, line)
	}
	if strings.Contains(got, "memory locked") == strings.Contains(refused, "CAP_IPC_LOCK") {
		t.Errorf("%s", line)
	}

	me, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	again := exec.Command(me, "-test.run=^TestRealTime$")
	again.Env = append(os.Environ(), marked+"=1", "GOGC=77", "GOMEMLIMIT=1GiB")
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER} // where no capability counts
	out, err := again.Output()
	if err != nil {
		t.Skipf("no user namespaces: %v: %s", err, out)
	}
	for _, want := range []string{"got=nothing", "SCHED_RR 10 for sound: operation not permitted: wants CAP_SYS_NICE", "wants CAP_IPC_LOCK"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%s; want %q", out, want)
		}
	}
}
