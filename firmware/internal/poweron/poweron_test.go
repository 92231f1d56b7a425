package poweron

import (
	"testing"
	"time"
)

func TestStartTime(t *testing.T) {
	const stat = "1 (init (x) y) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 57 1000 200 18446744073709551615"
	if got, err := startTime(stat); err != nil || got != 570*time.Millisecond {
		t.Errorf("startTime() = %v, %v; want 570ms", got, err)
	}
	for _, bad := range []string{"", "1 (init) S 0", "1 (a) S 0 1 1 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 x 1"} {
		if _, err := startTime(bad); err == nil {
			t.Errorf("startTime(%q) took it", bad)
		}
	}
}

// On the machine that tests, the order must be that of life.
func TestChainIsInOrder(t *testing.T) {
	c, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	if !c.Reached("lease") || c.Reached("lease") || !c.Reached("registered") {
		t.Error("each step must be reached once")
	}
	var last time.Duration
	var names string
	for _, s := range c.Steps() {
		if at := s.Value.Duration(); at < last {
			t.Errorf("%s at %v, before the step before it at %v", s.Key, at, last)
		} else {
			last = at
		}
		names += " " + s.Key
	}
	if names != " init firmware lease registered" {
		t.Errorf("steps are%s", names)
	}
}

func FuzzStartTime(f *testing.F) {
	f.Add("1 (init) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 57 1000 200")
	f.Add(")")
	f.Fuzz(func(t *testing.T, stat string) {
		if d, err := startTime(stat); err == nil && d < 0 {
			t.Errorf("startTime(%q) = %v", stat, d)
		}
	})
}
