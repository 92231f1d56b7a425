package faults

import (
	"errors"
	"testing"

	"flexphone/testbed/labtest"
)

// TestTryAgain: an attempt on a machine that stood still says nothing, and is
// repeated, but not for ever.
func TestTryAgain(t *testing.T) {
	if !labtest.Inside(t, 1) {
		return
	}
	for _, starved := range []int{0, 2, attempts} {
		tries := 0
		c := Case{play: func(*play) error {
			if tries++; tries <= starved {
				return Broken{ErrStarved}
			}
			return nil
		}}
		err := c.Try(0, nil)
		if want := min(starved+1, attempts); tries != want || errors.Is(err, ErrStarved) != (starved == attempts) {
			t.Errorf("starved %d times: %d attempts, and then %v", starved, tries, err)
		}
	}
}
