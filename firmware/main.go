// Command flexphone is the phone: its firmware, and `flexphone ctl`, which
// drives a running one.
//
// This package knows every other one and decides nothing that is said between
// phones: run.go joins the parts along the two arrows of the method, lives.go and
// the files called after a part say how each is begun and ended, hardware.go turns
// a board into drivers, and the other files translate between rooms. Who is called
// and believed is decided in directory, what a call does in phone.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// execute carries out one command line and returns the exit code.
func execute(ctx context.Context, args []string, out, errs io.Writer) int {
	err := obey(ctx, args, out, errs)
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return exitDone
	case errors.Is(err, errLine):
		fmt.Fprintf(errs, "flexphone: %v; `flexphone --help` lists the commands\n", err)
		return exitUsage
	case errors.Is(err, errUsage):
		fmt.Fprintln(errs, "flexphone:", err)
		return exitUsage
	}
	fmt.Fprintln(errs, "flexphone:", err)
	return exitFailed
}

// errLine is wrapped by errors of a command line that says nothing, and errUsage by those of
// one that is read, and cannot be obeyed.
var (
	errLine  = errors.New("wrong command")
	errUsage = errors.New("wrong usage")
)

// newLog returns a log in the form that people or programs read.
func newLog(w io.Writer, format string, verbose bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	if verbose {
		options.Level = slog.LevelDebug
	}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
