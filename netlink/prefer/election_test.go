package prefer

import (
	"net/netip"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"flexphone/netlink"
	"flexphone/netlink/internal/moment"
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
				var got netlink.Event
				for _, a := range c.step(now, in) {
					if a, ok := a.(tell); ok {
						got = a.event
					}
				}
				if got.Kind != m.want || got.Lease.Interface != m.on {
					t.Errorf("moment %d: %v on %q; want %v on %q", i, got.Kind, got.Lease.Interface, m.want, m.on)
				}
				if d := c.deadline(now); !d.IsZero() && !d.After(now) {
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
		var shunned [sources]bool
		for rank := range c.candidates {
			c.candidates[rank].yields = rank < 2
		}
		give := func(in any) {
			for _, a := range c.step(now, in) {
				if s, ok := a.(shun); ok {
					if shunned[s.rank] == s.yes || s.rank == 2 {
						t.Fatalf("shuns %d once more, or though it does not yield: %v", s.rank, s.yes)
					}
					shunned[s.rank] = s.yes
					continue
				}
				e := a.(tell).event
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
			if d := c.deadline(now); !d.IsZero() && d.Before(now) {
				t.Fatal("the deadline has passed")
			}
			if told.Prefix.IsValid() && shunned[c.chosen] {
				t.Fatalf("shuns %d, which it uses", c.chosen)
			}
		}
		elapse := func(d time.Duration) {
			steptest.Elapse(t, &now, d, func() time.Time { return c.deadline(now) }, func() { give(tick{}) })
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
			"doubt":   func(*rapid.T) { give(unreached{}) },
			"reached": func(*rapid.T) { give(reached{}) },
			"wait":    func(*rapid.T) { elapse(reachWait) },
			"time": func(t *rapid.T) {
				elapse(time.Duration(rapid.Int64Range(0, int64(2*failbackWait)).Draw(t, "by")))
			},
		})
		elapse(2 * mostPenalty) // nobody doubts any more
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

// A reachSim is an election between Ethernet and Wi-Fi, both with an address, and somebody
// who needs a server: he tries every ten seconds and at once when the address is another,
// and doubts and believes as the Announcer does.
type reachSim struct {
	t     *testing.T
	c     election
	now   time.Time
	next  time.Time // it tries, or has failed
	tries string    // through which it does; empty: it does not
	alive map[string]bool
	on    string
	moves int
	out   time.Duration // of reach, in all
	front string        // whose routes are
}

func newReachSim(t *testing.T) *reachSim {
	s := &reachSim{t: t, c: newElection(2, failbackWait), now: time.Unix(1_800_000_000, 0), alive: map[string]bool{"eth0": true, "wlan0": true}, front: "eth0"}
	for rank, name := range []string{"eth0", "wlan0"} {
		s.c.candidates[rank].yields = true
		s.give(says{rank, netlink.Event{Kind: netlink.Bound, Lease: leaseOn(name)}})
	}
	s.run(time.Minute)
	s.moves = 0
	return s
}

func leaseOn(name string) netlink.Lease {
	return netlink.Lease{Interface: name, Prefix: netip.MustParsePrefix(map[string]string{"eth0": "192.0.2.50/24", "wlan0": "198.51.100.50/24"}[name])}
}

func (s *reachSim) give(in any) {
	for _, a := range s.c.step(s.now, in) {
		switch a := a.(type) {
		case shun:
			s.front = map[bool]string{true: "wlan0", false: "eth0"}[a.yes]
		case tell:
			s.on = a.event.Lease.Interface
			s.moves++
			s.next, s.tries = s.now, "" // at once
		}
	}
}

// run lets time pass; a try that fails takes ten seconds, one that does not no time.
func (s *reachSim) run(d time.Duration) {
	s.t.Helper()
	const try = 10 * time.Second
	deadline := func() time.Time { return moment.Earliest(s.c.deadline(s.now), s.next) }
	steptest.Elapse(s.t, &s.now, d, deadline, func() {
		switch {
		case s.now.Before(s.next):
			s.give(tick{})
		case s.tries != "":
			s.out += try
			s.tries, s.next = "", s.now.Add(time.Second)
			s.give(unreached{})
		case s.alive[s.on]:
			s.next = s.now.Add(try)
			s.give(reached{})
		default:
			s.tries, s.next = s.on, s.now.Add(try)
		}
	})
}

// TestDeadUplink: Ethernet has a carrier, a lease and a router that answers, and behind
// that there is nothing.
func TestDeadUplink(t *testing.T) {
	t.Run("and Wi-Fi has a way", func(t *testing.T) {
		s := newReachSim(t)
		s.alive["eth0"] = false
		if s.run(reachWait - 1); s.on != "eth0" {
			t.Errorf("on %s, though a server takes as long to start", s.on)
		}
		if s.run(time.Minute); s.on != "wlan0" || s.front != "wlan0" {
			t.Errorf("on %s, routes of %s first", s.on, s.front)
		}
		s.moves, s.out = 0, 0
		s.run(24 * time.Hour)
		if s.on != "wlan0" || s.moves > 60 || s.out > 10*time.Minute {
			t.Errorf("on %s after %d moves in a day, %v out of reach", s.on, s.moves, s.out)
		}
		s.alive["eth0"] = true
		if s.run(mostPenalty + time.Minute); s.on != "eth0" || s.front != "eth0" {
			t.Errorf("on %s an hour after the way is back, routes of %s first", s.on, s.front)
		}
		s.moves = 0
		if s.run(24 * time.Hour); s.moves > 0 {
			t.Errorf("%d moves though all is well", s.moves)
		}
	})
	t.Run("until the cable was out", func(t *testing.T) {
		s := newReachSim(t)
		s.alive["eth0"] = false
		s.run(2 * time.Minute)
		s.give(says{0, netlink.Event{Kind: netlink.Lost, Lease: leaseOn("eth0")}})
		s.alive["eth0"] = true
		s.give(says{0, netlink.Event{Kind: netlink.Bound, Lease: leaseOn("eth0")}})
		if s.run(2 * failbackWait); s.on != "eth0" || s.front != "eth0" {
			t.Errorf("on %s, routes of %s first", s.on, s.front)
		}
	})
	t.Run("but it is the server's", func(t *testing.T) {
		s := newReachSim(t)
		s.alive = map[string]bool{}
		s.run(24 * time.Hour)
		if s.moves > 60 {
			t.Errorf("%d moves in a day", s.moves)
		}
		s.alive = map[string]bool{"eth0": true, "wlan0": true}
		if s.run(time.Minute); s.on != "eth0" {
			t.Errorf("on %s once the server is back", s.on)
		}
	})
	t.Run("for a moment, as when the server is started anew", func(t *testing.T) {
		s := newReachSim(t)
		for range 100 {
			s.alive = map[string]bool{}
			s.run(20 * time.Second)
			s.alive = map[string]bool{"eth0": true, "wlan0": true}
			s.run(40 * time.Second)
		}
		if s.moves > 0 {
			t.Errorf("%d moves", s.moves)
		}
	})
	t.Run("again and again", func(t *testing.T) {
		s := newReachSim(t)
		for range 24 * 6 {
			s.alive["eth0"] = false
			s.run(5 * time.Minute)
			s.alive["eth0"] = true
			s.run(5 * time.Minute)
		}
		if s.moves > 80 {
			t.Errorf("%d moves in a day", s.moves)
		}
	})
	t.Run("and its routes are another's", func(t *testing.T) {
		s := newReachSim(t)
		s.c.candidates[0].yields = false
		s.alive["eth0"] = false
		if s.run(time.Hour); s.moves > 0 {
			t.Errorf("%d moves, though all packets leave by Ethernet", s.moves)
		}
	})
	t.Run("and there is no other", func(t *testing.T) {
		s := newReachSim(t)
		s.give(says{1, netlink.Event{Kind: netlink.Lost, Lease: leaseOn("wlan0")}})
		s.alive["eth0"] = false
		if s.run(time.Hour); s.moves > 0 || s.on != "eth0" {
			t.Errorf("%d moves", s.moves)
		}
	})
}
