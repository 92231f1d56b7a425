package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"flexphone/netlink"
	"flexphone/testbed/lab"
)

// Two networks, and what providers give there.
var (
	home  = netip.MustParsePrefix("10.77.0.1/24")
	home2 = netip.MustParsePrefix("10.77.0.2/24") // the same network, another server
	away  = netip.MustParsePrefix("10.78.0.1/24")
	addrA = netip.MustParseAddr("10.77.0.50")
	addrB = netip.MustParseAddr("10.77.0.80")
	addrC = netip.MustParseAddr("10.78.0.50")
)

// hour is an offer that nobody renews while we look.
func hour(server netip.Prefix, addr netip.Addr) lab.Offer {
	return lab.Offer{Server: server, Addr: addr, Lease: 3600, T1: 1800, T2: 3150}
}

// soon is an offer that is renewed after three seconds: dnsmasq
// takes less for a mistake.
func soon(server netip.Prefix, addr netip.Addr) lab.Offer {
	return lab.Offer{Server: server, Addr: addr, Lease: 120, T1: 3, T2: 9}
}

// A scenario is a piece of a phone's ordinary life; it returns how long its
// point took.
type scenario struct {
	name string
	play func(*life) (time.Duration, error)
}

var scenarios = []scenario{
	{"lease", lifeLease},
	{"renew (T1)", lifeRenew},
	{"rebind with a replaced server (T2)", lifeRebind},
	{"NAK at renewal", lifeNAK},
	{"cable to another network", func(l *life) (time.Duration, error) { return lifeMove(l, false) }},
	{"the same, and a silent server", func(l *life) (time.Duration, error) { return lifeMove(l, true) }},
	{"carrier lost and back", lifeLink},
	{"carrier back, and no server", lifeSilent},
	{"release", lifeRelease},
}

// A life is one scenario with one provider.
type life struct {
	ctx      context.Context
	cable    *lab.Cable
	provider lab.Provider
	service  *lab.Service
	dir      string
	phone    *ours
	log      *carrierLog
}

const lifePatience = 20 * time.Second

