// Command registrars measures servers that keep addresses beside the storing
// server, in one run on one machine: Kamailio, in memory and through to
// PostgreSQL, and BIND, where they are installed.
//
//	registrars build/host/storing-server
//
// It knows how Debian's packages of them are configured to do what a storing
// server does, and started without touching the host: from a folder of their own,
// on loopback. It knows the storing server by its command `bench --json` alone.
//
// # Why each is asked in its own way
//
// A registration with Kamailio is a REGISTER, with BIND a dynamic update (RFC
// 2136); a lookup is an INVITE that is answered with 302, or a query. All loads
// are closed loops, so each server sets its own pace, and the processor time that
// server and load took stands beside each figure. Ours alone encrypts, and stores
// before it answers, as BIND does, and Kamailio with PostgreSQL.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"
)

// options say what is measured.
type options struct {
	server string        // the storing server's program
	time   time.Duration // of each load
	dir    string        // for data of servers that are started; exists
	say    func(format string, args ...any)
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) (err error) {
	flags := flag.NewFlagSet("registrars", flag.ContinueOnError)
	flags.SetOutput(progress)
	o := options{say: func(format string, args ...any) { fmt.Fprintf(progress, "registrars: "+format+"\n", args...) }}
	flags.DurationVar(&o.time, "time", 10*time.Second, "how long each load lasts")
	below := flags.String("dir", "", "folder for temporary data, on the disk to be measured")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.server = flags.Arg(0); flags.NArg() != 1 || o.time <= 0 {
		return errors.New("usage: registrars [-time 10s] [-dir DIR] STORING_SERVER")
	}
	if o.dir, err = os.MkdirTemp(*below, "registrars-"); err != nil {
		return fmt.Errorf("registrars: make folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	r, err := measure(ctx, o)
	return errors.Join(err, r.print(out))
}

// A load is one server under one kind of request. The names in JSON are those of
// the storing server's bench.
type load struct {
	Server   string  `json:"server"`
	Request  string  `json:"request"`
	Durable  bool    `json:"durable"` // an answer means that it is on the disk
	Answers  int     `json:"answers"`
	Refused  int     `json:"refused"`
	Rate     float64 `json:"per_second"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	P999     float64 `json:"p999_ms"`
	ServerUs float64 `json:"server_us"` // processor time for each answer
	ClientUs float64 `json:"client_us"`
	lookup   bool    // what it is beside: our lookup, and not our registration
}

// A report is what was measured.
type report struct {
	loads  []load
	absent []string // what was not measured, and why
}

// names of the storing server's loads.
const (
	ours     = "storing-server"
	register = "register"
	lookup   = "lookup"
)

// measure measures ours, and then the others that are installed. With an error it
// returns what was measured before.
func measure(ctx context.Context, o options) (report, error) {
	var r report
	o.say("the storing server, %v for each load", o.time)
	// No rows are preloaded: what they cost is the storing server's own bench.
	cmd := exec.CommandContext(ctx, o.server, "bench", "--json", "--rows=", "--time="+o.time.String(), "--dir="+o.dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // so that it ends its server
	var said bytes.Buffer
	cmd.Stderr = &said
	text, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("registrars: run %s bench: %w: %s", o.server, err, lastLines(said.String()))
	}
	var mine struct{ Loads []load }
	if err := json.Unmarshal(text, &mine); err != nil {
		return r, fmt.Errorf("registrars: read what %s bench says: %w", o.server, err)
	}
	for _, l := range mine.Loads {
		if l.Request == register || l.Request == lookup {
			r.loads = append(r.loads, l)
		}
	}
	return r, peers(ctx, o, &r)
}

// A ratio compares two loads.
type ratio struct {
	what  string
	times float64
}

// ratios compares each load of another server with ours.
func (r report) ratios() []ratio {
	rate := map[string]float64{}
	for _, l := range r.loads {
		if l.Server == ours {
			rate[l.Request] = l.Rate
		}
	}
	var all []ratio
	for _, l := range r.loads {
		mine := register
		if l.lookup {
			mine = lookup
		}
		if l.Server != ours && l.Rate > 0 && rate[mine] > 0 {
			all = append(all, ratio{fmt.Sprintf("%s %s / %s %s", ours, mine, l.Server, l.Request), rate[mine] / l.Rate})
		}
	}
	return all
}

// print writes r as tables for people.
func (r report) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	if len(r.loads) > 0 {
		fmt.Fprintf(w, "\nserver\trequest\tdurable\tanswers\trefused\tper second\tp50 ms\tp99 ms\tp99.9 ms\tserver µs\tclient µs\t\n")
	}
	for _, l := range r.loads {
		durable := "no"
		if l.Durable {
			durable = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%.0f\t%.2f\t%.2f\t%.2f\t%.1f\t%.1f\t\n", l.Server, l.Request, durable, l.Answers, l.Refused, l.Rate, l.P50, l.P99, l.P999, l.ServerUs, l.ClientUs)
	}
	if ratios := r.ratios(); len(ratios) > 0 {
		fmt.Fprintf(w, "\nratio of rates\ttimes\t\n")
		for _, x := range ratios {
			fmt.Fprintf(w, "%s\t%.1f\t\n", x.what, x.times)
		}
	}
	for _, a := range r.absent {
		fmt.Fprintf(w, "\nnot measured: %s\n", a)
	}
	return w.Flush()
}
