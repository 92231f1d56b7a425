package testbed

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"
)

// everything has TestCallsOutliveTheirNetworks walk through all that can happen, to
// everybody and at every time; without, through some of each. `make moves` sets it.
var everything = os.Getenv("FLEXPHONE_MOVES") == "all"

// chosen reports whether one of the mishaps is walked through: for who and when, by
// their numbers.
func chosen(who, when int, what mishap, number int) bool {
	const both = 2
	switch {
	case everything:
		return true
	case board() != hostBoard: // which takes long, and its program is the same
		return who == both && number%3 == when && what.out < 10*time.Second
	case what.out > 10*time.Second:
		return who == both && what.pool != nil
	}
	return (number+who+when)%3 == 0
}

// A mishap is what happens to the network of one phone or two in a call.
type mishap struct {
	name string
	pool *Pool         // whence it has another address afterwards; nil: it has the same
	out  time.Duration // for how long the cable is out
}

var mishaps = []mishap{
	{"another address of the same network", &East, 0},
	{"another network", &West, 0},
	{"a second without a cable", nil, time.Second},
	{"five seconds without a cable", nil, 5 * time.Second},
	{"25 seconds without a cable", nil, 25 * time.Second},
	{"25 seconds without a cable, and another network", &West, 25 * time.Second},
}

// TestCallsOutliveTheirNetworks: a call goes on, whoever of the two moves, or both at
// once, or has no cable for a while, and whether it rings, is being answered or is
// talked in. Afterwards both ends hear each other.
func TestCallsOutliveTheirNetworks(t *testing.T) {
	moments := []string{"ringing", "being answered", "talking"}
	next := 0 // address of a pool
	for w, who := range []string{"caller", "called", "both"} {
		for m, when := range moments {
			if !slices.ContainsFunc(mishaps, func(what mishap) bool { return chosen(w, m, what, slices.Index(mishaps, what)) }) {
				continue
			}
			t.Run(who+", "+when, func(t *testing.T) {
				ctx, bed, phones := town(t, Config{}, 2)
				must(t, bed.ISP.ChangePool(ctx, East, West))
				movers := map[string][]*Phone{"caller": phones[:1], "called": phones[1:], "both": phones}[who]
				for i, what := range mishaps {
					if !chosen(w, m, what, i) {
						continue
					}
					first := 30 + next
					next += len(movers)
					if !t.Run(what.name, func(t *testing.T) { outlives(ctx, t, bed, phones, movers, when, what, first) }) {
						return // nobody knows what the phones do now
					}
				}
			})
		}
	}
}

// outlives makes one call in which what happens to movers at that time. Who gets
// another address gets the pool's from the first on.
func outlives(ctx context.Context, t *testing.T, bed *Bed, phones, movers []*Phone, when string, what mishap, first int) {
	a, b := phones[0], phones[1]
	b.Mark()
	dial(ctx, t, a, "102")
	await(ctx, t, b, "ringing")
	answer := func() { must(t, b.OffHook(ctx)) }
	established := func() {
		t.Helper()
		for _, p := range phones {
			reaches(ctx, t, p, "established")
		}
	}
	switch when {
	case "ringing":
		befalls(ctx, t, bed, movers, what, first, func() {})
		answer()
		established()
	case "being answered":
		befalls(ctx, t, bed, movers, what, first, answer)
		established()
	case "talking":
		answer()
		established()
		hearEachOther(ctx, t, a, b)
		befalls(ctx, t, bed, movers, what, first, func() {})
	}
	hearEachOther(ctx, t, a, b)
	must(t, a.OnHook(ctx))
	reaches(ctx, t, b, "ended")
	must(t, b.OnHook(ctx))
	for _, p := range phones {
		await(ctx, t, p, "state", "state", "standby")
	}
}

// befalls lets what happen to all of movers at once, and meanwhile, when their cables
// are out. It returns once the row of each that has another address tells it.
func befalls(ctx context.Context, t *testing.T, bed *Bed, movers []*Phone, what mishap, first int, meanwhile func()) {
	t.Helper()
	to := map[*Phone]netip.Addr{}
	for i, p := range movers {
		if what.pool != nil {
			to[p] = what.pool.Address(first + i)
			must(t, bed.ISP.GiveNext(ctx, p.MAC, to[p]))
		}
	}
	for _, p := range movers {
		must(t, p.Pull(ctx))
	}
	meanwhile()
	pause := time.NewTimer(what.out)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
	for _, p := range movers {
		must(t, p.Plug())
	}
	for p, addr := range to {
		awaitRow(ctx, t, bed, p, func(addrs []string) bool { return slices.Contains(addrs, addr.String()) })
	}
}

// reaches waits for an event of a call of p, which must not end before.
func reaches(ctx context.Context, t *testing.T, p *Phone, name string) {
	t.Helper()
	for {
		switch e := await(ctx, t, p, ""); e.Name {
		case name:
			return
		case "ended":
			t.Fatalf("%s before %s: %v", p.Name, name, e)
		}
	}
}
