package pace

import (
	"testing"
	"time"
)

// What is lost is what comes later than any busy machine's wake-up, all of it.
func TestScore(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	for _, tt := range []struct {
		name string
		late []int // each wake-up, in ms
		lost int
	}{
		{"on time", []int{0, 0, 0, 0}, 0},
		{"a busy machine", []int{3, 10, 0, 9}, 0},
		{"one stop", []int{0, 11, 0}, 11},
		{"a stop of a second", []int{0, 1000, 2}, 1000},
		{"always late", []int{40, 40, 40, 40}, 160},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := score{due: Period}
			for _, late := range tt.late {
				s.woke(s.due + ms(late))
			}
			if s.lost != ms(tt.lost) {
				t.Errorf("lost %v; want %v", s.lost, ms(tt.lost))
			}
		})
	}
}

// A late wake-up does not make those after it late, and a wake-up that is a little
// late does not move the beat.
func TestBeat(t *testing.T) {
	s := score{due: Period}
	s.woke(Period + onTime)
	if s.due != 2*Period {
		t.Errorf("after a wake-up that is on time the next is due at %v; want %v", s.due, 2*Period)
	}
	s.woke(10 * Period)
	if s.due != 11*Period {
		t.Errorf("after a late wake-up the next is due at %v; want %v", s.due, 11*Period)
	}
}

func TestShare(t *testing.T) {
	for _, tt := range []struct {
		report Report
		want   float64
	}{
		{Report{}, 1},
		{Report{Took: time.Second}, 1},
		{Report{Took: time.Second, Lost: 250 * time.Millisecond}, 0.75},
		{Report{Took: time.Second, Lost: 2 * time.Second}, 0},
	} {
		if got := tt.report.Share(); got != tt.want {
			t.Errorf("%+v: share %v; want %v", tt.report, got, tt.want)
		}
	}
}

// The metronome runs: whatever the machine does meanwhile, it tells how long it
// ran, and never that more was lost than there was.
func TestMeter(t *testing.T) {
	m := Start()
	from := time.Now()
	for time.Since(from) < 3*Period { // busy, as phones are
	}
	took := time.Since(from)
	r := m.Stop()
	if r.Took < took || r.Share() < 0 || r.Share() > 1 {
		t.Errorf("after %v: %+v, share %v", took, r, r.Share())
	}
}
