// Package steptest lets time pass for a machine that has no clock, in tests. It knows
// deadlines, and refuses to know what happens at them.
package steptest

import "time"

// A Tester is what a simulation asks of a test: *testing.T and *rapid.T are such.
type Tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Elapse lets d pass on the clock of a simulation. At each deadline there is a
// tick, which must move it on.
func Elapse(t Tester, now *time.Time, d time.Duration, deadline func() time.Time, tick func()) {
	t.Helper()
	end := now.Add(d)
	for spins := 0; ; spins++ {
		next := deadline()
		if next.IsZero() || next.After(end) {
			break
		}
		if next.After(*now) {
			*now, spins = next, 0
		} else if spins > 20 {
			t.Fatalf("the machine spins at %v", now)
		}
		tick()
	}
	*now = end
}
