package registry

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A wall clock that is set back or forward, as a phone's is once it knows the time,
// does not change how long the server has been silent: one that was restarted is
// missed as soon as ever.
func TestClockIsSet(t *testing.T) {
	if os.Getenv("FLEXPHONE_OWN_MACHINE") == "" {
		t.Skip("sets the machine's clock; it runs in a guest (make test-guest-kernel)")
	}
	s := &session{born: time.Now()}
	s.heard.Store(int64(time.Since(s.born)))
	for _, by := range []time.Duration{-2 * time.Hour, 4 * time.Hour, -2 * time.Hour} {
		before := time.Now().Round(0) // of the wall alone
		ts := unix.NsecToTimespec(before.Add(by).UnixNano())
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
			t.Fatalf("set the clock: %v", err)
		}
		if moved := time.Now().Round(0).Sub(before) - by; moved < -time.Hour || moved > time.Hour {
			t.Fatalf("the clock was to be set by %v and is off by %v", by, moved)
		}
		if quiet := s.quiet(); quiet < 0 || quiet > time.Hour {
			t.Errorf("after the clock was set by %v the server is silent for %v", by, quiet)
		}
	}
}
