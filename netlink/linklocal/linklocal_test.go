package linklocal

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"flexphone/internal/mac"
	"flexphone/netlink"
	"flexphone/netlink/internal/arp"
	"flexphone/netlink/internal/steptest"
)

var (
	ours   = mac.Address{2, 0, 0x5e, 0, 0x53, 1}
	theirs = mac.Address{2, 0, 0x5e, 0, 0x53, 2}
)

// A localSim runs a local under a clock of its own.
type localSim struct {
	t      steptest.Tester
	m      local
	now    time.Time
	kernel map[netip.Prefix]bool
	events []netlink.Event
	probes int
	said   int   // announcements
	broken error // what the kernel says to an address
}

func newLocalSim(t steptest.Tester) *localSim {
	return &localSim{t: t, m: local{ifname: "eth0", wait: localWait}, now: time.Unix(1_800_000_000, 0), kernel: map[netip.Prefix]bool{}}
}

func (s *localSim) give(in any) {
	for inputs := []any{in}; len(inputs) > 0; inputs = inputs[1:] {
		for _, a := range s.m.step(s.now, inputs[0]) {
			switch a := a.(type) {
			case sendProbe:
				s.probes++
			case sendAnnounce:
				s.said++
			case install:
				if s.broken == nil {
					s.kernel[a.lease.Prefix] = true
				}
				inputs = append(inputs, installed{s.broken})
			case remove:
				delete(s.kernel, a.lease.Prefix)
			case tell:
				s.events = append(s.events, a.event)
			}
		}
	}
}

func (s *localSim) run(d time.Duration) {
	steptest.Elapse(s.t, &s.now, d, s.m.deadline, func() { s.give(tick{}) })
}

func TestLinkLocal(t *testing.T) {
	yes := alone{yes: true, mac: ours}
	s := newLocalSim(t)
	s.give(yes)
	if s.run(localWait); s.probes > 0 {
		t.Error("probed while a server may still answer")
	}
	s.run(10 * time.Second)
	if len(s.events) != 1 || s.events[0].Kind != netlink.Bound || s.probes != arp.Probes || s.said != arp.Announcements {
		t.Fatalf("events are %v after %d probes and %d announcements", s.events, s.probes, s.said)
	}
	first := s.events[0].Lease.Prefix
	if !first.Addr().IsLinkLocalUnicast() || first.Bits() != 16 || first.Addr().As4()[2] == 0 || first.Addr().As4()[2] == 255 || !s.kernel[first] {
		t.Errorf("it is %v", first)
	}
	again := newLocalSim(t)
	again.give(yes)
	again.run(time.Minute)
	if p := again.events[0].Lease.Prefix; p != first {
		t.Errorf("another time it is %v; was %v", p, first)
	}
	s.give(arp.Claim{Addr: first.Addr(), From: theirs}) // defended once
	s.give(arp.Claim{Addr: first.Addr(), From: theirs})
	s.run(10 * time.Second)
	if len(s.events) != 3 || s.events[1].Reason != "conflict" || s.events[2].Lease.Prefix == first {
		t.Errorf("events are %v", s.events)
	}
	s.give(alone{}) // a server came
	if e := s.events[len(s.events)-1]; e.Kind != netlink.Lost || len(s.kernel) > 0 || !s.m.deadline().IsZero() {
		t.Errorf("the last event is %v, kernel has %v", e, s.kernel)
	}
}

// TestLinkLocalKernelThatRefuses: it is asked once a minute, and for ever.
func TestLinkLocalKernelThatRefuses(t *testing.T) {
	s := newLocalSim(t)
	s.broken = errors.New("no memory")
	s.give(alone{yes: true, mac: ours})
	s.run(time.Hour)
	if len(s.events) > 0 || s.probes > 60*arp.Probes {
		t.Errorf("%d probes, events are %v", s.probes, s.events)
	}
	s.broken = nil
	s.run(2 * localRate)
	if len(s.events) != 1 || s.events[0].Kind != netlink.Bound {
		t.Errorf("events are %v once the kernel takes addresses", s.events)
	}
}

func TestLinkLocalWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newLocalSim(t)
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				if len(s.kernel) > 1 || len(s.kernel) == 1 && (!s.m.held || !s.m.want) {
					t.Fatalf("kernel has %v, held %v, wanted %v", s.kernel, s.m.held, s.m.want)
				}
			},
			"wanted": func(t *rapid.T) { s.give(alone{yes: rapid.Bool().Draw(t, "yes"), mac: ours}) },
			"time":   func(t *rapid.T) { s.run(time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "by"))) },
			"conflict": func(t *rapid.T) {
				s.give(arp.Claim{Addr: s.m.watched(), From: theirs, Probe: rapid.Bool().Draw(t, "probe")})
			},
		})
		s.give(alone{yes: true, mac: ours})
		s.run(2 * localRate)
		if len(s.kernel) != 1 {
			t.Fatalf("kernel has %v", s.kernel)
		}
	})
}
