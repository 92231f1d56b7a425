package testbed

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"flexphone/testbed/nat"
)

// wayOf waits until p says that the sound of its call goes so, and returns what it says.
func wayOf(ctx context.Context, t testing.TB, p *Phone, want string) (way string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); way != want && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
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

// The sound of real phones finds its way through real NATs in user space: by the addresses
// that these give where that can be, and else by the storing server's relay. Both hear.
func TestSoundThroughNATs(t *testing.T) {
	symmetric := nat.Config{Symmetric: true, Filter: nat.Port}
	for _, tt := range []struct {
		name string
		kind nat.Config
		way  string
	}{
		{"full cones", nat.Config{Filter: nat.Anybody}, "punched"},
		{"port-restricted", closed, "punched"},
		{"symmetric", symmetric, "relayed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, bed, all := homes(t, 2, tt.kind)
			a := addBehind(ctx, t, bed, all[0], 101, "192.168.77.2")
			b := addBehind(ctx, t, bed, all[1], 102, "192.168.77.2")
			talk, err := Call(ctx, a, b, "102")
			must(t, err)
			for _, p := range []*Phone{a, b} {
				if got := wayOf(ctx, t, p, tt.way); got != tt.way {
					t.Errorf("sound is %q at %s, want %s", got, p.Name, tt.way)
				}
			}
			hearEachOther(ctx, t, a, b)
			must(t, talk.HangUp(ctx, b))
		})
	}
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
