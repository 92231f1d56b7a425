package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var start = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// A packet comes out after its delay, not before, and as it was.
func TestDelay(t *testing.T) {
	l := NewLine(Config{Delay: 100 * time.Millisecond}, 1)
	if _, waits := l.Due(); waits {
		t.Error("an empty line has something due")
	}
	if !l.Enter(start, []byte("a")) || !l.Enter(start.Add(30*time.Millisecond), []byte("b")) {
		t.Fatal("lost")
	}
	if due, waits := l.Due(); !waits || due != start.Add(100*time.Millisecond) {
		t.Errorf("Due() = %v, %v", due, waits)
	}
	if _, ok := l.Leave(start.Add(100*time.Millisecond - 1)); ok {
		t.Error("came out too early")
	}
	if got, ok := l.Leave(start.Add(100 * time.Millisecond)); !ok || string(got) != "a" {
		t.Errorf("Leave() = %q, %v", got, ok)
	}
	if _, ok := l.Leave(start.Add(130*time.Millisecond - 1)); ok {
		t.Error("the second came out too early")
	}
	if got, ok := l.Leave(start.Add(time.Hour)); !ok || string(got) != "b" {
		t.Errorf("Leave() = %q, %v", got, ok)
	}
}

// A way that becomes shorter lets none overtake, and neither does jitter.
func TestOrder(t *testing.T) {
	const jitter = 50 * time.Millisecond
	l := NewLine(Config{Delay: time.Second}, 1)
	l.Enter(start, []byte{0})
	l.Set(Config{Delay: 10 * time.Millisecond, Jitter: jitter})
	if _, ok := l.Leave(start.Add(time.Second - 1)); ok {
		t.Error("what was on its way came out early")
	}
	now, kinds := start.Add(2*time.Second), map[time.Duration]bool{}
	for i := range 100 {
		l.Enter(now, []byte{byte(i)})
		if i == 0 {
			l.Leave(now) // the one of before
		}
		due := l.flying[len(l.flying)-1].due.Sub(now)
		if kinds[due] = true; due < 10*time.Millisecond || due > 10*time.Millisecond+jitter {
			t.Fatalf("delayed by %v", due)
		}
	}
	if len(kinds) < 3 {
		t.Errorf("jitter makes %d kinds of delay", len(kinds))
	}
	for i := range 100 {
		if got, ok := l.Leave(now.Add(time.Second)); !ok || got[0] != byte(i) {
			t.Fatalf("packet %d: Leave() = %v, %v", i, got, ok)
		}
	}
}

// What is too much at once is lost, and nothing else.
func TestMost(t *testing.T) {
	l := NewLine(Config{Delay: time.Second, Most: 100}, 1)
	for i, want := range []bool{true, true, false} {
		if got := l.Enter(start, make([]byte, 50)); got != want {
			t.Errorf("packet %d: Enter() = %v", i, got)
		}
	}
	l.Leave(start.Add(time.Second))
	if !l.Enter(start.Add(time.Second), make([]byte, 50)) {
		t.Error("lost though there is room again")
	}
}

// As many are lost as is asked for, and with the same seed the same.
func TestLoss(t *testing.T) {
	lost := func(seed uint64) (which []int) {
		l := NewLine(Config{Loss: 0.2}, seed)
		for i := range 10000 {
			if !l.Enter(start, []byte{1}) {
				which = append(which, i)
			}
		}
		return which
	}
	one := lost(1)
	if n := len(one); n < 1800 || n > 2200 {
		t.Errorf("%d of 10000 lost; want 2000", n)
	}
	if !slices.Equal(one, lost(1)) || slices.Equal(one, lost(2)) {
		t.Error("the seed does not decide which are lost")
	}
}

// through returns what comes out of a way, and when, of n packets to one address that
// enter 20 ms after each other: their numbers.
func through(c Config, n int) (which []int, when []time.Duration) {
	l := NewLine(c, 1)
	for i := range n {
		data := make([]byte, 22)
		binary.BigEndian.PutUint16(data[20:], uint16(i))
		now := start.Add(time.Duration(i) * 20 * time.Millisecond)
		l.Enter(now, data)
	}
	for {
		due, ok := l.Due()
		if !ok {
			return which, when
		}
		data, _ := l.Leave(due)
		which, when = append(which, int(binary.BigEndian.Uint16(data[20:]))), append(when, due.Sub(start))
	}
}

