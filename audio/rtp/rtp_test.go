package rtp

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestSequenceNumbersFromEveryStart(t *testing.T) {
	for start := 0; start < 1<<16; start += 1 << 12 {
		for _, from := range []uint16{uint16(start), uint16(start) - 50} {
			var r Receiver
			r.Reset(8000)
			rnd := rand.New(rand.NewPCG(uint64(from), 1))
			lost := uint64(0)
			const packets = 200_000 // three wraps
			for i := range uint32(packets) {
				p := Packet{Sequence: from + uint16(i), Timestamp: i * 160, SSRC: 1}
				if i > 0 && i < packets-1 && rnd.IntN(50) == 0 {
					lost++
					continue
				}
				want := Keep
				if i == 0 {
					want = Restart
				}
				if v := r.Add(&p, epoch); v != want {
					t.Fatalf("from %d: packet %d: verdict %d", from, i, v)
				}
			}
			if r.Lost() != lost {
				t.Errorf("from %d: %d lost, counted %d", from, lost, r.Lost())
			}
			b, ok := r.Report()
			if want := uint32(from) + packets - 1; !ok || b.Highest != want || b.TotalLost != uint32(lost) {
				t.Errorf("from %d: %+v, highest wanted %d", from, b, want)
			}
		}
	}
}

func TestDisorderAndDuplicatesAreNoLoss(t *testing.T) {
	var r Receiver
	for _, n := range []uint16{65533, 65535, 65534, 0, 0, 2, 1, 65534} {
		if v := r.Add(&Packet{Sequence: n}, epoch); v == Drop {
			t.Errorf("%d was dropped", n)
		}
	}
	if r.Lost() != 0 {
		t.Errorf("%d lost", r.Lost())
	}
}

func TestAnotherSourceIsHeardOnceItIsSure(t *testing.T) {
	var r Receiver
	add := func(ssrc uint32, seq uint16, want Verdict) {
		t.Helper()
		if got := r.Add(&Packet{SSRC: ssrc, Sequence: seq}, epoch); got != want {
			t.Errorf("source %d, packet %d: verdict %d, want %d", ssrc, seq, got, want)
		}
	}
	add(1, 10, Restart)
	add(1, 12, Keep) // 11 is lost
	add(2, 500, Drop)
	add(1, 13, Keep)
	add(2, 501, Drop) // the first source spoke in between
	add(2, 502, Restart)
	add(2, 503, Keep)
	add(1, 14, Drop) // a straggler
	add(2, 504, Keep)
	add(2, 20504, Drop) // the same source elsewhere
	add(2, 20505, Restart)
	if got, _ := r.Report(); got.SSRC != 2 || r.Lost() != 1 {
		t.Errorf("source %d, %d lost", got.SSRC, r.Lost())
	}
}

func TestFractionLostIsOfTheInterval(t *testing.T) {
	var r Receiver
	seq := uint16(65000)
	hear := func(n int, lose func(i int) bool) uint8 {
		for i := range n {
			if !lose(i) {
				r.Add(&Packet{Sequence: seq}, epoch)
			}
			seq++
		}
		b, _ := r.Report()
		return b.FractionLost
	}
	if f := hear(200, func(int) bool { return false }); f != 0 {
		t.Errorf("none lost: %d", f)
	}
	if f := hear(400, func(i int) bool { return i%4 == 1 }); f != 64 {
		t.Errorf("a quarter lost: %d of 256", f)
	}
	if f := hear(400, func(int) bool { return false }); f != 0 {
		t.Errorf("none lost any more: %d", f)
	}
}

func TestJitterOfAlternatingPackets(t *testing.T) {
	var r Receiver
	r.Reset(8000)
	for i := range 2000 {
		at := epoch.Add(time.Duration(i) * 20 * time.Millisecond)
		if i%2 == 1 {
			at = at.Add(5 * time.Millisecond)
		}
		p := Packet{Sequence: uint16(i), Timestamp: uint32(i) * 160}
		r.Add(&p, at)
		r.Measure(p.Timestamp, at)
	}
	// Each differs from the one before by 5 ms: that is the mean.
	if j := r.Jitter(); j < 4500*time.Microsecond || j > 5*time.Millisecond {
		t.Errorf("jitter %v", j)
	}
}

