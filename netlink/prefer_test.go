package netlink

import (
	"net/netip"
	"testing"
	"time"
)

func TestElection(t *testing.T) {
	wire := Lease{Interface: "eth0", Prefix: netip.PrefixFrom(simAddr, 24)}
	moved := Lease{Interface: "eth0", Prefix: netip.PrefixFrom(simServer, 24)}
	air := Lease{Interface: "wlan0", Prefix: netip.PrefixFrom(simNext, 24)}
	dead := wire // with a carrier
	dead.Doubtful = true
	mist := air
	mist.Doubtful = true
	type moment struct {
		after time.Duration
		rank  int
		kind  EventKind // 0: time only
		lease Lease
		want  EventKind
		on    string
	}
	for _, tt := range []struct {
		name    string
		moments []moment
	}{
		{"the best alone", []moment{{0, 0, Bound, wire, Bound, "eth0"}, {0, 0, Renewed, wire, Renewed, "eth0"}, {0, 0, Lost, wire, Lost, "eth0"}}},
		{"the second waits", []moment{{0, 0, Bound, wire, Bound, "eth0"}, {0, 1, Bound, air, 0, ""}, {time.Hour, 1, Renewed, air, 0, ""}}},
		{"the best fails", []moment{{0, 0, Bound, wire, Bound, "eth0"}, {0, 1, Bound, air, 0, ""}, {0, 0, Lost, wire, Bound, "wlan0"}}},
		{"the best comes late", []moment{{0, 1, Bound, air, Bound, "wlan0"}, {0, 0, Bound, wire, 0, ""},
			{failbackWait - 1, 0, 0, wire, 0, ""}, {1, 0, 0, wire, Bound, "eth0"}}},
		{"the best flaps", []moment{{0, 1, Bound, air, Bound, "wlan0"}, {0, 0, Bound, wire, 0, ""}, {time.Second, 0, Lost, wire, 0, ""},
			{0, 0, Bound, wire, 0, ""}, {failbackWait - 1, 0, 0, wire, 0, ""}, {1, 0, 0, wire, Bound, "eth0"}}},
		{"the best moves", []moment{{0, 0, Bound, wire, Bound, "eth0"}, {0, 1, Bound, air, 0, ""}, {0, 0, Bound, moved, Bound, "eth0"}}},
		{"both fail", []moment{{0, 0, Bound, wire, Bound, "eth0"}, {0, 1, Bound, air, 0, ""}, {0, 1, Lost, air, 0, ""}, {0, 0, Lost, wire, Lost, "eth0"}}},
		{"the best is on a dead network", []moment{{0, 0, Bound, dead, Bound, "eth0"}, {0, 1, Bound, air, Bound, "wlan0"}, {time.Hour, 0, Renewed, dead, 0, ""}}},
		{"the second first, then the best on a dead network", []moment{{0, 1, Bound, air, Bound, "wlan0"}, {0, 0, Bound, dead, 0, ""}, {time.Hour, 0, 0, wire, 0, ""}}},
		{"the network of the best dies, and is back", []moment{{0, 0, Bound, wire, Bound, "eth0"}, {0, 1, Bound, air, 0, ""}, {0, 0, Renewed, dead, Bound, "wlan0"},
			{time.Hour, 0, Renewed, wire, 0, ""}, {failbackWait - 1, 0, 0, wire, 0, ""}, {1, 0, 0, wire, Bound, "eth0"}}},
		{"the network of the best dies, and is back for a moment", []moment{{0, 0, Bound, wire, Bound, "eth0"}, {0, 1, Bound, air, 0, ""}, {0, 0, Renewed, dead, Bound, "wlan0"},
			{time.Hour, 0, Renewed, wire, 0, ""}, {time.Second, 0, Renewed, dead, 0, ""}, {time.Hour, 0, 0, wire, 0, ""}}},
		{"both networks are dead", []moment{{0, 0, Bound, wire, Bound, "eth0"}, {0, 1, Bound, mist, 0, ""}, {0, 0, Renewed, dead, Renewed, "eth0"}, {0, 1, Renewed, mist, 0, ""}}},
		{"both are dead, the second is back", []moment{{0, 0, Bound, dead, Bound, "eth0"}, {0, 1, Bound, mist, 0, ""}, {time.Hour, 1, Renewed, air, Bound, "wlan0"}, {0, 1, Lost, air, Bound, "eth0"}}},
		{"the second's dies, the best is gone", []moment{{0, 1, Bound, air, Bound, "wlan0"}, {0, 1, Renewed, mist, Renewed, "wlan0"}, {0, 0, Bound, wire, Bound, "eth0"}}},
		{"nothing was ever there", []moment{{0, 0, Lost, wire, 0, ""}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := election{candidates: make([]candidate, 2), failback: failbackWait}
			now := time.Unix(1_800_000_000, 0)
			for i, m := range tt.moments {
				now = now.Add(m.after)
				var events []Event
				if m.kind == 0 {
					events = c.due(now)
				} else {
					events = c.event(now, m.rank, Event{Kind: m.kind, Lease: m.lease})
				}
				var got Event
				for _, e := range events {
					got = e
				}
				if got.Kind != m.want || got.Lease.Interface != m.on {
					t.Errorf("moment %d: %v on %q; want %v on %q", i, got.Kind, got.Lease.Interface, m.want, m.on)
				}
				if d := c.deadline(); !d.IsZero() && !d.After(now) {
					t.Errorf("moment %d: the deadline has passed", i)
				}
			}
		})
	}
}
