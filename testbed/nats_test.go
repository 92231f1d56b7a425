package testbed

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"flexphone/testbed/nat"
)

// forgets is after how long of silence many NATs forget a port of UDP, though RFC 4787
// (section 4.3) wants two minutes.
const forgets = 30 * time.Second

// pairsOfNATs are what both ends of a call are behind, and how sound goes then.
var pairsOfNATs = []struct {
	name string
	nat.Config
	way string
}{
	{"port-restricted", nat.Config{Filter: nat.Port, Arbitrary: true}, "punched"},
	{"symmetric", nat.Config{Filter: nat.Port, Symmetric: true}, "relayed"},
}

// talking has two phones behind routers speak, whose sound goes that way.
func talking(ctx context.Context, t *testing.T, a, b *Phone, way string) *Talk {
	t.Helper()
	talk, err := Call(ctx, a, b, "102")
	must(t, err)
	goes(ctx, t, way, a, b)
	hearEachOther(ctx, t, a, b)
	if way == "relayed" {
		usualPackets(ctx, t, a, b)
	}
	return talk
}

// usualPackets checks that what comes by the relay are no short packets, of which there would be
// 100 each second instead of 50, though homes have the same addresses.
func usualPackets(ctx context.Context, t *testing.T, ends ...*Phone) {
	t.Helper()
	for _, p := range ends {
		before, err := p.received(ctx)
		must(t, err)
		began := time.Now()
		must(t, p.Understands(ctx, 150))
		after, err := p.received(ctx)
		must(t, err)
		if rate := float64(after-before) / time.Since(began).Seconds(); rate > 75 {
			t.Errorf("%.0f packets come each second to %s", rate, p.Name)
		}
	}
}

// goes checks which way the sound of both ends goes.
func goes(ctx context.Context, t *testing.T, way string, ends ...*Phone) {
	t.Helper()
	for _, p := range ends {
		if got := wayOf(ctx, t, p, way); got != way {
			t.Errorf("sound is %q at %s, want %s", got, p.Name, way)
		}
	}
}

// silence waits for longer than NATs remember.
func silence(ctx context.Context, t *testing.T) {
	t.Helper()
	over := time.NewTimer(forgets * 5 / 4)
	defer over.Stop()
	select {
	case <-over.C:
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
}

// NATs that forget what is silent for 30 s lose no call: one that is held for longer goes on
// when it is retrieved, it is hung up from either end after as long, and the next one rings.
// Both kinds are tried where FLEXPHONE_NATS says all, else the one whose sound is punched.
func TestNATsThatForget(t *testing.T) {
	for _, kind := range pairsOfNATs {
		if kind.way == "relayed" && os.Getenv("FLEXPHONE_NATS") != "all" {
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			kind.Forget = forgets
			ctx, bed, all := homes(t, 2, kind.Config)
			a := addBehind(ctx, t, bed, all[0], 101, "192.168.77.2")
			b := addBehind(ctx, t, bed, all[1], 102, "192.168.77.2")
			talk := talking(ctx, t, a, b, kind.way)
			waits(ctx, t, a, b, "hold", "held")
			silence(ctx, t)
			waits(ctx, t, a, b, "retrieve", "retrieved")
			hearEachOther(ctx, t, a, b)
			goes(ctx, t, kind.way, a, b)
			must(t, talk.HangUp(ctx, b))
			silence(ctx, t)
			must(t, talking(ctx, t, a, b, kind.way).HangUp(ctx, a))
		})
	}
}

// NATs that are restarted in a call, and know nothing of it then, give other ports: of one
// end, of the other, of both. The call goes on, by the relay first, since neither end knows at
// which port the other is seen now; each asks for its own and tells, and sound goes through the
// NATs again, where it did before. Both hear, it is hung up, and the next one finds its way as
// the first has.
func TestNATsThatAreRestarted(t *testing.T) {
	for _, kind := range pairsOfNATs {
		t.Run(kind.name, func(t *testing.T) {
			ctx, bed, all := homes(t, 2, kind.Config)
			a := addBehind(ctx, t, bed, all[0], 101, "192.168.77.2")
			b := addBehind(ctx, t, bed, all[1], 102, "192.168.77.2")
			talk := talking(ctx, t, a, b, kind.way)
			for _, restarted := range [][]*Home{all[:1], all[1:], all} {
				began := time.Now()
				for _, home := range restarted {
					home.NAT.Restart()
				}
				for _, p := range []*Phone{a, b} {
					must(t, p.Understands(ctx, 50))
				}
				understood := time.Since(began)
				goes(ctx, t, kind.way, a, b)
				t.Logf("%d of 2 restarted: both understand a second of sound %v later, and it is %s after %v", len(restarted),
					understood.Round(time.Millisecond), kind.way, time.Since(began).Round(time.Millisecond))
				hearEachOther(ctx, t, a, b)
				goes(ctx, t, kind.way, a, b)
			}
			must(t, talk.HangUp(ctx, b))
			must(t, talking(ctx, t, a, b, kind.way).HangUp(ctx, a))
		})
	}
}

// Phones whose homes are behind a carrier's NAT, each of which translates, call one at the same
// carrier, which leads back what they say (hairpinning, RFC 4787, section 6), and are called by
// one at another.
func TestSoundThroughTwoNATs(t *testing.T) {
	for _, kind := range pairsOfNATs {
		t.Run(kind.name, func(t *testing.T) {
			ctx, bed, _ := homes(t, 0, nat.Config{})
			var carriers []*Home
			var phones []*Phone
			for n := range 2 {
				carrier, err := bed.AddCarrier(fmt.Sprintf("carrier-%d", n+1), West.Address(2*n), kind.Config)
				must(t, err)
				carriers = append(carriers, carrier)
			}
			for n, carrier := range []*Home{carriers[0], carriers[0], carriers[1]} {
				home, err := bed.AddHomeAt(carrier, fmt.Sprintf("home-%d", n+1), n, kind.Config)
				must(t, err)
				phones = append(phones, addBehind(ctx, t, bed, home, 101+n, "192.168.77.2"))
			}
			a, b, other := phones[0], phones[1], phones[2]
			must(t, talking(ctx, t, a, b, kind.way).HangUp(ctx, b))
			must(t, talking(ctx, t, other, b, kind.way).HangUp(ctx, other))
		})
	}
}
