package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"flexphone/firmware/internal/parts"
	"flexphone/firmware/internal/watchdog"
)

// guard feeds the board's watchdog while call control and the engine make
// progress. When one does not it ends the program with the stacks of all
// goroutines; init starts it again.
func guard(ctx context.Context, path string, checks []watchdog.Check, broken func(error), log *slog.Logger) {
	var err error
	if path == "" {
		err = watchdog.Feed(ctx, nil, checks, log)
	} else if device, openErr := watchdog.Open(path); openErr != nil {
		broken(openErr)
		err = watchdog.Feed(ctx, nil, checks, log)
	} else {
		defer device.Close()
		err = watchdog.Feed(ctx, device, checks, log)
	}
	if ctx.Err() == nil {
		debug.SetTraceback("all")
		panic(fmt.Sprintf("the phone hangs: %v", err)) // not contained: nobody started this as a part
	}
}

// crashes keeps the reports of panics in the data folder: the runtime writes that
// of one which ends the program, this type those that were contained.
type crashes struct {
	path string
	log  *slog.Logger

	mu   sync.Mutex
	kept time.Time // the last report; zero: none
}

// reportPause is between two reports on the disk: whoever can make the phone panic
// must not wear out its flash. The log has all of them.
const reportPause = time.Minute

// keep keeps the report of a contained panic.
func (c *crashes) keep(p parts.Panic) {
	c.log.Error("panic contained", "in", p.What, "cause", p.Value, "stack", string(p.Stack))
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.kept.IsZero() && time.Since(c.kept) < reportPause {
		return
	}
	c.kept = time.Now()
	if err := watchdog.KeepReport(c.path, p.Text()); err != nil {
		c.log.Warn("report not kept", "err", err)
	}
}

// begin tells of the last crash, if there was one, and lets the next leave its
// report.
func (c *crashes) begin() error {
	report, err := watchdog.TakeReport(c.path)
	if err != nil {
		return err
	}
	if report != "" {
		c.log.Error("the phone had crashed", "cause", watchdog.Cause(report), "report", c.path+".last")
	}
	f, err := os.OpenFile(c.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("flexphone: make crash report: %w", err)
	}
	defer f.Close() // the runtime keeps a copy of its own
	return debug.SetCrashOutput(f, debug.CrashOptions{})
}
