package netlink

import (
	"net/netip"
	"testing"
	"time"

	"flexphone/netlink/internal/link"
)

func TestWatcher(t *testing.T) {
	prefix := netip.PrefixFrom(simAddr, 24)
	held := sight{mac: simMAC, running: true, held: []heldAddress{{prefix: prefix}}}
	routed := held
	routed.routed, routed.router = true, simServer
	bare := sight{mac: simMAC, running: true}
	down := routed
	down.running = false
	moved := routed
	moved.held, moved.source = []heldAddress{{prefix: prefix}, {prefix: netip.PrefixFrom(simNext, 24), secondary: true}}, simNext
	renewed := routed
	renewed.held = []heldAddress{{prefix: prefix, life: time.Hour}}
	dialled := sight{running: true, routed: true, held: []heldAddress{{prefix: netip.PrefixFrom(simAddr, 32)}}}
	again := dialled
	again.held = []heldAddress{{prefix: netip.PrefixFrom(simNext, 32)}}
	gap := link.Grace + 10*time.Millisecond

	type moment struct {
		after time.Duration
		sight sight
		want  EventKind // 0: nothing
	}
	for _, tt := range []struct {
		name    string
		moments []moment
	}{
		{"address, then route", []moment{{0, bare, 0}, {0, held, 0}, {time.Millisecond, routed, Bound}, {time.Hour, routed, 0}}},
		{"no route ever", []moment{{0, held, 0}, {routeGrace, held, Bound}}},
		{"a short gap", []moment{{0, routed, Bound}, {0, bare, 0}, {gapGrace - 1, bare, 0}, {0, routed, 0}, {gapGrace, routed, 0}}},
		{"a long gap", []moment{{0, routed, Bound}, {0, bare, 0}, {gapGrace, bare, Lost}, {time.Hour, bare, 0}, {0, routed, Bound}}},
		{"the cable out and in", []moment{{0, routed, Bound}, {0, down, 0}, {gap, down, Lost}, {0, routed, Bound}}},
		{"the cable out, then the address gone", []moment{{0, routed, Bound}, {0, bare, 0}, {time.Millisecond, sight{mac: simMAC}, 0}, {gap, sight{mac: simMAC}, Lost}}},
		{"a provider that hangs up, and dials in again", []moment{{0, dialled, Bound}, {0, sight{}, 0}, {gapGrace - 1, sight{}, 0}, {0, again, Bound}}},
		{"and does not", []moment{{0, dialled, Bound}, {0, sight{}, 0}, {gapGrace, sight{}, Lost}, {time.Hour, again, Bound}}},
		{"make before break", []moment{{0, routed, Bound}, {0, moved, Bound}}},
		{"renewed", []moment{{0, routed, Bound}, {0, renewed, Renewed}, {time.Second, renewed, 0}, {time.Minute, renewed, Renewed}}},
		{"the same address again", []moment{{0, routed, Bound}, {0, routed, 0}}},
		{"the route away for a moment", []moment{{0, routed, Bound}, {0, held, 0}, {routeGrace - 1, routed, 0}}},
		{"the route away", []moment{{0, routed, Bound}, {0, held, 0}, {routeGrace, held, Renewed}, {time.Hour, held, 0}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := watcher{ifname: "eth0"}
			now := time.Unix(1_800_000_000, 0)
			for i, m := range tt.moments {
				now = now.Add(m.after)
				var got EventKind
				for _, e := range w.step(now, m.sight) {
					got = e.Kind
				}
				if got != m.want {
					t.Errorf("moment %d: event %v; want %v", i, got, m.want)
				}
				if d := w.deadline(); !d.IsZero() && !d.After(now) {
					t.Errorf("moment %d: the deadline has passed", i)
				}
			}
		})
	}
}
