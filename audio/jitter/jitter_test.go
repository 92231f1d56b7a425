package jitter

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

// The tests send packets of 20 ms at 8 kHz.
const (
	rate    = 8000
	perTick = rate / 100
	perPack = 2 * perTick
	// invented is what plain conceals with.
	invented = -7
)

// plain decodes samples of 16 bits, and conceals by a mark.
type plain struct{}

func (plain) Decode(pcm []int16, payload []byte) (int, error) {
	n := len(payload) / 2
	if n == 0 || n > len(pcm) {
		return 0, errors.New("no samples, or too many")
	}
	for i := range n {
		pcm[i] = int16(binary.BigEndian.Uint16(payload[2*i:]))
	}
	return n, nil
}

func (plain) Conceal(pcm []int16) error {
	for i := range pcm {
		pcm[i] = invented
	}
	return nil
}

// A sender numbers packets from anywhere; the sound of the i-th is i in all of
// its samples.
type sender struct {
	buffer    *Buffer
	sequence  uint16
	timestamp uint32
}

func (s sender) put(i int) {
	payload := make([]byte, 0, 2*perPack)
	for range perPack {
		payload = binary.BigEndian.AppendUint16(payload, uint16(i))
	}
	s.buffer.Put(s.sequence+uint16(i), s.timestamp+uint32(i*perPack), payload)
}

// A listener writes down what is played, a number for each tick.
type listener struct {
	t      testing.TB
	buffer *Buffer
	heard  []int
}

func (l *listener) play(ticks int) {
	l.t.Helper()
	pcm := make([]int16, perTick)
	for range ticks {
		l.buffer.Play(pcm)
		for _, v := range pcm {
			if v != pcm[0] {
				l.t.Fatalf("a tick of %v", pcm)
			}
		}
		l.heard = append(l.heard, int(pcm[0]))
	}
}

// sound leaves out the silence before the first packet, and shortens the two
// ticks of each packet to one number.
func (l *listener) sound() []int {
	heard := l.heard
	for len(heard) > 0 && heard[0] == 0 {
		heard = heard[1:]
	}
	return slices.Compact(slices.Clone(heard))
}

func call(t testing.TB) (sender, *listener) {
	b := New(plain{}, rate, rate)
	return sender{buffer: b, sequence: 100, timestamp: 5000}, &listener{t: t, buffer: b}
}

func numbers(from, to int) []int {
	var out []int
	for i := from; i <= to; i++ {
		out = append(out, i)
	}
	return out
}

func TestPlaysInOrderFromEveryStart(t *testing.T) {
	for _, sequence := range []uint16{0, 1, 63, 64, 32766, 32767, 32768, 65472, 65500, 65534, 65535} {
		for _, timestamp := range []uint32{0, 1, 1<<31 - 500, 1 << 31, 1<<32 - 5*perPack, 1<<32 - 1} {
			s, l := call(t)
			s.sequence, s.timestamp = sequence, timestamp
			for i := 1; i <= 100; i++ {
				s.put(i)
				l.play(2)
			}
			if got := l.sound(); !slices.Equal(got, numbers(1, got[len(got)-1])) || len(got) < 95 {
				t.Errorf("from %d and %d: heard %v", sequence, timestamp, got)
			}
			if d := l.buffer.Delay(); d > target+surplus || l.buffer.Late() != 0 {
				t.Errorf("from %d and %d: %v wait, %d were late", sequence, timestamp, d, l.buffer.Late())
			}
		}
	}
}

func TestDisorderIsNotHeard(t *testing.T) {
	s, l := call(t)
	for i := 1; i <= 60; i += 2 {
		s.put(i + 1)
		l.play(2)
		s.put(i)
		s.put(i) // twice
		l.play(2)
	}
	if got := l.sound(); !slices.Equal(got, numbers(1, got[len(got)-1])) || l.buffer.Late() != 0 {
		t.Errorf("heard %v, %d late", got, l.buffer.Late())
	}
}

func TestLossIsConcealedInItsPlace(t *testing.T) {
	s, l := call(t)
	for i := 1; i <= 20; i++ {
		if i != 10 {
			s.put(i)
		}
		l.play(2)
	}
	want := slices.Concat(numbers(1, 9), []int{invented}, numbers(11, 20))
	if got := l.sound(); len(got) < 15 || !slices.Equal(got, want[:len(got)]) {
		t.Errorf("heard %v", got)
	}
	gap := 0
	for _, v := range l.heard {
		if v == invented {
			gap++
		}
	}
	if gap != 2 {
		t.Errorf("%d ticks were invented; 2 were lost", gap)
	}
	s.put(10)
	if l.buffer.Late() != 1 {
		t.Errorf("%d late, once the lost packet has come after all", l.buffer.Late())
	}
}

