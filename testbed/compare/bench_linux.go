package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"flexphone/testbed/lab"
)

// An address counts as there once the kernel has told of it and of a default
// route: the same for every client, and what a program waits for.

// benchLimit is how long a client may take. Most need milliseconds or seconds;
// those that do not notice what happened would need minutes.
const benchLimit = 20 * time.Second

// errLate says that a client took longer.
var errLate = fmt.Errorf("not in %v", benchLimit)

// A measurement is a row of the table.
type measurement struct {
	name   string
	ours   int // repetitions
	others int
	run    func(*bench) (time.Duration, error)
}

func measurements() []measurement {
	var list []measurement
	for _, p := range lab.Providers() {
		if p.Missing() != "" {
			continue
		}
		list = append(list, measurement{"start to address, " + p.Name, 20, 5, func(b *bench) (time.Duration, error) { return benchStart(b, p) }})
	}
	dnsmasq := lab.Providers()[0]
	if dnsmasq.Missing() != "" {
		return list
	}
	with := func(f func(*bench) (time.Duration, error)) func(*bench) (time.Duration, error) {
		return func(b *bench) (time.Duration, error) {
			b.provider = dnsmasq
			return f(b)
		}
	}
	return append(list,
		measurement{"carrier up to address, first", 10, 2, with(benchPlug)},
		measurement{"carrier up to another address", 10, 1, with(func(b *bench) (time.Duration, error) { return benchBack(b, home, addrB, false) })},
		measurement{"NAK to new address", 5, 2, with(benchNAK)},
		measurement{"moved, and a silent server", 5, 1, with(func(b *bench) (time.Duration, error) { return benchBack(b, away, addrC, true) })},
	)
}

// A bench is one repetition with one client.
type bench struct {
	ctx      context.Context
	client   client
	cable    *lab.Cable
	provider lab.Provider
	dirs     [2]string // of the provider, of the client
	service  *lab.Service
	running  running
}

// measure does m once.
func measure(ctx context.Context, m measurement, cl client) (d time.Duration, err error) {
	b := &bench{ctx: ctx, client: cl}
	for i := range b.dirs {
		if b.dirs[i], err = os.MkdirTemp("", "compare-"); err != nil {
			return 0, err
		}
		defer os.RemoveAll(b.dirs[i])
	}
	if b.cable, err = lab.NewCable(home); err != nil {
		return 0, err
	}
	defer b.cable.Close()
	if err := b.cable.Bare(); err != nil {
		return 0, err
	}
	defer func() {
		if b.running.stop != nil {
			if stopErr := b.running.stop(); err == nil {
				err = stopErr
			}
		}
		if b.service != nil {
			b.service.Stop()
		}
	}()
	return m.run(b)
}

func (b *bench) serve(o lab.Offer) (err error) {
	if b.service != nil {
		b.service.Stop()
		b.service = nil
		if err := os.Remove(filepath.Join(b.dirs[0], "leases")); err != nil {
			return err
		}
	}
	b.service, err = b.provider.Start(b.cable, b.dirs[0], o)
	return err
}

func (b *bench) start() (err error) {
	b.running, err = b.client.start(b.ctx, b.cable, b.dirs[1])
	return err
}

// usable waits until addr and a route are there, and returns since when.
func (b *bench) usable(addr netip.Addr) (time.Time, error) {
	want := netip.PrefixFrom(addr, 24)
	h, ok := b.cable.Watch.Until(benchLimit, func(h lab.Holding) bool {
		return !h.Addrs[want].IsZero() && !h.Routed.IsZero()
	})
	if !ok {
		return time.Time{}, errLate
	}
	if at := h.Addrs[want]; at.After(h.Routed) {
		return at, nil
	}
	return h.Routed, nil
}

// bound serves o, starts the client and waits for the address.
func (b *bench) bound(o lab.Offer) error {
	if err := b.serve(o); err != nil {
		return err
	}
	if err := b.start(); err != nil {
		return err
	}
	_, err := b.usable(o.Addr)
	return err
}

func benchStart(b *bench, p lab.Provider) (time.Duration, error) {
	b.provider = p
	if err := b.serve(hour(home, addrA)); err != nil {
		return 0, err
	}
	if err := b.start(); err != nil {
		return 0, err
	}
	at, err := b.usable(addrA)
	return at.Sub(b.running.began), err
}

// benchPlug plugs the cable in after the client was started.
func benchPlug(b *bench) (time.Duration, error) {
	if err := b.serve(hour(home, addrA)); err != nil {
		return 0, err
	}
	if err := b.cable.Unplug(); err != nil {
		return 0, err
	}
	if err := b.start(); err != nil {
		return 0, err
	}
	<-time.After(time.Second)
	begin := time.Now()
	if err := b.cable.Plug(); err != nil {
		return 0, err
	}
	at, err := b.usable(addrA)
	return at.Sub(begin), err
}

