package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// ctlWords is how many words a request has, at most.
const ctlWords = 3

// obey carries out one command line. It is read by the standard library's flags: a library
// that finds commands by the names of methods has the linker keep every method of everything,
// a tenth of the program, and builds the model of all commands while a phone waits for its
// address.
func obey(ctx context.Context, args []string, out, errs io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: nothing is asked for", errLine)
	}
	switch name, rest := args[0], args[1:]; name {
	case "run":
		var c runCommand
		if _, err := wordsOf(name, rest, c.flags, 0, out); err != nil {
			return helped(err)
		}
		return c.run(ctx, errs)
	case "ctl":
		var c ctlCommand
		words, err := wordsOf(name, rest, c.flags, ctlWords, out)
		if err != nil {
			return helped(err)
		}
		return c.run(ctx, out, words)
	case "rotate-key":
		var c rotateCommand
		if _, err := wordsOf(name, rest, c.flags, 0, out); err != nil {
			return helped(err)
		}
		return c.run(ctx, out, errs)
	case "help", "-h", "-help", "--help":
		return help(out)
	default:
		return fmt.Errorf("%w: there is no %q", errLine, name)
	}
}

// helped is an error of wordsOf, but for that help was asked for, and given.
func helped(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}

// wordsOf reads what is behind a command: its flags, wherever they stand, and words, of which
// there may be most.
func wordsOf(name string, args []string, flags func(*flag.FlagSet), most int, out io.Writer) (words []string, err error) {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() { helpOf(fs, out) }
	flags(fs)
	for {
		switch err := fs.Parse(args); {
		case errors.Is(err, flag.ErrHelp):
			return nil, err
		case err != nil:
			return nil, fmt.Errorf("%w: %s: %w", errLine, name, err)
		}
		if args = fs.Args(); len(args) == 0 {
			return words, nil
		}
		if words = append(words, args[0]); len(words) > most {
			return nil, fmt.Errorf("%w: %s: %q is too much", errLine, name, args[0])
		}
		args = args[1:]
	}
}

// oneOf is an error unless a word is one of some.
func oneOf(word string, some []string) error {
	if slices.Contains(some, word) {
		return nil
	}
	return fmt.Errorf("want one of %s, not %q", strings.Join(some, ", "), word)
}

// help says what there is.
func help(out io.Writer) error {
	_, err := fmt.Fprint(out, `Usage: flexphone COMMAND

A desk phone that can always be called, though its address changes.

Commands:
  run         Work as a phone until it is stopped.
  ctl         Drive a running phone, or watch it.
  rotate-key  Make another key for a phone that is stopped, have the storing server take it, and print its fingerprint.

`+"`flexphone COMMAND --help` says how.\n")
	return err
}

// helpOf says how a command is used.
func helpOf(fs *flag.FlagSet, out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	words := ""
	if fs.Name() == "ctl" {
		words = "REQUEST "
	}
	fmt.Fprintf(w, "Usage: flexphone %s %s[FLAGS]\n\nFlags:\n", fs.Name(), words)
	fs.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" {
			text += " Else " + f.DefValue + "."
		}
		fmt.Fprintf(w, "  --%s %s\t%s\n", f.Name, value, text)
	})
	if words == "" {
		return
	}
	fmt.Fprint(w, "\nRequests:\n")
	for _, r := range requests() {
		fmt.Fprintf(w, "  %s %s\t%s\n", r.name, r.takes, r.help)
	}
}
