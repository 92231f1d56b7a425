package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"flexphone/testbed/faults"
	"flexphone/testbed/lab"
)

// How long each may take for what it could do at once: others wait seconds
// before they send anything, and probe for seconds more.
const (
	oursPatience  = 10 * time.Second
	otherPatience = 25 * time.Second
)

// atOnce is how many attempts run beside each other; nearly all of them wait.
const atOnce = 16

// runFaults prints what every client makes of every fault.
func runFaults(ctx context.Context, o options, out io.Writer) error {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return fmt.Errorf("compare: read -only: %w", err)
	}
	var cases []faults.Case
	for _, c := range faults.Table() {
		if only.MatchString(c.Name) {
			cases = append(cases, c)
		}
	}
	list, missing := clients(false)
	verdicts := make([][]error, len(list))
	slots := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, cl := range list {
		verdicts[i] = make([]error, len(cases))
		for k, c := range cases {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			all.Go(func() {
				defer func() { <-slots }()
				verdicts[i][k] = try(ctx, c, cl)
			})
		}
	}
	all.Wait()
	return printFaults(out, cases, list, missing, verdicts)
}

func try(ctx context.Context, c faults.Case, cl client) error {
	dir, err := os.MkdirTemp("", "compare-")
	if err != nil {
		return faults.Broken{Err: err}
	}
	defer os.RemoveAll(dir)
	patience := otherPatience
	if cl.name == oursName {
		patience = oursPatience
	}
	return c.Try(patience, func(cable *lab.Cable) (func() error, error) {
		state, err := os.MkdirTemp(dir, "") // another attempt knows nothing of this one
		if err != nil {
			return nil, err
		}
		r, err := cl.start(ctx, cable, state)
		return r.stop, err
	})
}

// printFaults prints the table; the error says that ours does not survive all.
func printFaults(out io.Writer, cases []faults.Case, list []client, missing []string, verdicts [][]error) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, "fault")
	for _, cl := range list {
		fmt.Fprintf(w, "\t%s", cl.name)
	}
	fmt.Fprintln(w)
	survived := make([]int, len(list))
	for k, c := range cases {
		fmt.Fprint(w, c.Name)
		for i := range list {
			fmt.Fprintf(w, "\t%s", verdict(verdicts[i][k]))
			if verdicts[i][k] == nil {
				survived[i]++
			}
		}
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, "survived")
	for i := range list {
		fmt.Fprintf(w, "\t%d of %d", survived[i], len(cases))
	}
	fmt.Fprintln(w)
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nWhat the server does, and what a client should do where one failed:")
	for k, c := range cases {
		for i := range list {
			if verdicts[i][k] != nil {
				fmt.Fprintf(out, "  %s: %s; %s\n", c.Name, c.Does, c.Wants)
				break
			}
		}
	}
	for _, m := range missing {
		fmt.Fprintln(out, "Not tried:", m)
	}
	if survived[0] < len(cases) {
		return fmt.Errorf("compare: %s survives %d of %d faults", list[0].name, survived[0], len(cases))
	}
	return nil
}

func verdict(err error) string {
	broken := faults.Broken{}
	switch {
	case err == nil:
		return "survives"
	case errors.As(err, &broken):
		return "? " + oneLine(err)
	}
	return oneLine(err)
}

func oneLine(err error) string {
	s := strings.Join(strings.Fields(err.Error()), " ")
	return s[:min(len(s), 70)]
}