// benchBack takes the cable out, and in again where net is and addr is given.
func benchBack(b *bench, net netip.Prefix, addr netip.Addr, silent bool) (time.Duration, error) {
	if err := b.bound(hour(home, addrA)); err != nil {
		return 0, err
	}
	if err := b.cable.SetFar(net); err != nil {
		return 0, err
	}
	o := hour(net, addr)
	o.Silent = silent
	if err := b.serve(o); err != nil {
		return 0, err
	}
	if err := b.cable.Unplug(); err != nil {
		return 0, err
	}
	<-time.After(300 * time.Millisecond)
	begin := time.Now()
	if err := b.cable.Plug(); err != nil {
		return 0, err
	}
	at, err := b.usable(addr)
	return at.Sub(begin), err
}

// benchNAK counts from the line by which the server says that it refuses.
func benchNAK(b *bench) (time.Duration, error) {
	if err := b.bound(soon(home, addrA)); err != nil {
		return 0, err
	}
	if err := b.serve(hour(home, addrB)); err != nil {
		return 0, err
	}
	if err := b.running.renew(); err != nil {
		return 0, err
	}
	if !b.service.Logs(benchLimit, "DHCPNAK") {
		return 0, errors.New("no renewal")
	}
	begin := time.Now()
	at, err := b.usable(addrB)
	return max(at.Sub(begin), 0), err
}

// eventDelay measures from the address being there to the event in the hands of
// who waits for it, for our client.
func eventDelay(ctx context.Context) (time.Duration, error) {
	at := time.Time{}
	told := time.Time{}
	cl := client{oursName, func(ctx context.Context, c *lab.Cable, dir string) (running, error) {
		o, err := startOurs(ctx, c, dir, nil)
		if err != nil {
			return running{}, err
		}
		_, err = o.Next(ctx)
		told = time.Now()
		return running{stop: o.stop}, err
	}}
	_, err := measure(ctx, measurement{run: func(b *bench) (time.Duration, error) {
		b.provider = lab.Providers()[0]
		err := b.bound(hour(home, addrA))
		if err == nil {
			at, err = b.usable(addrA)
		}
		return 0, err
	}}, cl)
	return told.Sub(at), err
}

// A result is a client's median, or why there is none.
type result struct {
	median time.Duration
	err    error
}

// repeat measures n times. One failure is the result.
func repeat(ctx context.Context, m measurement, cl client, n int) result {
	var all []time.Duration
	for range n {
		d, err := measure(ctx, m, cl)
		if err != nil {
			return result{err: err}
		}
		all = append(all, d)
	}
	slices.Sort(all)
	return result{median: all[len(all)/2]}
}

// runBench prints the medians of every client.
func runBench(ctx context.Context, o options, out io.Writer) error {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return fmt.Errorf("compare: read -only: %w", err)
	}
	list, missing := clients(true)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, "median of some repetitions")
	for _, cl := range list {
		fmt.Fprintf(w, "\t%s", cl.name)
	}
	fmt.Fprintln(w)
	for _, p := range lab.Providers() {
		if why := p.Missing(); why != "" {
			missing = append(missing, why)
		}
	}
	var failed error
	for _, m := range measurements() {
		if !only.MatchString(m.name) {
			continue
		}
		n := m.ours
		if o.n > 0 {
			n = o.n
		}
		// Ours alone, so that nothing disturbs it; the others beside each other,
		// since they mostly wait.
		results := make([]result, len(list))
		results[0] = repeat(ctx, m, list[0], n)
		failed = errors.Join(failed, results[0].err)
		var others sync.WaitGroup
		for i, cl := range list[1:] {
			others.Go(func() { results[i+1] = repeat(ctx, m, cl, min(n, m.others)) })
		}
		others.Wait()
		fmt.Fprint(w, m.name)
		for i, r := range results {
			switch {
			case r.err != nil:
				fmt.Fprintf(w, "\t%s", oneLine(r.err))
			case i == 0:
				fmt.Fprintf(w, "\t%s", milliseconds(r.median))
			default:
				fmt.Fprintf(w, "\t%s (×%.0f)", milliseconds(r.median), float64(r.median)/float64(max(results[0].median, 1)))
			}
		}
		fmt.Fprintln(w)
	}
	if only.MatchString("event") && lab.Providers()[0].Missing() == "" {
		var all []time.Duration
		for range max(o.n, 10) {
			d, err := eventDelay(ctx)
			if err != nil {
				return errors.Join(failed, err)
			}
			all = append(all, d)
		}
		slices.Sort(all)
		fmt.Fprintf(w, "address to event at its reader\t%s\n", milliseconds(all[len(all)/2]))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if only.MatchString("registered") && lab.Providers()[0].Missing() == "" && built(out) {
		failed = errors.Join(failed, runJourneys(ctx, list, o.n, out), runStarts(ctx, list[0], max(o.n, 10), out))
	}
	for _, m := range missing {
		fmt.Fprintln(out, "Not measured:", m)
	}
	return failed
}