// live plays s with provider p, and our client.
func live(ctx context.Context, s scenario, p lab.Provider) (d time.Duration, err error) {
	l := &life{ctx: ctx, provider: p, log: newCarrierLog()}
	if l.dir, err = os.MkdirTemp("", "compare-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(l.dir)
	if l.cable, err = lab.NewCable(home); err != nil {
		return 0, err
	}
	defer l.cable.Close()
	if err := l.cable.Bare(); err != nil { // Kea does not begin on a link without carrier
		return 0, err
	}
	defer func() {
		if err != nil && l.service != nil {
			err = fmt.Errorf("%w\nthe phone:\n%s\nthe provider:\n%s", err, l.log, l.service.Log())
		}
		if l.phone != nil {
			if stopErr := l.phone.stop(); err == nil {
				err = stopErr
			}
		}
		if l.service != nil {
			l.service.Stop()
		}
	}()
	return s.play(l)
}

// serve starts the provider, in place of one that runs.
func (l *life) serve(o lab.Offer) (err error) {
	l.cut()
	l.service, err = l.provider.Start(l.cable, l.dir, o)
	return err
}

// cut ends the provider.
func (l *life) cut() {
	if l.service != nil {
		l.service.Stop()
		l.service = nil
	}
}

// forget has the provider forget its leases.
func (l *life) forget() error {
	list, err := filepath.Glob(filepath.Join(l.dir, "leases*"))
	for _, f := range list {
		err = errors.Join(err, os.Remove(f))
	}
	return err
}

// call starts the phone and waits for its first address.
func (l *life) call(want netip.Addr) (e netlink.Event, err error) {
	if l.phone, err = startOurs(l.ctx, l.cable, l.dir, slog.New(l.log)); err != nil {
		return e, err
	}
	return l.want(netlink.Bound, want)
}

// want waits for the next event, which must be this one, of this address. The
// kernel must agree.
func (l *life) want(kind netlink.EventKind, addr netip.Addr) (netlink.Event, error) {
	ctx, cancel := context.WithTimeout(l.ctx, lifePatience)
	defer cancel()
	e, err := l.phone.Next(ctx)
	if err != nil {
		return e, fmt.Errorf("no %v of %v: %w", kind, addr, err)
	}
	if e.Kind != kind || e.Lease.Addr() != addr {
		return e, fmt.Errorf("%v of %v (%s), want %v of %v", e.Kind, e.Lease.Addr(), e.Reason, kind, addr)
	}
	_, ok := l.cable.Watch.Until(lifePatience, func(h lab.Holding) bool {
		return len(h.Addrs) == 1 && !h.Addrs[e.Lease.Prefix].IsZero() && !h.Routed.IsZero()
	})
	if !ok {
		return e, fmt.Errorf("the kernel does not hold %v alone", e.Lease.Prefix)
	}
	return e, nil
}

// unplug takes the cable out, and waits until the phone has noticed.
func (l *life) unplug() error {
	if err := l.cable.Unplug(); err != nil {
		return err
	}
	select {
	case <-l.log.down:
		return nil
	case <-time.After(lifePatience):
		return errors.New("the phone does not notice that the link is gone")
	}
}

// bound serves o and waits for its address.
func (l *life) bound(o lab.Offer) (netlink.Event, error) {
	if err := l.serve(o); err != nil {
		return netlink.Event{}, err
	}
	return l.call(o.Addr)
}

func lifeLease(l *life) (time.Duration, error) {
	o := hour(home, addrA)
	if err := l.serve(o); err != nil {
		return 0, err
	}
	begin := time.Now()
	e, err := l.call(addrA)
	if err != nil {
		return 0, err
	}
	r := e.Lease
	if r.Prefix.Bits() != 24 || r.Router != home.Addr() || r.Server != home.Addr() ||
		r.Expiry.Sub(r.Start) != time.Hour || r.Renew.Sub(r.Start) != 1800*time.Second || r.Rebind.Sub(r.Start) != 3150*time.Second {
		return 0, fmt.Errorf("lease is %+v", r)
	}
	return e.At.Sub(begin), nil
}

func lifeRenew(l *life) (time.Duration, error) {
	first, err := l.bound(soon(home, addrA))
	if err != nil {
		return 0, err
	}
	again, err := l.want(netlink.Renewed, addrA)
	if err == nil && !again.Lease.Expiry.After(first.Lease.Expiry) {
		err = errors.New("renewed, to no later end")
	}
	return again.At.Sub(again.Lease.Start), err
}

// lifeRebind has another machine take over the leases: the old server's
// address is gone, so no unicast reaches anyone.
func lifeRebind(l *life) (time.Duration, error) {
	o := soon(home, addrA)
	o.T1, o.T2 = 3, 5
	if _, err := l.bound(o); err != nil {
		return 0, err
	}
	l.cut()
	if err := l.cable.SetFar(home2); err != nil {
		return 0, err
	}
	o.Server = home2
	if err := l.serve(o); err != nil {
		return 0, err
	}
	e, err := l.want(netlink.Renewed, addrA)
	if err == nil && e.Lease.Server != home2.Addr() {
		err = fmt.Errorf("renewed by %v", e.Lease.Server)
	}
	return e.At.Sub(e.Lease.Start), err
}

// lifeNAK has the operator reserve another address for the phone. (Of a lease
// that they do not know, Kea and dhcpd say nothing.)
func lifeNAK(l *life) (time.Duration, error) {
	first, err := l.bound(soon(home, addrA))
	if err != nil {
		return 0, err
	}
	l.cut()
	o := hour(home, addrB)
	o.Reserved = true
	if err := l.serve(o); err != nil {
		return 0, err
	}
	e, err := l.want(netlink.Bound, addrB)
	return e.At.Sub(first.Lease.Renew), err
}

func lifeMove(l *life, silent bool) (time.Duration, error) {
	if _, err := l.bound(hour(home, addrA)); err != nil {
		return 0, err
	}
	l.cut()
	if err := l.forget(); err != nil {
		return 0, err
	}
	if err := l.cable.SetFar(away); err != nil {
		return 0, err
	}
	o := hour(away, addrC)
	o.Silent = silent
	if err := l.serve(o); err != nil {
		return 0, err
	}
	return l.replug(netlink.Bound, addrC)
}

// replug takes the cable out and puts it in again, and returns how long it takes
// from then on until the phone has addr.
func (l *life) replug(kind netlink.EventKind, addr netip.Addr) (time.Duration, error) {
	if err := l.unplug(); err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := l.cable.Plug(); err != nil {
		return 0, err
	}
	e, err := l.wantIn(kind, addr)
	return e.At.Sub(begin), err
}

// wantIn is want, and lets the loss of the address before it pass: the cable
// may have been out for longer than half a second, on a machine that is busy.
func (l *life) wantIn(kind netlink.EventKind, addr netip.Addr) (netlink.Event, error) {
	e, err := l.want(kind, addr)
	if err != nil && e.Kind == netlink.Lost {
		e, err = l.want(netlink.Bound, addr)
	}
	return e, err
}

func lifeLink(l *life) (time.Duration, error) {
	if _, err := l.bound(hour(home, addrA)); err != nil {
		return 0, err
	}
	return l.replug(netlink.Renewed, addrA)
}

// lifeSilent: the lease is good, so it must be kept though nobody confirms it.
func lifeSilent(l *life) (time.Duration, error) {
	e, err := l.bound(hour(home, addrA))
	if err != nil {
		return 0, err
	}
	l.cut()
	if err := l.unplug(); err != nil {
		return 0, err
	}
	if err := l.cable.Plug(); err != nil {
		return 0, err
	}
	const span = 12 * time.Second // longer than it takes to give up asking
	if h, gone := l.cable.Watch.Until(span, func(h lab.Holding) bool { return h.Addrs[e.Lease.Prefix].IsZero() }); gone {
		return 0, fmt.Errorf("lost the address, holds %v", h.Addrs)
	}
	return 0, nil
}

func lifeRelease(l *life) (time.Duration, error) {
	if _, err := l.bound(hour(home, addrA)); err != nil {
		return 0, err
	}
	phone := l.phone
	l.phone = nil
	begin := time.Now()
	if err := phone.stop(); err != nil {
		return 0, err
	}
	d := time.Since(begin)
	if !l.service.Logs(lifePatience, "release") {
		return 0, errors.New("the server knows of no RELEASE")
	}
	if _, ok := l.cable.Watch.Until(lifePatience, func(h lab.Holding) bool { return len(h.Addrs) == 0 }); !ok {
		return 0, errors.New("the address is still there")
	}
	return d, nil
}

// runLife prints how our client gets on with every provider.
func runLife(ctx context.Context, o options, out io.Writer) error {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return fmt.Errorf("compare: read -only: %w", err)
	}
	var providers []lab.Provider
	for _, p := range lab.Providers() {
		if why := p.Missing(); why != "" {
			fmt.Fprintln(out, "Not tried:", why)
			continue
		}
		providers = append(providers, p)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, "scenario")
	for _, p := range providers {
		fmt.Fprintf(w, "\t%s", p.Name)
	}
	fmt.Fprintln(w)
	failed := 0
	for _, s := range scenarios {
		if !only.MatchString(s.name) {
			continue
		}
		// The providers side by side, and the scenarios one after the other:
		// their times are worth something then.
		cells := make([]string, len(providers))
		errs := make([]error, len(providers))
		var all sync.WaitGroup
		for i, p := range providers {
			all.Go(func() {
				var d time.Duration
				if d, errs[i] = live(ctx, s, p); errs[i] == nil {
					cells[i] = "ok"
					if d > 0 {
						cells[i] += " " + milliseconds(d)
					}
				}
			})
		}
		all.Wait()
		for i, err := range errs {
			if err != nil {
				failed++
				fmt.Fprintf(os.Stderr, "%s, %s: %v\n\n", s.name, providers[i].Name, err)
				cells[i] = oneLine(err)
			}
		}
		fmt.Fprintf(w, "%s\t%s\n", s.name, strings.Join(cells, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := runOrdinary(ctx, only, out); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("compare: %d scenarios fail", failed)
	}
	return nil
}

func milliseconds(d time.Duration) string {
	switch ms := float64(d.Microseconds()) / 1000; {
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 10000:
		return fmt.Sprintf("%.0f ms", ms)
	default:
		return fmt.Sprintf("%.0f s", ms/1000)
	}
}
