package opus

import (
	"testing"
	"time"

	"flexphone/audio"
)

func TestPlans(t *testing.T) {
	const long, short = 20 * time.Millisecond, 10 * time.Millisecond
	slow, fast := pace{slow: true}, pace{fast: true}
	for _, tt := range []struct {
		params string
		lost   float64
		packet time.Duration
		room   int
		pace   pace
		want   plan
	}{
		{"", 0, long, highest, pace{}, plan{0, 24000, 5}},
		{"", 0.3, long, highest, pace{}, plan{0, 24000, 5}}, // more bits alone are no use
		{"useinbandfec=1", 0, long, highest, pace{}, plan{0, 24000, 5}},
		{"useinbandfec=1", 0.004, long, highest, pace{}, plan{0, 24000, 5}},
		{"useinbandfec=1", 0.02, long, highest, pace{}, plan{2, 32000, 5}},
		{"useinbandfec=1", 0.051, long, highest, pace{}, plan{6, 40000, 5}},
		{"useinbandfec=1", 0.1, long, highest, pace{}, plan{10, 48000, 5}},
		{"useinbandfec=1", 1, long, highest, pace{}, plan{100, 64000, 5}},
		{"useinbandfec=1;maxaveragebitrate=12000", 0.1, long, highest, pace{}, plan{10, 12000, 5}},
		{"useinbandfec=1;maxaveragebitrate=30000", 0.1, long, highest, pace{}, plan{10, 30000, 5}},
		{"maxaveragebitrate=30000", 0.1, long, highest, pace{}, plan{0, 24000, 5}},
		{"", 0, short, highest, pace{}, plan{0, 40000, 2}}, // bits are plenty
		{"maxaveragebitrate=30000", 0, short, highest, pace{}, plan{0, 30000, 5}},
		{"useinbandfec=1", 0.02, short, highest, pace{}, plan{2, 40000, 5}},
		{"useinbandfec=1;maxaveragebitrate=39000", 0.3, short, highest, pace{}, plan{0, 39000, 5}},
		// A link with little room, and a processor with little time.
		{"useinbandfec=1", 0.1, long, 32000, pace{}, plan{10, 32000, 5}},
		{"useinbandfec=1", 0.1, long, 16000, pace{}, plan{10, 16000, 5}},
		{"useinbandfec=1", 0.1, short, 32000, pace{}, plan{0, 32000, 5}},
		{"", 0, long, 16000, pace{}, plan{0, 16000, 5}},
		{"", 0, long, 16000, fast, plan{0, 16000, 8}},
		{"", 0, long, 16000, slow, plan{0, 16000, 2}},
		{"maxaveragebitrate=8000", 0, long, 16000, fast, plan{0, 8000, 8}},
		{"", 0, long, highest, fast, plan{0, 24000, 5}},
		{"useinbandfec=1", 0.2, long, highest, slow, plan{20, 64000, 2}},
	} {
		if got := wishesOf(tt.params).against(tt.lost, tt.packet, tt.room, tt.pace); got != tt.want {
			t.Errorf("%q, %v lost, packets of %v, room for %d, %+v: %+v, want %+v", tt.params, tt.lost, tt.packet, tt.room, tt.pace, got, tt.want)
		}
	}
}

// A way holds so many bits per second: beyond that its packets queue first, for so long, and
// then are lost.
type way struct {
	holds  int
	queue  time.Duration
	far    time.Duration
	chance float64 // of loss anyway
}

func (w way) report(bitrate int) audio.Reported {
	r := audio.Reported{Lost: w.chance, RoundTrip: w.far}
	if over := float64(bitrate-w.holds) / float64(bitrate); over > 0 {
		r.RoundTrip += w.queue
		r.Lost = min(1, r.Lost+over)
	}
	return r
}

