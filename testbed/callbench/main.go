// Command callbench measures calls between the real programs, over a wire of
// constant delay, and beside them those between two of Debian's baresip, and two of its
// linphonec.
//
//	callbench [-n 10] [-trips 0,40,200]
//
// It knows when a telephone is told to dial and says that it rings, and hears what
// comes out of the wire: the first packet of sound after the handset was lifted, and
// how long none comes when an end of the call is given another address. It refuses to
// know how telephones do it; all are called, moved and heard in the same way.
//
// # Kinds of calls
//
// A phone may keep of a call what makes the next one quicker. So ours call when the
// number was never called from there; when it was, but no connection to it is left, since
// the called phone was started meanwhile; and just after another call.
// They also call by address, as baresip does: nobody is asked then where that is, and
// the other end has nothing to prove.
// Whoever is called lifts the handset two round trips after it rings.
//
// Two more of ours are behind NATs that give each destination another port: their link and
// their sound go by way of the storing server ("relayed"), whose processor is weighed as well.
//
// # How a telephone is moved
//
// Its host's address is replaced, with the route, and nobody is asked for a lease:
// what a provider takes for that is another measurement. Ours watches addresses that
// others give (source = "watch"); baresip looks at its own each minute, linphone after
// three seconds. Caller and called take turns, or both move in the same moment. Sound
// counts as heard where it reaches the address that an end has then; that ours
// understands it is seen by its statistics.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"flexphone/testbed"
)

// options say what is measured.
type options struct {
	n         int             // calls just after another, and moves of either kind, at each round trip
	peerMoves int             // moves of baresip, of either kind, at one round trip
	trips     []time.Duration // round trips
	weigh     time.Duration   // of a call, for what it takes
	say       func(format string, args ...any)
}

func main() {
	code, done, err := testbed.Enclose()
	if !done && err == nil {
		ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer cancel()
		err = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	o, err := read(args, progress)
	if err != nil {
		return err
	}
	r := &report{}
	err = measure(ctx, o, r)
	return errors.Join(err, r.print(out))
}

// read reads the command line.
func read(args []string, progress io.Writer) (options, error) {
	flags := flag.NewFlagSet("callbench", flag.ContinueOnError)
	flags.SetOutput(progress)
	o := options{say: func(format string, args ...any) { fmt.Fprintf(progress, "callbench: "+format+"\n", args...) }}
	flags.IntVar(&o.n, "n", 10, "calls, and moves of either kind, at each round trip")
	flags.IntVar(&o.peerMoves, "peer-moves", 1, "moves of baresip and linphone, of either kind, each of which may take a minute")
	flags.DurationVar(&o.weigh, "weigh", 30*time.Second, "how much of a call is weighed")
	trips := flags.String("trips", "0,40,200", "round trips, in milliseconds")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	for _, text := range strings.Split(*trips, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > 10000 {
			return o, fmt.Errorf("callbench: -trips %s: want milliseconds from 0 to 10000", *trips)
		}
		o.trips = append(o.trips, time.Duration(n)*time.Millisecond)
	}
	if flags.NArg() > 0 || o.n < 1 || o.peerMoves < 0 || o.weigh <= 0 {
		return o, errors.New("usage: callbench [-n 10] [-peer-moves 1] [-weigh 30s] [-trips 0,40,200]")
	}
	return o, nil
}