// Losses come in runs, and are as many.
func TestRunsOfLosses(t *testing.T) {
	const n = 10000
	which, _ := through(Config{Loss: 0.1, Run: 2}, n)
	if lost := n - len(which); lost < 850 || lost > 1150 {
		t.Errorf("%d of %d lost; want 1000", lost, n)
	}
	for i, k := range which[1:] {
		if gap := k - which[i] - 1; gap%2 != 0 {
			t.Fatalf("%d lost in a row", gap)
		}
	}
}

// Nothing comes out while the way stalls, and all of it afterwards.
func TestStall(t *testing.T) {
	const every, stall = 3 * time.Second, 200 * time.Millisecond
	which, when := through(Config{Delay: 10 * time.Millisecond, Stall: stall, Every: every}, 1000)
	if len(which) != 1000 || !slices.IsSorted(which) {
		t.Errorf("%d of 1000 came, sorted %v", len(which), slices.IsSorted(which))
	}
	at := 0
	for i, d := range when {
		if d%every >= every-stall {
			t.Fatalf("packet %d came after %v", which[i], d)
		}
		if d%every == 0 {
			at++
		}
	}
	if at < 6*8 {
		t.Errorf("%d packets came at the ends of 6 stalls", at)
	}
}

// Some come twice, and some are overtaken.
func TestRepeatedAndOvertaken(t *testing.T) {
	if which, _ := through(Config{Repeated: 0.1}, 1000); len(which) < 1060 || len(which) > 1140 {
		t.Errorf("%d came of 1000, a tenth of which come twice", len(which))
	}
	which, _ := through(Config{Overtaken: 0.1}, 1000)
	behind := 0
	for i, k := range which[1:] {
		if k < which[i] {
			behind++
		}
	}
	if len(which) != 1000 || behind < 60 || behind > 140 {
		t.Errorf("%d came, %d of them behind a later one; want 1000 and 100", len(which), behind)
	}
}

func TestDrift(t *testing.T) {
	for _, ppm := range []float64{300, -300} {
		_, when := through(Config{Delay: time.Second, Drift: ppm}, 10001)
		grew := when[10000] - when[0] - 10000*20*time.Millisecond
		if want := time.Duration(200 * ppm * float64(time.Microsecond)); grew < want-time.Microsecond || grew > want+time.Microsecond {
			t.Errorf("%v ppm: %v later after 200 s; want %v", ppm, grew, want)
		}
	}
}

// A loop is a device: what is sent is read, and what is written is received.
type loop struct {
	sent     chan []byte
	received chan []byte
	closed   chan struct{}
}

var errCut = errors.New("cut")

func newLoop() *loop {
	return &loop{sent: make(chan []byte), received: make(chan []byte, 10), closed: make(chan struct{})}
}

func (d *loop) Read(b []byte) (int, error) {
	select {
	case p, ok := <-d.sent:
		if !ok {
			return 0, errCut
		}
		return copy(b, p), nil
	case <-d.closed:
		return 0, io.EOF
	}
}

func (d *loop) Write(b []byte) (int, error) {
	d.received <- b
	return len(b), nil
}

func (d *loop) Close() error {
	close(d.closed)
	return nil
}

// Packets come out in time, each seen before, and the way can be changed meanwhile.
func TestWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newLoop()
		w := Start(d, Config{Delay: 100 * time.Millisecond})
		var seen []time.Duration
		begun := time.Now()
		w.Watch(func(at time.Time, _ []byte) { seen = append(seen, at.Sub(begun)) })
		d.sent <- []byte("a")
		time.Sleep(20 * time.Millisecond)
		d.sent <- []byte("b")
		for i, want := range []time.Duration{100 * time.Millisecond, 120 * time.Millisecond} {
			if got := <-d.received; string(got) != string(rune('a'+i)) || time.Since(begun) != want {
				t.Errorf("%q came after %v; want it after %v", got, time.Since(begun), want)
			}
		}
		w.Set(Config{})
		w.Watch(nil)
		d.sent <- []byte("c")
		if <-d.received; time.Since(begun) != 120*time.Millisecond {
			t.Errorf("a short way took until %v", time.Since(begun))
		}
		if !slices.Equal(seen, []time.Duration{100 * time.Millisecond, 120 * time.Millisecond}) {
			t.Errorf("seen at %v", seen)
		}
		w.Set(Config{Delay: time.Hour})
		d.sent <- []byte("d") // is on its way for ever
		if err := w.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
}

