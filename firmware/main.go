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
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"flexphone/firmware/internal/config"
	"flexphone/firmware/internal/trace"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

type commandLine struct {
	Run runCommand `cmd:"" help:"Work as a phone until it is stopped."`
	Ctl ctlCommand `cmd:"" help:"Drive a running phone, or watch it."`
	// RotateKey is for phones that do not run.
	RotateKey rotateCommand `cmd:"" help:"Make another key for a phone that is stopped, have the storing server take it, and print its fingerprint."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// execute carries out one command line and returns the exit code.
func execute(ctx context.Context, args []string, out, errs io.Writer) int {
	var c commandLine
	exited := -1
	parser, err := kong.New(&c, kong.Name("flexphone"),
		kong.Description("A desk phone that can always be called, though its address changes."),
		kong.Writers(out, errs), kong.Vars{"control": config.Default().Control, "traces": strings.Join(trace.Names(), ","), "profiles": strings.Join(profiles(), ",")}, kong.Exit(func(code int) { exited = code }),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.BindTo(out, (*io.Writer)(nil)), kong.Bind(errsWriter{errs}))
	if err != nil {
		fmt.Fprintln(errs, "flexphone:", err)
		return exitFailed
	}
	parsed, err := parser.Parse(args)
	switch {
	case exited >= 0: // help was asked for
		return exited
	case err != nil:
		fmt.Fprintf(errs, "flexphone: %v; `flexphone --help` lists the commands\n", err)
		return exitUsage
	}
	if err := parsed.Run(); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(errs, "flexphone:", err)
		if errors.Is(err, errUsage) {
			return exitUsage
		}
		return exitFailed
	}
	return exitDone
}

// errUsage is wrapped by errors of a command line that parsed.
var errUsage = errors.New("wrong usage")

// errsWriter is where logs go.
type errsWriter struct{ io.Writer }

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
