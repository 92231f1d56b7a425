// Command soak has two phones live hours in minutes: they call each other, and a
// telephone of another make, and while they talk they move, their cables are pulled,
// they are put on hold, and the storing server stops or is killed.
//
//	soak [-for 10m] [-seed N]
//
// It knows what an end of each call has to be called at each phone (scene.go), and sees
// the programs from outside, by their events and by proc(5) (watch.go). It refuses to
// know why they do what they do. What one seed does, it does again, as far as the
// machine's clock lets it.
//
// A call that ends for another reason than it should, or never, a phone that does not
// come back to standby, and anything of a phone that grows from call to call is an
// error: files, goroutines, and memory, in which timers that are left behind would be
// seen as well.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"flexphone/testbed"
)

// options say how long a life is, and which.
type options struct {
	lasts time.Duration
	seed  uint64
}

func main() {
	code, done, err := testbed.Enclose()
	if !done && err == nil {
		ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer cancel()
		var o options
		if o, err = read(os.Args[1:], os.Stderr); err == nil {
			err = run(ctx, o, os.Stdout)
		}
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// read reads the command line.
func read(args []string, complaints io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(complaints)
	flags.DurationVar(&o.lasts, "for", 10*time.Minute, "how long it lasts")
	flags.Uint64Var(&o.seed, "seed", rand.Uint64(), "what happens follows from it")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.lasts <= 0 {
		return o, errors.New("usage: soak [-for 10m] [-seed N]")
	}
	return o, nil
}

// run lives a life, and says what it was like.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	fmt.Fprintf(out, "soak: %v, seed %d\n", o.lasts, o.seed)
	l, err := begin(ctx, o.seed, func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.bed.Close()) }()
	began := time.Now()
	for n := 0; time.Since(began) < o.lasts; n++ {
		if err := l.play(ctx, l.draw(n)); err != nil {
			l.lastWords()
			return errors.Join(err, ctx.Err())
		}
		if err := l.watch.look(ctx); err != nil {
			return err
		}
	}
	l.tell()
	return l.watch.judge(l.say)
}
