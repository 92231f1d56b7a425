package main

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
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
var whole = boards.RealTime{Priority: 10, Prompt: true, Lock: true, Garbage: 150, MemoryMiB: 512}

// asked returns what the log says when whole is asked for, and the policy of this thread.
func asked(t *testing.T) (line string, policy uint32) {
	var log bytes.Buffer
	realTime(whole, slog.New(slog.NewTextHandler(&log, nil)))
	a, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return log.String(), a.Policy
}

// What the log says was got is so, and what was refused is told with what it wants; the
// phone goes on either way. The test runs itself in other processes, which end with what
// they got: one of them where the kernel grants nothing.
func TestRealTime(t *testing.T) {
	const marked = "FLEXPHONE_REALTIME"
	switch os.Getenv(marked) {
	case "granted":
		testRealTime(t)
		return
	case "refused":
		line, policy := asked(t)
		os.Stdout.WriteString(line)
		if policy == unix.SCHED_RR || strings.Count(line, "\n") != 1 {
			t.Errorf("policy %d, %s", policy, line)
		}
		return
	}
	again := func(how string, flags uintptr, env ...string) (string, error) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestRealTime$", "-test.v")
		cmd.Env = append(append(os.Environ(), marked+"="+how), env...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := again("granted", 0, "GOGC=", "GOMEMLIMIT="); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	// In a user namespace no capability counts.
	out, err := again("refused", syscall.CLONE_NEWUSER, "GOGC=77", "GOMEMLIMIT=1GiB")
	if err != nil {
		t.Skipf("no user namespaces: %v: %s", err, out)
	}
	for _, want := range []string{"got=nothing", "SCHED_RR 10: realtime: set priority: operation not permitted: wants CAP_SYS_NICE", "wants CAP_IPC_LOCK"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s; want %q", out, want)
		}
	}
}

// testRealTime runs where the kernel may grant all.
func testRealTime(t *testing.T) {
	line, policy := asked(t)
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
}
