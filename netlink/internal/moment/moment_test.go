package moment

import (
	"testing"
	"time"
)

func TestNever(t *testing.T) {
	var never time.Time
	now := time.Unix(1_800_000_000, 0)
	if first := Earliest(never, now.Add(1), now, never); first != now {
		t.Errorf("the earliest is %v", first)
	}
	if first := Earliest(never, never); !first.IsZero() {
		t.Errorf("the earliest of nothing is %v", first)
	}
	for d, want := range map[time.Duration]bool{-1: true, 0: true, 1: false} {
		if Passed(now, now.Add(d)) != want {
			t.Errorf("%v from now has passed: %v", d, !want)
		}
	}
	if Passed(now, never) || !Later(never, time.Hour).IsZero() || Later(now, 1) != now.Add(1) {
		t.Error("never is some time")
	}
}
