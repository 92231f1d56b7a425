// Command storing-server holds one row a phone: MAC to the address it has now.
//
// It knows its command line and how its parts are put together: package store
// keeps the rows, exchange and directory answer phones, admin and web answer
// the operator. It refuses to listen on any port that was not asked for, other
// than the phones' own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// A CLI is the command line.
type CLI struct {
	Version kong.VersionFlag `help:"Print which version this is, and end."`

	Run      RunCmd      `cmd:"" help:"Serve phones until interrupted. SIGHUP has certificates and --ca read again."`
	Rows     RowsCmd     `cmd:"" help:"Print all rows: a table to people, JSON to programs."`
	Number   NumberCmd   `cmd:"" help:"Short numbers."`
	Bench    BenchCmd    `cmd:"" help:"Measure a storing server under load, and others beside it; or soak it."`
	Backup   BackupCmd   `cmd:"" help:"Write all rows and the server's key to a file, while it serves."`
	Restore  RestoreCmd  `cmd:"" help:"Make a data folder of a backup."`
	Key      KeyCmd      `cmd:"" help:"Keys of phones."`
	Token    TokenCmd    `cmd:"" help:"One-time tokens for enrolment."`
	Waiting  WaitingCmd  `cmd:"" help:"Phones that wait to be let in (run --enrol approve)."`
	Password PasswordCmd `cmd:"" help:"Set a password of the operator's pages."`
	APIToken APITokenCmd `cmd:"" name:"api-token" help:"Tokens with which programs use the JSON API."`
	Link     LinkCmd     `cmd:"" help:"Links by which people call phones from a browser (run --http)."`
	Phone    PhoneCmd    `cmd:"" help:"Names of phones, and standard SIP phones."`
	Region   RegionCmd   `cmd:"" help:"Which server keeps which phones' rows, where one cluster cannot keep all."`
	Forget   ForgetCmd   `cmd:"" help:"Delete a phone's row, with its key and number: the next key that announces it owns it."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return runIn(&edges{ctx: ctx, stdin: os.Stdin, stdout: stdout, stderr: stderr}, args)
}

// runIn is main with its edges passed in.
func runIn(e *edges, args []string) int {
	stdout, stderr := e.stdout, e.stderr
	var cli CLI
	exited := -1
	parser, err := kong.New(&cli,
		kong.Name("storing-server"),
		kong.Description("Holds where each phone is now."),
		kong.Writers(stdout, stderr),
		kong.Vars{"version": version()},
		kong.Exit(func(code int) { exited = code }),
	)
	if err != nil {
		fmt.Fprintln(stderr, "storing-server:", err)
		return exitFailed
	}
	command, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help
	}
	if err != nil {
		fmt.Fprintf(stderr, "storing-server: %v\nTry: storing-server --help\n", err)
		return exitUsage
	}
	err = command.Run(e)
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "storing-server: %v\n", err)
		return exitUsage
	case err != nil:
		fmt.Fprintf(stderr, "storing-server: %v\n", err)
		return exitFailed
	}
	return 0
}

// version says what this program was built of, as Go's linker knows it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "storing-server, of an unknown version"
	}
	what, changed := info.Main.Version, ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && (what == "" || what == "(devel)"):
			what = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = ", changed since"
		}
	}
	return fmt.Sprintf("storing-server %s%s (%s %s/%s)", what, changed, info.GoVersion, runtime.GOOS, runtime.GOARCH)
}

// edges are what a command has of the world. Commands are run by kong, which
// passes them on; ctx ends at an interrupt.
type edges struct {
	ctx            context.Context
	stdin          io.Reader
	stdout, stderr io.Writer
	// command returns this program with other arguments; nil: by its own path.
	command func(args ...string) *exec.Cmd
	// now is the clock that rows expire by; nil: the system's.
	now func() time.Time
}

// A usageError is the user's mistake, found after parsing.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }
