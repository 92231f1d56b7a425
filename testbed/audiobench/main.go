// Command audiobench measures what a call sounds like and what it takes, between the
// real programs on a virtual sound card, and beside them between two of Debian's
// baresip in the same run.
//
//	audiobench [-n 10] [-talk 6s] [-weigh 12s] [-calls .] [-cases .] [-out build/bench]
//	audiobench -tail 10m
//
// It knows a mouth, an ear and the way between the ends of a call. It refuses to know
// how telephones do it: all are joined, spoken to and heard in the same way.
//
// # What is measured
//
// From mouth to ear: speech is played into one telephone's card, and what the other
// plays is recorded on the same clock. Each half second of speech is found again, and
// so is the sound of a mouth that is joined to its ear, which is subtracted: what is
// left is the telephones' and the network's. The card takes sound in periods of 5 ms,
// one of which goes by on the way in and one on the way out: they are in what is
// subtracted.
//
// Processor and memory, idle and in a call: as the kernel counts them, the mean of both
// ends, without the card's server. Each end is spoken to for half of a call. Makers take turns,
// and are compared within each turn, since a machine is not equally busy all the time;
// and the memory's parts are told, as the kernel knows where each came from.
//
// Speech, over a way in user space that loses, holds, repeats and mixes up packets: how
// much of it is understood (STOI, audio/audiotest), and how much later it comes at the
// end than at the beginning. WAV files and pictures of them go to the folder of -out.
//
// The tail, which is measured alone: how often in a long call the card's thread of each
// of our ends came more than a period late, and how often it had nothing to play, while
// the storing server takes registrations, its pages are loaded, and both ends write all
// that they send and hear to their logs.
//
// # Whom nobody keeps waiting
//
// A sound card's clock waits for no program, and neither do the threads of a phone (SCHED_RR).
// So it is here where root runs it: the card's server, and the bench itself, ask for that
// as our telephones do; threads of others that are called by the card have it from there.
// Other users measure their machine beside all that it does, and the report says so.
//
// # How codecs are chosen
//
// No telephone is told to. Calls go by a proxy that leaves one codec and one duration
// of packets in the descriptions that pass (testbed.Exchange), without encryption. Rows
// that say "private" are calls of ours by number, in what they agree upon themselves.
//
// # What is not compared
//
// Debian has no pjsua, and its linphone knows no JACK server.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"flexphone/testbed"
)

// options say what is measured.
type options struct {
	n     int            // calls of each kind
	talk  time.Duration  // in each of them
	weigh time.Duration  // of each of them, and of idleness
	calls *regexp.Regexp // who makes them, and how
	cases *regexp.Regexp // of speech
	drift time.Duration  // how long cases of clocks that differ are
	tail  time.Duration  // of a call whose late periods are counted, and nothing else measured; 0: all else is
	out   string
	say   func(format string, args ...any)
}

func main() {
	code, done, err := testbed.EnclosePrompt()
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
func read(args []string, progress io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("audiobench", flag.ContinueOnError)
	flags.SetOutput(progress)
	o.say = func(format string, args ...any) { fmt.Fprintf(progress, "audiobench: "+format+"\n", args...) }
	flags.IntVar(&o.n, "n", 10, "calls of each kind that are weighed, and as many for the delay; 0: none")
	flags.DurationVar(&o.talk, "talk", 6*time.Second, "speech in each of these")
	flags.DurationVar(&o.weigh, "weigh", 12*time.Second, "how long each call is weighed; 0: nothing is")
	flags.DurationVar(&o.drift, "drift", 5*time.Minute, "how long calls are between clocks that differ")
	flags.DurationVar(&o.tail, "tail", 0, "count late periods of the card in a call that is so long, and measure nothing else")
	flags.StringVar(&o.out, "out", "build/bench", "folder for what was heard")
	calls := flags.String("calls", ".", "regular expression of the calls that are timed and weighed, as \"flexphone, PCMU 10 ms\"")
	cases := flags.String("cases", ".", "regular expression of the cases of speech; ^$: none")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.calls, err = regexp.Compile(*calls); err != nil {
		return o, fmt.Errorf("audiobench: -calls: %w", err)
	}
	if o.cases, err = regexp.Compile(*cases); err != nil {
		return o, fmt.Errorf("audiobench: -cases: %w", err)
	}
	if flags.NArg() > 0 || o.n < 0 || o.talk < 2*time.Second || o.talk > 30*time.Second || o.weigh < 0 || o.drift < time.Second || o.tail < 0 {
		return o, errors.New("usage: audiobench [-n 10] [-talk 6s, to 30s] [-weigh 12s] [-calls REGEXP] [-cases REGEXP] [-drift 5m] [-out FOLDER], or audiobench -tail 10m")
	}
	return o, nil
}
