// Command compare tries DHCP clients: ours, and those of Debian that are
// installed.
//
//	compare faults   every fault of a server: who survives what
//	compare life     ordinary life against dnsmasq, Kea and ISC dhcpd, beside others
//	compare bench    the time to an address
//	compare soak     many changes of a lease in a row, in one process
//
// It knows the lab, the faults, and our client by its exported names. It
// refuses to know how any client works: all are judged by what the kernel holds
// and by what is on the wire. All happens in namespaces that it makes, without
// root; the host's interfaces are not touched.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"flexphone/testbed/lab"
)

const usage = `usage: compare COMMAND [-only REGEXP]
  faults   every fault of a server, for every client that is installed
  life     lease, renew, rebind, NAK, move, release, link, against real servers
  bench    the time to an address, for every client that is installed
  soak     10,000 lease changes in one process (-n: another number)
`

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	err := run(ctx, os.Args[1:], os.Stdout)
	var exit *exec.ExitError
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.As(err, &exit): // it has said why
		os.Exit(exit.ExitCode())
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	commands := map[string]func(context.Context, options, io.Writer) error{
		"faults": runFaults, "life": runLife, "bench": runBench, "soak": runSoak,
	}
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprint(os.Stderr, usage)
		return errors.New("compare: say what to do")
	}
	var o options
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.StringVar(&o.only, "only", "", "only what matches this regular expression")
	flags.IntVar(&o.n, "n", 0, "how often, where that is a choice; 0: as often as is sensible")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if lab.Inside() {
		return commands[args[0]](ctx, o, out)
	}
	// What is made inside goes with this folder, also when it is ended early.
	dir, err := os.MkdirTemp("", "compare-")
	if err != nil {
		return fmt.Errorf("compare: make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	cmd := lab.Command(ctx, args...)
	cmd.Env = append(cmd.Env, "TMPDIR="+dir)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	err = cmd.Run()
	if lab.IsForbidden(err) {
		return fmt.Errorf("compare: this kernel forbids user namespaces: %w", err)
	}
	return err
}

// options of the command line.
type options struct {
	only string
	n    int
}
