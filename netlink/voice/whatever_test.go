package voice

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"flexphone/netlink"
	"flexphone/netlink/internal/lldp"
	"flexphone/netlink/internal/steptest"
)

// A simulation runs a machine under a clock of its own, with a Source on each VLAN that
// leases when it is told to.
type simulation struct {
	t      steptest.Tester
	m      machine
	now    time.Time
	at     int          // the VLAN whose interface is there and used; untold: none
	cannot map[int]bool // the VLANs that the kernel does not make
	moves  int
	spoken []time.Time
	known  bool // to a reader: there is an address
}

func newSimulation(t steptest.Tester, fixed int, wait time.Duration) *simulation {
	now := time.Unix(1_800_000_000, 0)
	return &simulation{t: t, m: newMachine(now, fixed, wait), now: now, at: untold, cannot: map[int]bool{}}
}

func (s *simulation) give(in any) {
	s.t.Helper()
	for inputs := []any{in}; len(inputs) > 0; inputs = inputs[1:] {
		for _, a := range s.m.step(s.now, inputs[0]) {
			switch a := a.(type) {
			case move:
				s.moves++
				if s.at = a.vlan; s.cannot[a.vlan] {
					s.at, inputs = untold, append(inputs, notMade{unix.EOPNOTSUPP})
				}
			case leave:
				s.at = untold
			case introduce:
				s.spoken = append(s.spoken, s.now)
			case tell:
				if a.event.Kind == netlink.Lost && !s.known {
					s.t.Fatalf("lost what there was not")
				}
				s.known = a.event.Kind != netlink.Lost
			}
		}
		if len(inputs) > 10 {
			s.t.Fatalf("the machine goes round in circles")
		}
	}
}

func (s *simulation) run(d time.Duration) {
	s.t.Helper()
	steptest.Elapse(s.t, &s.now, d, func() time.Time { return s.m.deadline(s.now) }, func() { s.give(tick{}) })
}

// lease has the Source of the VLAN in use tell an address, with this option 132.
func (s *simulation) lease(vlan int) {
	if s.at != untold {
		l := netlink.Lease{Prefix: netip.MustParsePrefix("192.0.2.50/24"), VoiceVLAN: vlan}
		s.give(told{netlink.Event{Kind: netlink.Bound, Lease: l}})
	}
}

// TestIntroductions: at the start and whenever the carrier may be another switch's,
// a few times, and then now and then.
func TestIntroductions(t *testing.T) {
	s := newSimulation(t, 0, time.Second)
	s.give(below{index: 2})
	if s.run(time.Hour); len(s.spoken) > 0 {
		t.Errorf("spoke %d times without a carrier", len(s.spoken))
	}
	want := func(n int) {
		t.Helper()
		if len(s.spoken) != n {
			t.Errorf("spoke %d times; want %d", len(s.spoken), n)
		}
		s.spoken = nil
	}
	s.give(below{index: 2, up: true, changes: 1})
	s.run(3 * time.Second)
	want(4)
	s.run(2 * time.Minute)
	want(4)
	s.give(below{index: 2, up: true, changes: 1}) // nothing new
	want(0)
	s.give(below{index: 2, up: true, changes: 3}) // out and in again
	s.run(3 * time.Second)
	want(4)
	s.give(below{index: 2, changes: 4})
	s.run(time.Hour)
	want(0)
	fixed := newSimulation(t, 42, time.Second)
	fixed.give(below{index: 2, up: true})
	if fixed.run(time.Hour); len(fixed.spoken) > 0 {
		t.Error("spoke though nobody need answer")
	}
}

// TestMachineWhateverHappens: whatever switches, servers, cables and kernels do, in any
// order, the phone is where it belongs; when they do nothing more it stays, and a switch
// that says where telephones belong has it there.
func TestMachineWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fixed := rapid.SampledFrom([]int{0, 0, 0, 42}).Draw(t, "by settings")
		s := newSimulation(t, fixed, 2*time.Second)
		cable := below{index: 2}
		vlans := rapid.SampledFrom([]int{0, 42, 43, 44})
		check := func(t *rapid.T) {
			n, ok := s.m.place.vlan(s.now)
			if ok && s.at != n {
				t.Fatalf("is on %d; belongs on %d", s.at, n)
			}
			if s.at != s.m.on {
				t.Fatalf("is on %d; thinks %d", s.at, s.m.on)
			}
			if s.cannot[s.at] {
				t.Fatalf("is on %d, which there cannot be", s.at)
			}
			if fixed != 0 && s.at > 0 && s.at != fixed {
				t.Fatalf("is on %d; %d is fixed", s.at, fixed)
			}
			if fixed != 0 && len(s.spoken) > 0 {
				t.Fatal("asks a switch")
			}
			if n := len(s.spoken); n > lldpFastMany && s.spoken[n-1].Sub(s.spoken[n-1-lldpFastMany]) <= 0 {
				t.Fatal("floods the switch")
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": check,
			"cable": func(t *rapid.T) {
				cable.up = !cable.up && cable.index != 0
				cable.changes++
				s.spoken = nil
				s.give(cable)
			},
			"adapter": func(t *rapid.T) {
				cable = below{index: rapid.SampledFrom([]int{0, 2, 3}).Draw(t, "index")}
				s.give(cable)
				if cable.index != 0 && s.at > 0 {
					s.at = untold
					s.give(vanished{})
				}
			},
			"switch": func(t *rapid.T) {
				s.give(lldp.Message{
					From: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "from"), Device: uint8(rapid.IntRange(3, 4).Draw(t, "class")),
					Voice: rapid.Bool().Draw(t, "voice"), Policy: lldp.Policy{
						VLAN: uint16(vlans.Draw(t, "VLAN")), Life: time.Duration(rapid.IntRange(0, 120).Draw(t, "life")) * time.Second,
					},
				})
			},
			"server": func(t *rapid.T) { s.lease(vlans.Draw(t, "option 132")) },
			"loss": func(t *rapid.T) {
				if s.known {
					s.give(told{netlink.Event{Kind: netlink.Lost}})
				}
			},
			"kernel": func(t *rapid.T) {
				if v := vlans.Draw(t, "cannot"); v != 0 && v != s.at {
					s.cannot[v] = true
				}
			},
			"time": func(t *rapid.T) { s.run(time.Duration(rapid.Int64Range(0, int64(5*time.Minute)).Draw(t, "by"))) },
		})
		s.cannot = map[int]bool{}
		s.give(below{index: 9}) // a new adapter
		if s.at > 0 {
			s.at = untold
			s.give(vanished{})
		}
		s.give(below{index: 9, up: true})
		s.run(10 * time.Minute) // what others said is over
		good := lldp.Message{From: "c", Device: lldp.Connectivity, Voice: true, Policy: lldp.Policy{VLAN: 45, Life: time.Hour}}
		s.give(good)
		s.moves = 0
		want := 45
		if fixed != 0 {
			want = fixed
		}
		if s.run(59 * time.Minute); s.at != want || s.moves > 0 {
			t.Fatalf("is on %d after %d more moves; want %d", s.at, s.moves, want)
		}
		s.lease(0)
		s.give(stopped{})
		if s.at != untold || s.known {
			t.Fatalf("after the end: on %d, an address: %v", s.at, s.known)
		}
	})
}