func TestRoundTripFromReports(t *testing.T) {
	a, b := NewControl("a"), NewControl("b")
	sent := func(ssrc uint32) Sent { return Sent{SSRC: ssrc, Packets: 1, At: epoch, Clock: 8000, Lately: true} }
	first, err := a.Report(epoch, sent(1), nil, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Receive(first, 2, epoch.Add(40*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	answer, err := b.Report(epoch.Add(3*time.Second), sent(2), &Reception{SSRC: 1}, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Receive(answer, 1, epoch.Add(3*time.Second+60*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if d := a.RoundTrip() - 100*time.Millisecond; d.Abs() > time.Millisecond {
		t.Errorf("round trip %v", a.RoundTrip())
	}
	if b.RoundTrip() != 0 {
		t.Errorf("round trip of b %v, to whom nobody has answered", b.RoundTrip())
	}
}

func TestWhatIsReportedLost(t *testing.T) {
	a, b := NewControl("a"), NewControl("b")
	for i, heard := range []*Reception{nil, {SSRC: 9, FractionLost: 70}, {SSRC: 1, FractionLost: 26}, {SSRC: 1}} {
		report, err := b.Report(epoch, Sent{SSRC: 2}, heard, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Receive(report, 1, epoch); err != nil {
			t.Fatal(err)
		}
		want := [][2]uint32{{0, 0}, {0, 0}, {26, 1}, {0, 2}}[i]
		if lost, reports := a.Lost(); uint32(lost) != want[0] || reports != want[1] {
			t.Errorf("report %d: %d of 256 by %d reports, want %v", i, lost, reports, want)
		}
	}
}

func TestEventsArePressesOnce(t *testing.T) {
	var v Events
	b := make([]byte, EventSize)
	var got string
	send := func(ts uint32, e Event) {
		e.Put(b)
		key, pressed, err := v.Add(ts, b)
		if err != nil {
			t.Fatal(err)
		}
		if pressed {
			got += string(key)
		}
	}
	for _, ts := range []uint32{0xfffff000, 100, 1000} { // through the wrap
		for d := range uint16(5) {
			send(ts, Event{Code: 5, Duration: d * 160})
		}
		for range 3 {
			send(ts, Event{Code: 5, End: true, Duration: 800})
		}
	}
	send(100, Event{Code: 5, End: true}) // late
	send(2000, Event{Code: 11, End: true})
	send(3000, Event{Code: 66}) // no key
	if got != "555#" {
		t.Errorf("pressed %q", got)
	}
}

func TestParserDoesNotAllocate(t *testing.T) {
	b := make([]byte, HeaderSize+160)
	if err := (&Packet{Sequence: 1, SSRC: 2}).PutHeader(b); err != nil {
		t.Fatal(err)
	}
	var parser Parser
	var p Packet
	if a := testing.AllocsPerRun(100, func() {
		if err := parser.Parse(&p, b); err != nil {
			t.Fatal(err)
		}
		if err := p.PutHeader(b); err != nil {
			t.Fatal(err)
		}
	}); a != 0 {
		t.Errorf("%v allocations", a)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{0x80, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 9, 9})
	f.Add([]byte{0xb1, 0xe5, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0xbe, 0xde, 0, 1, 0x10, 1, 0, 0, 7, 1})
	f.Add([]byte{0x40, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var parser Parser
		var p, again Packet
		if parser.Parse(&p, b) != nil {
			return
		}
		out := make([]byte, HeaderSize+len(p.Payload))
		copy(out[HeaderSize:], p.Payload)
		if err := p.PutHeader(out); err != nil {
			t.Fatal(err)
		}
		if err := parser.Parse(&again, out); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Payload, p.Payload) {
			t.Fatal("payload changed")
		}
		p.Payload, again.Payload = nil, nil
		if p.Sequence != again.Sequence || p.Timestamp != again.Timestamp || p.SSRC != again.SSRC ||
			p.Marker != again.Marker || p.PayloadType != again.PayloadType {
			t.Fatalf("%+v became %+v", p, again)
		}
	})
}

func FuzzEvent(f *testing.F) {
	f.Add(uint32(1), []byte{5, 0x8a, 3, 0x20})
	f.Add(uint32(0xffffffff), []byte{255, 255, 255, 255, 1})
	f.Add(uint32(0), []byte{1})
	f.Fuzz(func(t *testing.T, ts uint32, b []byte) {
		var v Events
		key, pressed, err := v.Add(ts, b)
		if err != nil {
			return
		}
		e, _ := ParseEvent(b)
		out := make([]byte, EventSize)
		e.Put(out)
		if back, err := ParseEvent(out); err != nil || back != e {
			t.Fatalf("%+v became %+v, %v", e, back, err)
		}
		if pressed {
			if code, ok := EventOf(key); !ok || code != e.Code {
				t.Fatalf("key %q of code %d", key, e.Code)
			}
		}
	})
}

func FuzzReport(f *testing.F) {
	c := NewControl("somebody")
	for _, last := range []bool{false, true} {
		b, err := c.Report(epoch, Sent{SSRC: 1, Packets: 5, At: epoch, Clock: 48000, Lately: !last}, &Reception{SSRC: 9}, nil, last)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	told, err := c.Report(epoch, Sent{SSRC: 2}, nil, &Metrics{SSRC: 1, R: 80, Listening: 4, Conversing: 4}, false)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(told)
	f.Add(append(told, 0x80, 207, 0, 6, 0, 0, 0, 2, 1, 0, 0, 2, 0, 0, 0, 1, 0, 1, 0, 2, 7, 0, 0, 0)) // a run of losses, and a block that is cut
	f.Fuzz(func(t *testing.T, b []byte) {
		c := NewControl("me")
		if c.Receive(b, 1, epoch) != nil {
			return
		}
		if c.RoundTrip() < 0 || c.RoundTrip() > time.Minute {
			t.Fatalf("round trip %v", c.RoundTrip())
		}
		var back *Metrics
		if m, ok := c.Metrics(); ok {
			if !(math.IsNaN(m.R) || m.R >= 0 && m.R <= 100) || !(math.IsNaN(m.Conversing) || m.Conversing >= 1 && m.Conversing <= 5) || m.Lost > 1 {
				t.Fatalf("%+v", m)
			}
			back = &m
		}
		again, err := c.Report(epoch.Add(time.Second), Sent{SSRC: 1}, &Reception{SSRC: 7}, back, true)
		if err != nil {
			t.Fatal(err)
		}
		if back == nil {
			return
		}
		other := NewControl("you")
		if err := other.Receive(again, 1, epoch); err != nil {
			t.Fatal(err)
		}
		if m, ok := other.Metrics(); !ok || *m.block() != *back.block() {
			t.Fatalf("%+v became %+v", *back, m)
		}
	})
}

// BenchmarkPacket is the header and the books of a packet of sound that came.
func BenchmarkPacket(b *testing.B) {
	packet := make([]byte, HeaderSize+160)
	var parser Parser
	var p Packet
	var r Receiver
	r.Reset(8000)
	now, sequence := time.Unix(0, 0), uint16(0)
	b.ReportAllocs()
	for b.Loop() {
		if err := (&Packet{Sequence: sequence, Timestamp: uint32(sequence) * 160, SSRC: 2}).PutHeader(packet); err != nil {
			b.Fatal(err)
		}
		if err := parser.Parse(&p, packet); err != nil {
			b.Fatal(err)
		}
		r.Add(&p, now)
		r.Measure(p.Timestamp, now)
		now, sequence = now.Add(20*time.Millisecond), sequence+1
	}
}
