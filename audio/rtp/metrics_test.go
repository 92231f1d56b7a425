package rtp

import (
	"math"
	"testing"
	"time"
)

// The example of bursts and gaps: losses that stand alone are in gaps, wherever the
// sequence begins, and packets that come out of order are no loss.
func TestBurstsAndGaps(t *testing.T) {
	for from := 0; from < 1<<16; from += 1 << 12 {
		for _, start := range []uint16{uint16(from), uint16(from) - 50} {
			var r Receiver
			r.Reset(8000)
			add := func(n uint16) {
				p := Packet{Sequence: start + n, Timestamp: uint32(n) * 160, SSRC: 1}
				r.Add(&p, epoch)
				r.Measure(p.Timestamp, epoch)
			}
			for n := range uint16(264) {
				switch {
				case n == 20, n == 100, n == 102, n == 117, n == 134: // 102 to 117 and 117 to 134: 14 and 16 came between
					continue
				case n == 50:
					add(51)
					add(50)
				case n != 51:
					add(n)
				}
				if n == 140 {
					r.Discard(start + 140)
				}
			}
			m, ok := r.Metrics()
			want := Metrics{
				SSRC: 1, Lost: 5.0 / 264, Discarded: 1.0 / 264, // 64 of the 264 may still come
				BurstDensity: 5.0 / 25, GapDensity: 1.0 / 175,
				Burst: 25 * 20 * time.Millisecond / 2, Gap: 175 * 20 * time.Millisecond / 3,
				EndSystem: 20 * time.Millisecond,
			}
			if !ok || m != want {
				t.Fatalf("from %d: %+v, want %+v", start, m, want)
			}
		}
	}
}

// What is written of a call is read at its other end, and what cannot be is unknown.
func TestMetricsThereAndBack(t *testing.T) {
	m := Metrics{
		SSRC: 7, Lost: .25, Discarded: 2, BurstDensity: .5, GapDensity: -1, Burst: 200 * time.Millisecond, Gap: time.Hour,
		RoundTrip: 60 * time.Millisecond, EndSystem: 70 * time.Millisecond, R: 81.4, Listening: 4.26, Conversing: math.NaN(),
		Buffer: 40 * time.Millisecond, BufferMost: 300 * time.Millisecond,
	}
	a, b := NewControl("a"), NewControl("b")
	report, err := a.Report(epoch, Sent{SSRC: 1}, nil, &m, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Receive(report, 8, epoch); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.Metrics(); ok {
		t.Error("what is said of another source was taken")
	}
	if err := b.Receive(report, 7, epoch); err != nil {
		t.Fatal(err)
	}
	got, ok := b.Metrics()
	if !ok || !math.IsNaN(got.Conversing) {
		t.Errorf("%+v", got)
	}
	want := m
	want.Discarded, want.GapDensity, want.Gap, want.R, want.Listening = 255.0/256, 0, 65535*time.Millisecond, 81, 4.3
	got.Conversing, want.Conversing = 0, 0
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
