// Package moment is arithmetic on moments of which the zero Time is never, as the
// deadlines of a machine are that need not be woken. It asks no clock.
package moment

import "time"

// Earliest returns the first of these moments, the zero Time when none of them is
// to come: a zero Time is never.
func Earliest(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// Passed reports whether it is time for what was planned for t.
func Passed(now, t time.Time) bool { return !t.IsZero() && !now.Before(t) }

// Later returns t and d, and never when t is never.
func Later(t time.Time, d time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(d)
}
