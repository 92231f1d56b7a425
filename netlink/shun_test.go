package netlink

import "testing"

// TestShunned: the routes of an interface that is shunned come after others', whatever
// state its lease is in, and nobody is told of it.
func TestShunned(t *testing.T) {
	metricOf := func(s *simulation) int {
		t.Helper()
		if !s.kernel[s.m.held.Prefix] {
			t.Fatalf("the kernel has %v", s.kernel)
		}
		return s.m.held.Metric
	}
	const back = 100 + doubtMetric
	s := newSimulation(t)
	s.m.metric = 100
	l := s.bind()
	s.events = nil
	if s.give(shunned{true}); metricOf(s) != back {
		t.Errorf("its metric is %d; want %d", metricOf(s), back)
	}
	s.run(l.Renew.Sub(s.now) + 1) // renewed
	if s.want(Renewed); metricOf(s) != back {
		t.Errorf("once renewed its metric is %d; want %d", metricOf(s), back)
	}
	if s.give(shunned{}); metricOf(s) != 100 {
		t.Errorf("its metric is %d; want 100", metricOf(s))
	}
	if len(s.events) > 0 {
		t.Errorf("told %v", s.events)
	}
	s.unplug()
	s.give(shunned{true})
	s.plug()
	if s.run(1e9); metricOf(s) != back {
		t.Errorf("plugged in again its metric is %d; want %d", metricOf(s), back)
	}
	alone := newSimulation(t) // without another interface
	alone.bind()
	if alone.give(shunned{true}); metricOf(alone) != 0 {
		t.Errorf("alone its metric is %d", metricOf(alone))
	}
}
