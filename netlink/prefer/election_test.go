package prefer

import (
	"net/netip"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"flexphone/netlink"
	"flexphone/netlink/internal/steptest"
)

func TestElection(t *testing.T) {
	wire := netlink.Lease{Interface: "eth0", Prefix: netip.MustParsePrefix("192.0.2.50/24")}
	moved := netlink.Lease{Interface: "eth0", Prefix: netip.MustParsePrefix("192.0.2.1/24")}
	air := netlink.Lease{Interface: "wlan0", Prefix: netip.MustParsePrefix("192.0.2.80/24")}
	dead := wire // with a carrier
	dead.Doubtful = true
	mist := air
	mist.Doubtful = true
	type moment struct {
		after time.Duration
		rank  int
		kind  netlink.EventKind // 0: time only
		lease netlink.Lease
		want  netlink.EventKind
		on    string
	}
	for _, tt := range []struct {
		name    string
		moments []moment
	}{
		{"the best alone", []moment{{0, 0, netlink.Bound, wire, netlink.Bound, "eth0"}, {0, 0, netlink.Renewed, wire, netlink.Renewed, "eth0"}, {0, 0, netlink.Lost, wire, netlink.Lost, "eth0"}}},
		{"the second waits", []moment{{0, 0, netlink.Bound, wire, netlink.Bound, "eth0"}, {0, 1, netlink.Bound, air, 0, ""}, {time.Hour, 1, netlink.Renewed, air, 0, ""}}},
		{"the best fails", []moment{{0, 0, netlink.Bound, wire, netlink.Bound, "eth0"}, {0, 1, netlink.Bound, air, 0, ""}, {0, 0, netlink.Lost, wire, netlink.Bound, "wlan0"}}},
		{"the best comes late", []moment{{0, 1, netlink.Bound, air, netlink.Bound, "wlan0"}, {0, 0, netlink.Bound, wire, 0, ""},
			{failbackWait - 1, 0, 0, wire, 0, ""}, {1, 0, 0, wire, netlink.Bound, "eth0"}}},
		{"the best flaps", []moment{{0, 1, netlink.Bound, air, netlink.Bound, "wlan0"}, {0, 0, netlink.Bound, wire, 0, ""}, {time.Second, 0, netlink.Lost, wire, 0, ""},
			{0, 0, netlink.Bound, wire, 0, ""}, {failbackWait - 1, 0, 0, wire, 0, ""}, {1, 0, 0, wire, netlink.Bound, "eth0"}}},
		{"the best moves", []moment{{0, 0, netlink.Bound, wire, netlink.Bound, "eth0"}, {0, 1, netlink.Bound, air, 0, ""}, {0, 0, netlink.Bound, moved, netlink.Bound, "eth0"}}},
		{"both fail", []moment{{0, 0, netlink.Bound, wire, netlink.Bound, "eth0"}, {0, 1, netlink.Bound, air, 0, ""}, {0, 1, netlink.Lost, air, 0, ""}, {0, 0, netlink.Lost, wire, netlink.Lost, "eth0"}}},
		{"the best is on a dead network", []moment{{0, 0, netlink.Bound, dead, netlink.Bound, "eth0"}, {0, 1, netlink.Bound, air, netlink.Bound, "wlan0"}, {time.Hour, 0, netlink.Renewed, dead, 0, ""}}},
		{"the second first, then the best on a dead network", []moment{{0, 1, netlink.Bound, air, netlink.Bound, "wlan0"}, {0, 0, netlink.Bound, dead, 0, ""}, {time.Hour, 0, 0, wire, 0, ""}}},
		{"the network of the best dies, and is back", []moment{{0, 0, netlink.Bound, wire, netlink.Bound, "eth0"}, {0, 1, netlink.Bound, air, 0, ""}, {0, 0, netlink.Renewed, dead, netlink.Bound, "wlan0"},
			{time.Hour, 0, netlink.Renewed, wire, 0, ""}, {failbackWait - 1, 0, 0, wire, 0, ""}, {1, 0, 0, wire, netlink.Bound, "eth0"}}},
		{"the network of the best dies, and is back for a moment", []moment{{0, 0, netlink.Bound, wire, netlink.Bound, "eth0"}, {0, 1, netlink.Bound, air, 0, ""}, {0, 0, netlink.Renewed, dead, netlink.Bound, "wlan0"},
			{time.Hour, 0, netlink.Renewed, wire, 0, ""}, {time.Second, 0, netlink.Renewed, dead, 0, ""}, {time.Hour, 0, 0, wire, 0, ""}}},
		{"both networks are dead", []moment{{0, 0, netlink.Bound, wire, netlink.Bound, "eth0"}, {0, 1, netlink.Bound, mist, 0, ""}, {0, 0, netlink.Renewed, dead, netlink.Renewed, "eth0"}, {0, 1, netlink.Renewed, mist, 0, ""}}},
		{"both are dead, the second is back", []moment{{0, 0, netlink.Bound, dead, netlink.Bound, "eth0"}, {0, 1, netlink.Bound, mist, 0, ""}, {time.Hour, 1, netlink.Renewed, air, netlink.Bound, "wlan0"}, {0, 1, netlink.Lost, air, netlink.Bound, "eth0"}}},
		{"the second's dies, the best is gone", []moment{{0, 1, netlink.Bound, air, netlink.Bound, "wlan0"}, {0, 1, netlink.Renewed, mist, netlink.Renewed, "wlan0"}, {0, 0, netlink.Bound, wire, netlink.Bound, "eth0"}}},
		{"nothing was ever there", []moment{{0, 0, netlink.Lost, wire, 0, ""}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newElection(2, failbackWait)
			now := time.Unix(1_800_000_000, 0)
			for i, m := range tt.moments {
				now = now.Add(m.after)
				var in any = tick{}
				if m.kind != 0 {
					in = says{m.rank, netlink.Event{Kind: m.kind, Lease: m.lease}}
				}
				events := c.step(now, in)
				var got netlink.Event
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

// TestElectionWhateverHappens: whatever the sources say, and when, the one that is used
// is one that has an address, the best that has held, and what is told fits together.
func TestElectionWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const sources = 3
		c := newElection(sources, failbackWait)
		now := time.Unix(1_800_000_000, 0)
		var leases [sources]netlink.Lease // as the sources have said
		var told netlink.Lease            // as a reader knows
		give := func(in any) {
			for _, e := range c.step(now, in) {
				switch {
				case e.Kind == netlink.Lost && !told.Prefix.IsValid():
					t.Fatal("lost what there was not")
				case e.Kind == netlink.Renewed && e.Lease.Prefix != told.Prefix:
					t.Fatalf("%v is renewed as %v", told.Prefix, e.Lease.Prefix)
				}
				if told = e.Lease; e.Kind == netlink.Lost {
					told = netlink.Lease{}
				}
			}
		}
		check := func(t *rapid.T) {
			used, better := false, false
			for rank, l := range leases {
				used = used || l.Prefix.IsValid() && l.Prefix == told.Prefix
				better = better || l.Prefix.IsValid() && told.Doubtful && !l.Doubtful && rank != c.chosen
			}
			if told.Prefix.IsValid() != used {
				t.Fatalf("uses %v of %v", told.Prefix, leases)
			}
			if better {
				t.Fatalf("uses %v on a dead network, there are %v", told.Prefix, leases)
			}
			if d := c.deadline(); !d.IsZero() && d.Before(now) {
				t.Fatal("the deadline has passed")
			}
		}
		elapse := func(d time.Duration) {
			steptest.Elapse(t, &now, d, c.deadline, func() { give(tick{}) })
		}
		t.Repeat(map[string]func(*rapid.T){
			"": check,
			"source": func(t *rapid.T) {
				rank := rapid.IntRange(0, sources-1).Draw(t, "rank")
				l := netlink.Lease{
					Interface: "eth" + strconv.Itoa(rank), Doubtful: rapid.Bool().Draw(t, "doubtful"),
					Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(rank), byte(rapid.IntRange(1, 3).Draw(t, "host"))}), 24),
				}
				e := netlink.Event{Kind: netlink.Bound, Lease: l}
				switch was := leases[rank]; {
				case was.Prefix.IsValid() && rapid.Bool().Draw(t, "lost"):
					e.Kind, e.Lease, l = netlink.Lost, was, netlink.Lease{}
				case was.Prefix == l.Prefix:
					e.Kind = netlink.Renewed
				}
				leases[rank] = l
				give(says{rank, e})
			},
			"time": func(t *rapid.T) {
				elapse(time.Duration(rapid.Int64Range(0, int64(2*failbackWait)).Draw(t, "by")))
			},
		})
		elapse(2 * failbackWait)
		best := -1
		for rank, l := range leases {
			if l.Prefix.IsValid() && (best < 0 || leases[best].Doubtful && !l.Doubtful) {
				best = rank
			}
		}
		if best >= 0 && told.Prefix != leases[best].Prefix {
			t.Fatalf("in the end it uses %v of %v", told.Prefix, leases)
		}
		give(stopped{})
		if told.Prefix.IsValid() {
			t.Fatal("the end is not told")
		}
	})
}