// A network that stands still for less than the patience takes no sound away:
// all of it is heard later.
func TestStandstillLosesNothing(t *testing.T) {
	s, l := call(t)
	for i := 1; i <= 10; i++ {
		s.put(i)
		l.play(2)
	}
	l.play(8)
	for i := 11; i <= 14; i++ {
		s.put(i)
	}
	for i := 15; i <= 30; i++ {
		s.put(i)
		l.play(2)
	}
	got := slices.DeleteFunc(l.sound(), func(v int) bool { return v == invented })
	if !slices.Equal(got, numbers(1, got[len(got)-1])) || len(got) < 20 {
		t.Errorf("heard %v", got)
	}
}

func TestPauseBeginsAfresh(t *testing.T) {
	s, l := call(t)
	for i := 1; i <= 10; i++ {
		s.put(i)
		l.play(2)
	}
	l.play(100)
	if tail := l.heard[len(l.heard)-80:]; slices.ContainsFunc(tail, func(v int) bool { return v != 0 }) {
		t.Errorf("a pause sounds like %v", tail)
	}
	for i := 60; i <= 80; i++ { // the timestamps went on
		s.put(i)
		l.play(2)
	}
	got := l.sound()
	if from := slices.Index(got, 60); from < 0 || !slices.Equal(got[from:], numbers(60, got[len(got)-1])) {
		t.Errorf("heard %v", got)
	}
	if l.buffer.Late() != 0 {
		t.Errorf("%d late after a pause", l.buffer.Late())
	}
}

// The clock of the sender is faster by half a percent, far more than any: the
// delay does not grow.
func TestFastSenderDoesNotAddDelay(t *testing.T) {
	s, l := call(t)
	pcm, sent := make([]int16, perTick), 0
	for ticks := 1; ticks <= 60000; ticks++ { // ten minutes
		for sent < ticks*201/400 {
			sent++
			s.put(sent)
		}
		l.buffer.Play(pcm)
		if d := l.buffer.Delay(); d > target+surplus+4*tick {
			t.Fatalf("after %d ticks %v wait", ticks, d)
		}
	}
}

func TestBurstIsCut(t *testing.T) {
	s, l := call(t)
	for i := 1; i <= 40; i++ {
		s.put(i)
	}
	l.play(1)
	if d := l.buffer.Delay(); d > target+surplus {
		t.Errorf("%v wait after a burst of 800 ms", d)
	}
}

func TestAnotherTimeIsANewBeginning(t *testing.T) {
	s, l := call(t)
	for i := 1; i <= 10; i++ {
		s.put(i)
		l.play(2)
	}
	s.timestamp += 90 * rate
	for i := 11; i <= 30; i++ {
		s.put(i)
		l.play(2)
	}
	if got := l.sound(); !slices.Contains(got, 25) {
		t.Errorf("heard %v", got)
	}
}

func TestBufferDoesNotAllocate(t *testing.T) {
	b := New(plain{}, rate, rate)
	pcm, payload, i := make([]int16, perTick), make([]byte, 2*perPack), 0
	if n := testing.AllocsPerRun(1000, func() {
		b.Put(uint16(i), uint32(i*perPack), payload)
		b.Play(pcm)
		b.Play(pcm)
		i++
	}); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

// FuzzBuffer: whatever the network brings, a tick is played in its time, what
// waits is bounded, and a source that is well again is heard.
func FuzzBuffer(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 160, 255, 255, 0, 2, 0, 1, 64})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0x80, 0, 0x7f, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, script []byte) {
		b := New(plain{}, rate, rate)
		pcm, payload := make([]int16, perTick), make([]byte, 2*maxSize)
		for len(script) >= 6 {
			sequence, timestamp := binary.BigEndian.Uint16(script), binary.BigEndian.Uint32(script[1:])
			b.Put(sequence, timestamp, payload[:int(script[5])*8])
			for range script[0] % 4 {
				b.Play(pcm)
			}
			if d := b.Delay(); d < 0 || d > 2*jump {
				t.Fatalf("%v wait", d)
			}
			script = script[6:]
		}
		s, l := sender{buffer: b, sequence: 7000, timestamp: 1 << 20}, &listener{t: t, buffer: b}
		for i := 1; i <= 200; i++ {
			s.put(i)
			l.buffer.Play(pcm)
			l.buffer.Play(pcm)
		}
		if v := int(pcm[0]); v < 180 || v > 200 {
			t.Fatalf("two hundred good packets later %d is heard, with %v waiting", v, b.Delay())
		}
	})
}

// BenchmarkBuffer is a packet of 20 ms: put, and played in two ticks. The
// decoder of the tests costs little.
func BenchmarkBuffer(b *testing.B) {
	buffer := New(plain{}, rate, rate)
	pcm, payload, i := make([]int16, perTick), make([]byte, 2*perPack), 0
	b.ReportAllocs()
	for b.Loop() {
		buffer.Put(uint16(i), uint32(i*perPack), payload)
		buffer.Play(pcm)
		buffer.Play(pcm)
		i++
	}
}