// The bit rate comes to what the link holds, and stays there but for a try now and then; where
// loss is chance, or the round trip has become long since the call has moved, it is not given up.
func TestBitRateFollowsTheLink(t *testing.T) {
	for _, tt := range []struct {
		name   string
		way    way
		least  int // on the average of the last minutes
		most   int
		became time.Duration // of far, in the middle
	}{
		{"all is well", way{holds: 1e9, far: 20 * time.Millisecond}, 24000, 24000, 0},
		{"loss by chance", way{holds: 1e9, far: 20 * time.Millisecond, chance: 0.1}, 48000, 48000, 0},
		{"farther since a move", way{holds: 1e9, far: 20 * time.Millisecond}, 23000, 24000, 300 * time.Millisecond},
		{"a queue", way{holds: 20000, far: 40 * time.Millisecond, queue: 400 * time.Millisecond}, 16000, 18500, 0},
		{"a full link without a queue, and loss", way{holds: 34000, far: 40 * time.Millisecond, chance: 0.06}, 24000, 36000, 0},
		{"no round trip known", way{holds: 34000, chance: 0.06}, 24000, 36000, 0},
	} {
		made, err := Format{}.NewEncoder(16000, 20*time.Millisecond, "useinbandfec=1")
		if err != nil {
			t.Fatal(err)
		}
		e := made.(*encoder)
		sum, n := 0, 0
		for report := range 120 { // ten minutes
			if report == 60 && tt.became > 0 {
				tt.way.far = tt.became
			}
			if err := e.Adapt(tt.way.report(e.plan.bitrate)); err != nil {
				t.Fatal(err)
			}
			if bitrate, err := e.e.Bitrate(); err != nil || bitrate != e.plan.bitrate || bitrate < leastRoom || bitrate > highest {
				t.Fatalf("%s: %d bit/s in the library, %+v planned, %v", tt.name, bitrate, e.plan, err)
			}
			if report >= 80 {
				sum, n = sum+e.plan.bitrate, n+1
			}
		}
		if got := sum / n; got < tt.least || got > tt.most {
			t.Errorf("%s: %d bit/s, want %d to %d", tt.name, got, tt.least, tt.most)
		}
	}
}

// How hard the encoder tries follows from what it takes of the processor's time, whatever
// interrupts it.
func TestComplexityFollowsTheProcessor(t *testing.T) {
	const packet = 20 * time.Millisecond
	for _, tt := range []struct {
		name    string
		usual   time.Duration // that a packet takes at complexity 5; 2 takes half, 8 twice
		sparing bool          // assumed
		link    int           // bits per second that there is room for
		want    int
	}{
		{"quick", 200 * time.Microsecond, false, highest, 5},
		{"quick, taken for slow", 200 * time.Microsecond, true, highest, 5},
		{"quick, and the link is full", 200 * time.Microsecond, true, leastRoom, 8},
		{"between", time.Millisecond, false, highest, 5},
		{"between, and the link is full", time.Millisecond, false, leastRoom, 5},
		{"slow", 3 * time.Millisecond, false, highest, 2},
		{"slow, and the link is full", 3 * time.Millisecond, false, leastRoom, 2},
	} {
		made, err := Format{Sparing: tt.sparing}.NewEncoder(16000, packet, "")
		if err != nil {
			t.Fatal(err)
		}
		e := made.(*encoder)
		if e.link.room = tt.link; tt.sparing != (e.plan.complexity == sparing) {
			t.Errorf("%s: begins with %+v", tt.name, e.plan)
		}
		at, calls := time.Time{}, 0
		e.now = func() time.Time { // twice a packet
			if calls++; calls%2 == 0 {
				took := map[int]time.Duration{sparing: tt.usual / 2, usual: tt.usual, careful: 2 * tt.usual}[e.plan.complexity]
				if calls%6 == 0 {
					took += 30 * time.Millisecond // somebody else's
				}
				at = at.Add(took)
			}
			return at
		}
		pcm, b := make([]int16, 320), make([]byte, 1300)
		changes, last := 0, 0
		for range 20 * paced {
			if _, err := e.Encode(b, pcm); err != nil {
				t.Fatal(err)
			}
			if e.plan.complexity != last {
				last, changes = e.plan.complexity, changes+1
			}
		}
		if got, err := e.e.Complexity(); err != nil || got != tt.want || changes > 4 {
			t.Errorf("%s: complexity %d after %d changes, %v; want %d", tt.name, got, changes, err, tt.want)
		}
	}
}
