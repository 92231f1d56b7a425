package watchdog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// run feeds a device in simulated time until the checks fail or d has passed.
func run(t *testing.T, d time.Duration, checks ...Check) (fed string, took time.Duration, err error) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		var device bytes.Buffer
		start := time.Now()
		err = Feed(ctx, &device, checks, slog.New(slog.DiscardHandler))
		fed, took = device.String(), time.Since(start)
	})
	return fed, took, err
}

func alive(context.Context) error { return nil }

func TestFedWhileAllAreAlive(t *testing.T) {
	fed, _, err := run(t, time.Minute+time.Second, alive, alive)
	if !errors.Is(err, context.DeadlineExceeded) || fed != strings.Repeat("\x00", 13)+"V" {
		t.Errorf("Feed() wrote %q, %v; want a byte every 5 s of a minute, then V", fed, err)
	}
}

// A part that hangs must be named in time for the program to end itself, before
// the hardware does.
func TestAHungPartStopsTheFeeding(t *testing.T) {
	asked := 0
	fed, took, err := run(t, time.Hour, alive, func(ctx context.Context) error {
		if asked++; asked <= 2 {
			return nil
		}
		<-ctx.Done()
		return fmt.Errorf("engine: %w", ctx.Err())
	})
	if err == nil || !strings.Contains(err.Error(), "engine") || fed != "\x00\x00" {
		t.Errorf("Feed() = %v after %q; want an error of the engine after two feeds", err, fed)
	}
	if sinceFed := took - checkEvery; sinceFed >= HardwareTimeout {
		t.Errorf("the hang was noticed %v after the last feed, when the hardware had bitten", sinceFed)
	}
}

// The report of a real crash is found by the next run, once.
func TestCrashReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "crash")
	if os.Getenv("CRASH_AT") != "" {
		f, err := os.Create(os.Getenv("CRASH_AT"))
		if err != nil {
			t.Fatal(err)
		}
		if err := debug.SetCrashOutput(f, debug.CrashOptions{}); err != nil {
			t.Fatal(err)
		}
		panic("the phone fell down")
	}
	if report, err := TakeReport(path); report != "" || err != nil {
		t.Errorf("TakeReport() before a crash = %q, %v", report, err)
	}
	crash(t, path)
	report, err := TakeReport(path)
	if err != nil || !strings.Contains(report, "goroutine") {
		t.Errorf("TakeReport() = %.100q, %v; want stacks", report, err)
	}
	if got := Cause(report); !strings.HasPrefix(got, "panic: the phone fell down") {
		t.Errorf("Cause() = %q", got)
	}
	if again, err := TakeReport(path); again != "" || err != nil {
		t.Errorf("TakeReport() twice = %.100q, %v", again, err)
	}
	if _, err := os.Stat(path + ".last"); err != nil {
		t.Errorf("the report was not kept: %v", err)
	}
}

// crash runs the calling test again as a program that panics.
func crash(t *testing.T, path string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "CRASH_AT="+path)
	if err := cmd.Run(); err == nil {
		t.Fatal("the program did not crash")
	}
}
