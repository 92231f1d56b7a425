package testbed

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"flexphone/testbed/nat"
)

// wayOf waits until p says that the sound of its call goes so, and returns what it says.
func wayOf(ctx context.Context, t testing.TB, p *Phone, want string) (way string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); way != want && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		s, err := p.Status(ctx)
		must(t, err)
		var call struct {
			Statistics struct {
				Way string `json:"way"`
			} `json:"statistics"`
		}
		must(t, json.Unmarshal(s.Call, &call))
		way = call.Statistics.Way
	}
	return way
}

// kinds are of NATs; the first is none.
var kinds = []struct {
	name string
	nat.Config
}{{name: "none"}, {"full cone", nat.Config{Filter: nat.Anybody}}, {"address-restricted", nat.Config{Filter: nat.Host}}, {"port-restricted", closed}, {"symmetric", nat.Config{Symmetric: true, Filter: nat.Port}}}

// The sound of real phones finds its way through NATs in user space, between real kernels: by
// the addresses that these give where that can be, and else by the storing server's relay.
// Both hear. All 25 pairs are tried where FLEXPHONE_NATS says all.
func TestSoundThroughNATs(t *testing.T) {
	const none, full, port, symmetric = 0, 1, 3, 4
	all := os.Getenv("FLEXPHONE_NATS") == "all"
	var tried int
	var talked, alone atomic.Int64
	t.Cleanup(func() {
		t.Logf("%d of %d pairs of NATs talk both ways, %d of them without the relay", talked.Load(), tried, alone.Load())
	})
	for i := range kinds {
		for j := range kinds {
			if usual := i == j && (i == full || i == port || i == symmetric) || i == port && j == none; !usual && !all {
				continue
			}
			way := func(there int) string {
				switch {
				case i == symmetric && j >= port, j == symmetric && i >= port:
					return "relayed"
				case there == none:
					return "direct"
				}
				return "punched"
			}
			tried++
			t.Run(kinds[i].name+" to "+kinds[j].name, func(t *testing.T) {
				ctx, ends := between(t, i, j)
				talk, err := Call(ctx, ends[0], ends[1], "102")
				must(t, err)
				for n, want := range []string{way(j), way(i)} {
					if got := wayOf(ctx, t, ends[n], want); got != want {
						t.Errorf("sound is %q at %s, want %s", got, ends[n].Name, want)
					}
				}
				t.Logf("%s: rings after %v, established after %v", way(j), talk.Rang.Sub(talk.Dialed), talk.Established.Sub(talk.Answered))
				hearEachOther(ctx, t, ends[0], ends[1])
				must(t, talk.HangUp(ctx, ends[1]))
				if t.Failed() {
					return
				}
				talked.Add(1)
				if way(none) != "relayed" {
					alone.Add(1)
				}
			})
		}
	}
}

// between has phones 101 and 102 behind NATs of these kinds.
func between(t *testing.T, i, j int) (context.Context, []*Phone) {
	t.Helper()
	ctx, bed, _ := homes(t, 0, nat.Config{})
	var ends []*Phone
	for n, kind := range []int{i, j} {
		if kind == 0 {
			ends = append(ends, addPhone(ctx, t, bed, 101+n))
			continue
		}
		home, err := bed.AddHome(fmt.Sprintf("home-%d", n+1), West.Address(2*n), kinds[kind].Config)
		must(t, err)
		ends = append(ends, addBehind(ctx, t, bed, home, 101+n, "192.168.77.2"))
	}
	return ctx, ends
}

// Two phones of one home speak in it.
func TestSoundInOneHome(t *testing.T) {
	ctx, bed, all := homes(t, 1, nat.Config{Symmetric: true, Filter: nat.Port})
	a := addBehind(ctx, t, bed, all[0], 101, "192.168.77.2")
	b := addBehind(ctx, t, bed, all[0], 102, "192.168.77.3")
	talk, err := Call(ctx, a, b, "102")
	must(t, err)
	for _, p := range []*Phone{a, b} {
		if got := wayOf(ctx, t, p, "direct"); got != "direct" {
			t.Errorf("sound is %q at %s, want direct", got, p.Name)
		}
	}
	hearEachOther(ctx, t, a, b)
	must(t, talk.HangUp(ctx, a))
}