// A device that fails ends the wire, and Close says why.
func TestDeviceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newLoop()
		w := Start(d, Config{})
		close(d.sent)
		synctest.Wait()
		if err := w.Close(); !errors.Is(err, errCut) {
			t.Errorf("Close() = %v; want %v", err, errCut)
		}
	})
}

// speak makes a packet of IPv4, UDP and RTP.
func speak(from, to netip.AddrPort, options int, payload ...byte) []byte {
	b := make([]byte, 20+options+8, 20+options+8+len(payload))
	b[0], b[9] = byte(0x45+options/4), 17
	copy(b[12:], from.Addr().AsSlice())
	copy(b[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[20+options:], from.Port())
	binary.BigEndian.PutUint16(b[22+options:], to.Port())
	return append(b, payload...)
}

func rtp(second byte) []byte { return append([]byte{0x80, second}, make([]byte, 10)...) }

func TestVoice(t *testing.T) {
	a, b := netip.MustParseAddrPort("192.0.2.7:4000"), netip.MustParseAddrPort("198.51.100.9:5006")
	whole := speak(a, b, 0, rtp(96)...)
	change := func(at int, to byte) []byte {
		p := slices.Clone(whole)
		p[at] = to
		return p
	}
	for _, tt := range []struct {
		name   string
		packet []byte
		want   bool
	}{
		{"RTP", whole, true},
		{"RTP with a marker", speak(a, b, 0, rtp(0x80|96)...), true},
		{"G.711", speak(a, b, 0, rtp(0)...), true},
		{"with options of IP", speak(a, b, 8, rtp(96)...), true},
		{"RTCP", speak(a, b, 0, rtp(200)...), false},
		{"too short", whole[:len(whole)-1], false},
		{"nothing", nil, false},
		{"DTLS", speak(a, b, 0, append([]byte{22, 254, 253}, make([]byte, 20)...)...), false},
		{"STUN", speak(a, b, 0, make([]byte, 20)...), false},
		{"SIP", speak(a, b, 0, []byte("INVITE sip:a@b SIP/2.0")...), false},
		{"TCP", change(9, 6), false},
		{"IPv6", change(0, 0x65), false},
		{"a header that is too short", change(0, 0x44), false},
		{"a later fragment", change(7, 1), false},
		{"that may not be cut", change(6, 0x40), true},
	} {
		from, to, ok := Voice(tt.packet)
		if ok != tt.want || ok && (from != a || to != b) {
			t.Errorf("%s: Voice() = %v, %v, %v; want %v", tt.name, from, to, ok, tt.want)
		}
	}
}

// What is said to be sound is a whole UDP datagram, and is read as it was made.
func FuzzVoice(f *testing.F) {
	a, b := netip.MustParseAddrPort("192.0.2.7:4000"), netip.MustParseAddrPort("198.51.100.9:5006")
	f.Add(speak(a, b, 0, rtp(96)...))
	f.Add(speak(a, b, 4, rtp(201)...))
	f.Fuzz(func(t *testing.T, packet []byte) {
		from, to, ok := Voice(packet)
		if !ok {
			return
		}
		options := int(packet[0]&0xf)*4 - 20
		again := speak(from, to, options, packet[20+options+8:]...)
		if got, back, ok := Voice(again); !ok || got != from || back != to {
			t.Errorf("%x: read as %v to %v, and made again as %v to %v, %v", packet, from, to, got, back, ok)
		}
	})
}

func BenchmarkLine(b *testing.B) {
	l := NewLine(Config{Delay: 100 * time.Millisecond}, 1)
	data, now := make([]byte, 200), start
	for b.Loop() {
		now = now.Add(10 * time.Millisecond)
		l.Enter(now, data)
		l.Leave(now)
	}
}
