package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"sync"
	"text/tabwriter"
	"time"

	"flexphone/testbed/lab"
)

// ordinary is what happens to every client, as the kernel shows it: how long until
// the address that is right then is there, with dnsmasq.
func ordinary() []measurement {
	with := func(f func(*bench) (time.Duration, error)) func(*bench) (time.Duration, error) {
		return func(b *bench) (time.Duration, error) {
			b.provider = lab.Providers()[0]
			return f(b)
		}
	}
	return []measurement{
		{name: "lease", run: func(b *bench) (time.Duration, error) { return benchStart(b, lab.Providers()[0]) }},
		{name: "NAK at renewal", run: with(benchNAK)},
		{name: "cable back, another address", run: with(func(b *bench) (time.Duration, error) { return benchBack(b, home, addrB, false) })},
		{name: "cable to another network", run: with(func(b *bench) (time.Duration, error) { return benchBack(b, away, addrC, false) })},
		{name: "the same, and a silent server", run: with(func(b *bench) (time.Duration, error) { return benchBack(b, away, addrC, true) })},
		{name: "carrier back, and no server", run: with(benchSilent)},
	}
}

// benchSilent: the lease is good, so it must be kept though nobody confirms it.
func benchSilent(b *bench) (time.Duration, error) {
	if err := b.bound(hour(home, addrA)); err != nil {
		return 0, err
	}
	b.service.Stop()
	b.service = nil
	if err := b.cable.Blink(); err != nil {
		return 0, err
	}
	const span = 12 * time.Second
	if _, gone := b.cable.Watch.Until(span, func(h lab.Holding) bool { return len(h.Addrs) == 0 }); gone {
		return 0, fmt.Errorf("without an address")
	}
	return 0, nil
}

// runOrdinary prints what becomes of every client that is installed, side by side.
func runOrdinary(ctx context.Context, only *regexp.Regexp, out io.Writer) error {
	list, missing := clients(false)
	for _, why := range append(missing, lab.Providers()[0].Missing()) {
		if why != "" {
			fmt.Fprintln(out, "Not tried:", why)
		}
	}
	if lab.Providers()[0].Missing() != "" {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, "\nthe same of every client, as the kernel shows it")
	for _, cl := range list {
		fmt.Fprintf(w, "\t%s", cl.name)
	}
	fmt.Fprintln(w)
	var failed error
	for _, m := range ordinary() {
		if !only.MatchString(m.name) {
			continue
		}
		cells := make([]string, len(list))
		var all sync.WaitGroup
		for i, cl := range list {
			all.Go(func() {
				d, err := measure(ctx, m, cl)
				switch {
				case err != nil:
					cells[i] = oneLine(err)
					if i == 0 {
						failed = fmt.Errorf("compare: %s: %w", m.name, err)
					}
				case d == 0:
					cells[i] = "ok"
				default:
					cells[i] = "ok " + milliseconds(d)
				}
			})
		}
		all.Wait()
		fmt.Fprint(w, m.name)
		for _, c := range cells {
			fmt.Fprintf(w, "\t%s", c)
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return failed
}
