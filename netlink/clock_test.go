package netlink

import (
	"strings"
	"testing"
	"time"
)

// TestClockJumps: the clock is ahead by a month at once, as when a process was
// stopped for as long, in whatever state. The lease that is over is told as lost
// once, and another one comes, without a storm for the time that was missed.
func TestClockJumps(t *testing.T) {
	silent := func(s *simulation, d time.Duration) {
		s.server = nil
		s.run(d)
	}
	for _, tt := range []struct {
		name  string
		bring func(*simulation)
		state state
		lost  bool
	}{
		{"selecting", func(s *simulation) { s.plug() }, stateSelecting, false},
		{"bound", func(s *simulation) { s.bind() }, stateBound, true},
		{"renewing", func(s *simulation) { s.bind(); silent(s, 40*time.Minute) }, stateRenewing, true},
		{"rebinding", func(s *simulation) { s.bind(); silent(s, 55*time.Minute) }, stateRebinding, true},
		{"rebooting", func(s *simulation) { s.bind(); s.server = nil; s.unplug(); s.plug() }, stateRebooting, true},
		{"without a carrier", func(s *simulation) { s.bind(); s.unplug() }, stateInit, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSimulation(t)
			tt.bring(s)
			if s.m.state != tt.state {
				t.Fatalf("state is %v", s.m.state)
			}
			s.events = nil
			s.kinds()
			s.server = pool(simNext)
			s.now = s.now.Add(30 * 24 * time.Hour)
			s.give(tick{})
			s.plug()
			s.run(time.Minute)
			if tt.lost {
				s.want(Lost, Bound)
			} else {
				s.want(Bound)
			}
			if s.m.state != stateBound || s.m.held.Addr() != simNext || len(s.kernel) != 1 {
				t.Errorf("%v with %v, the kernel has %v", s.m.state, s.m.held.Prefix, s.kernel)
			}
			if got := s.kinds(); len(got) > 6 {
				t.Errorf("sent %v", got)
			}
		})
	}
}

// TestWallClockDoesNotCount: the times that the machine keeps have the reading
// of a clock that nobody sets, so that a wall clock that jumps, as at the first
// answer of a time server, neither ends a lease nor makes it last.
func TestWallClockDoesNotCount(t *testing.T) {
	s := newSimulation(t)
	s.now = time.Now()
	s.bind()
	for name, at := range map[string]time.Time{
		"renew": s.m.held.Renew, "rebind": s.m.held.Rebind, "expiry": s.m.held.Expiry, "deadline": s.m.deadline(),
	} {
		if !strings.Contains(at.String(), " m=") {
			t.Errorf("%s is %v, by the wall clock", name, at)
		}
	}
}
