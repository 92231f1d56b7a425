package main

import (
	"slices"
	"testing"
	"time"

	"flexphone/audio"
	"flexphone/registry-client/wire"
)

// What is told of a call can be told, whatever it was.
func TestWhatIsToldOfACall(t *testing.T) {
	for _, tt := range []struct {
		stats  audio.Stats
		length time.Duration
		want   wire.Heard
	}{
		{audio.Stats{PacketsReceived: 100}, 2500 * time.Millisecond, wire.Heard{Opinion: 441, Length: 2 * time.Second}},
		{audio.Stats{PacketsReceived: 90, PacketsLost: 8, Late: 2, RoundTrip: 60 * time.Millisecond, Delay: 45 * time.Millisecond, Jitter: 3500 * time.Microsecond}, time.Minute,
			wire.Heard{Opinion: 340, Lost: 102, Delay: 75 * time.Millisecond, Jitter: 3 * time.Millisecond, Length: time.Minute, Way: wire.WayPunched}},
		{audio.Stats{PacketsReceived: 1, PacketsLost: 1 << 40, Late: 1 << 41, RoundTrip: time.Hour, Jitter: time.Hour}, 99 * time.Hour,
			wire.Heard{Opinion: 100, Lost: 1000, Delay: time.Minute, Jitter: time.Minute, Length: 24 * time.Hour}},
	} {
		got := heardOf(tt.stats, tt.length, tt.want.Way.String())
		if diff := int(got.Opinion) - int(tt.want.Opinion); diff < -20 || diff > 20 {
			t.Errorf("%+v: opinion %d, want about %d", tt.stats, got.Opinion, tt.want.Opinion)
		}
		tt.want.Opinion = got.Opinion
		if err := got.Validate(); err != nil || got != tt.want {
			t.Errorf("%+v, %v; want %+v", got, err, tt.want)
		}
	}
}

// Each call is told once, in an announcement that was taken; eight are worth one.
func TestCallsAreToldOnce(t *testing.T) {
	full := 0
	h := &heardCalls{full: func() { full++ }}
	call := func(n int) wire.Heard { return wire.Heard{Opinion: uint16(100 + n)} }
	shows := func(from, to int) {
		t.Helper()
		var want []wire.Heard
		for n := from; n < to; n++ {
			want = append(want, call(n))
		}
		if got := h.show(); !slices.Equal(got, want) {
			t.Fatalf("shows %v, want %v", got, want)
		}
	}
	shows(0, 0)
	h.told()
	h.add(call(0))
	h.add(call(1))
	shows(0, 2)
	shows(0, 2) // the try before has failed
	h.add(call(2))
	h.told()
	shows(2, 3)
	for n := 3; n < 12; n++ { // one of those that are shown is forgotten meanwhile, and one that never was
		h.add(call(n))
	}
	h.told()
	shows(4, 12)
	h.told()
	shows(12, 12)
	if full != 3 { // 8, 9 and 10 of them
		t.Errorf("announced %d times", full)
	}
}
