package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"

	"flexphone/audio"
	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/watchdog"
)

// guard feeds the board's watchdog while call control and the engine make
// progress. When one does not it ends the program with the stacks of all
// goroutines; init starts it again.
func guard(ctx context.Context, path string, ph *phone.Phone, engine *audio.Engine, log *slog.Logger) error {
	checks := []watchdog.Check{ph.Alive, engine.Alive}
	var err error
	if path == "" {
		err = watchdog.Feed(ctx, nil, checks, log)
	} else if device, openErr := watchdog.Open(path); openErr != nil {
		log.Error("no hardware watchdog", "err", openErr)
		err = watchdog.Feed(ctx, nil, checks, log)
	} else {
		defer device.Close()
		err = watchdog.Feed(ctx, device, checks, log)
	}
	if ctx.Err() == nil {
		debug.SetTraceback("all")
		panic(fmt.Sprintf("the phone hangs: %v", err))
	}
	return err
}

// reportCrashes tells of the last crash, if there was one, and lets the next
// leave its report in the data folder.
func reportCrashes(data string, log *slog.Logger) error {
	path := filepath.Join(data, "crash")
	report, err := watchdog.TakeReport(path)
	if err != nil {
		return err
	}
	if report != "" {
		log.Error("the phone had crashed", "cause", watchdog.Cause(report), "report", path+".last")
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("flexphone: make crash report: %w", err)
	}
	defer f.Close() // the runtime keeps a copy of its own
	return debug.SetCrashOutput(f, debug.CrashOptions{})
}
