package audiotest

import (
	"testing"
	"time"
)

// What slips on the way is followed, and understood; at one delay it is not.
func TestFollow(t *testing.T) {
	const rate = 16000
	spoken := append(Speech(t, "goforward.raw", rate), Speech(t, "numbers.raw", rate)...)
	half := len(spoken) / 2
	slipped := make([]int16, rate/20, len(spoken)+rate) // 50 ms
	slipped = append(slipped, spoken[:half]...)
	slipped = append(slipped, make([]int16, rate/25)...) // 40 ms more
	slipped = append(slipped, spoken[half:]...)
	followed, delays := Follow(spoken, slipped, rate)
	if len(delays) < 6 {
		t.Fatalf("%d half seconds were found", len(delays))
	}
	if first, last := delays[0], delays[len(delays)-1]; first != 50*time.Millisecond || last != 90*time.Millisecond {
		t.Errorf("delays go from %v to %v; want 50ms and 90ms", first, last)
	}
	if at, one := Intelligibility(spoken, followed, rate), Intelligibility(spoken, slipped, rate); at < 0.98 || one > 0.9 {
		t.Errorf("%.3f is understood by who follows, %.3f by who does not", at, one)
	}
	if silent, none := Follow(spoken, make([]int16, len(spoken)), rate); len(none) > 0 || Intelligibility(spoken, silent, rate) > 0 {
		t.Errorf("silence: %d half seconds were found", len(none))
	}
}
