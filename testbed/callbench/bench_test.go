package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"flexphone/testbed"
)

func TestMain(m *testing.M) {
	code, done, err := testbed.Enclose()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case done:
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// Calls over a wire of 40 ms are measured from the dialling to a move. How quick they
// are says nothing here, since the machine has other work; but nothing comes sooner
// than the wire lets it, and all of it comes.
func TestOneCall(t *testing.T) {
	const trip = 40 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	r := &report{}
	o := options{n: 1, trips: []time.Duration{trip}, weigh: time.Second, say: t.Logf}
	b, err := open(ctx, o, r)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		t.Skip(err) // no TUN devices
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}()
	b.parties[0].late = 10 * time.Minute // however slow this machine is
	if err := b.setups(ctx, trip); err != nil {
		t.Fatal(err)
	}
	if err := b.moves(ctx, b.parties[0], oneMoves, trip, 2); err != nil {
		t.Fatal(err)
	}
	if err := b.weighAll(ctx, trip); err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	if err := r.print(&told); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + told.String())

	// In halves of the round trip. The clocks of two programs are compared.
	theirs := slices.ContainsFunc(b.parties, func(p *party) bool { return p.maker == baresip })
	for what, least := range map[string]int{
		rings: 1, rings + firstCall: 1, rings + calledAgain: 1, rings + justCalled: 1, rings + byAddress: 1,
		ringsHere: 2, ringsHere + firstCall: 2, ringsHere + calledAgain: 2, ringsHere + justCalled: 2, ringsHere + byAddress: 2,
		sounds:    1,
		soundsToo: 2,
		// By the storing server: twice the way at the least.
		rings + relayed: 2, ringsHere + relayed: 4, sounds + relayed: 2, soundsToo + relayed: 4,
		oneMoves: 2, // who stays has to hear of it first
	} {
		found := false
		for _, s := range r.list {
			if s.what != what {
				continue
			}
			found = true
			for _, d := range s.times {
				if d < time.Duration(least)*trip/2-trip/10 {
					t.Errorf("%s, %s: %v, which is less than the wire's delay", s.maker, what, d)
				}
			}
			if s.failed > 0 || s.security == "" {
				t.Errorf("%s, %s: %d failed, security %q", s.maker, what, s.failed, s.security)
			}
		}
		if ours := strings.Contains(what, ", ") || what == sounds || what == soundsToo || what == oneMoves; !found && (ours || theirs) {
			t.Errorf("%s: not measured", what)
		}
	}
	if i := slices.IndexFunc(r.costs, func(c *weighed) bool { return c.maker == ours+relayed }); i < 0 || r.costs[i].median().server <= 0 {
		t.Errorf("no call was weighed that the storing server relays: %+v", r.costs)
	}
	if len(r.costs) < len(b.parties) {
		t.Errorf("%d kinds of calls were weighed; want one of each of %d makers", len(r.costs), len(b.parties))
	}
	for _, c := range r.costs {
		if m := c.median(); m.memory < 1e6 || c.security == "" || len(c.costs) != rounds {
			t.Errorf("a call of %s takes %+v, weighed %d times", c.maker, m, len(c.costs))
		}
	}
	if !theirs {
		t.Skip(r.absent)
	}
}

func TestRead(t *testing.T) {
	var said strings.Builder
	o, err := read([]string{"-n", "3", "-trips", "0,40"}, &said)
	if err != nil || o.n != 3 || len(o.trips) != 2 || o.trips[1] != 40*time.Millisecond {
		t.Errorf("read() = %+v, %v", o, err)
	}
	for _, args := range []string{"-n 0", "-trips x", "-trips 1,-1", "-trips ,", "-weigh 0s", "-peer-moves -1", "more"} {
		if _, err := read(strings.Fields(args), &said); err == nil {
			t.Errorf("read takes %q", args)
		}
	}
}

// What was not measured has no figures, and what failed is counted.
func TestReport(t *testing.T) {
	r := &report{}
	add := func(what, maker string, times ...int) {
		for _, ms := range times {
			r.add(series{what: what, trip: 40 * time.Millisecond, maker: maker, security: "not private"}, time.Duration(ms)*time.Millisecond)
		}
	}
	add(rings+firstCall, "flexphone", 103, 80, 120)
	add(rings, baresip, 50)
	add(oneMoves, "flexphone", 60)
	r.fail(series{what: oneMoves, trip: 40 * time.Millisecond, maker: "flexphone", security: "not private"}, 10*time.Second)
	for _, cpu := range []float64{1.5, 9, 1.4} {
		r.weigh("flexphone", "private", cost{cpu, .25, 3e6})
		r.weigh(baresip, "not private", cost{1, 0, 2e6})
	}
	var out strings.Builder
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	for _, want := range []string{
		"dial to ringing, never called 40 not private 3 103.0 120.0 2.5 + 3.0 ms 1 50.0 50.0 2.06",
		"one end moves: silence 40 not private 1 of 2 over 10000 over 10000",
		"flexphone private 3 1.50 3.0 0.250",
		"flexphone, private / baresip, not private 1.5 1.5",
	} {
		found := false
		for _, line := range lines {
			found = found || line == want
		}
		if !found {
			t.Errorf("no line %q in\n%s", want, out.String())
		}
	}
}
