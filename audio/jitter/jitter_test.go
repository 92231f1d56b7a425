package jitter

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The tests send packets of 20 ms at 8 kHz.
const (
	rate    = 8000
	perTick = rate / 100
	perPack = 2 * perTick
	// usual is what waits at most where packets come evenly.
	usual = 70 * time.Millisecond
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

// narrow is the coding of the tests, but where they change it.
var narrow = &Coding{plain{}, rate}

// wide has the same sound at six times the clock, as Opus beside G.711.
var wide = &Coding{plain{}, 6 * rate}

// A sender numbers packets from anywhere; the sound of the i-th is i in all of
// its samples.
type sender struct {
	buffer    *Buffer
	sequence  uint16
	timestamp uint32
	clock     *clock
}

// A clock is moved by whoever plays.
type clock struct{ now time.Time }

func newClock() *clock { return &clock{time.Unix(0, 0)} }

// play plays a tick.
func (c *clock) play(b *Buffer, pcm []int16) {
	b.Play(pcm, c.now)
	c.now = c.now.Add(tick)
}

func (s sender) put(i int) {
	payload := make([]byte, 0, 2*perPack)
	for range perPack {
		payload = binary.BigEndian.AppendUint16(payload, uint16(i))
	}
	s.buffer.Put(narrow, s.sequence+uint16(i), s.timestamp+uint32(i*perPack), s.clock.now, payload)
}

// A listener writes down what is played, a number for each tick; several where the
// tick is of several packets.
type listener struct {
	t      testing.TB
	buffer *Buffer
	clock  *clock
	heard  []int
}

func (l *listener) play(ticks int) {
	l.t.Helper()
	pcm := make([]int16, perTick)
	for range ticks {
		l.clock.play(l.buffer, pcm)
		l.heard = append(l.heard, int(pcm[0]))
		for i, v := range pcm[1:] {
			if v != pcm[i] {
				l.heard = append(l.heard, int(v))
			}
		}
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
	b, c := New(rate), newClock()
	return sender{buffer: b, sequence: 100, timestamp: 5000, clock: c}, &listener{t: t, buffer: b, clock: c}
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
			if d := l.buffer.Delay(); d > usual || l.buffer.Late() != 0 {
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
	if got := l.sound(); !slices.Equal(got, numbers(1, got[len(got)-1])) || len(got) < 55 || l.buffer.Late() != 0 {
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

// Whatever is lost, the delay stays what it was, and all that came is heard in its
// place.
func TestWhatIsMadeUpIsCounted(t *testing.T) {
	s, l := call(t)
	for i := 1; i <= 200; i++ {
		if i != 50 && i != 100 && i != 101 {
			s.put(i)
		}
		l.play(2)
	}
	if got := l.buffer.Concealed(); got != 60*time.Millisecond {
		t.Errorf("%v", got)
	}
}

func TestLossAddsNoDelay(t *testing.T) {
	for _, burst := range []int{1, 2, 3, 4} {
		s, l := call(t)
		r := rand.New(rand.NewPCG(uint64(burst), 1))
		lost := 0
		var came []int
		for i := 1; i <= 3000; i++ {
			if i > 10 && lost == 0 && r.IntN(100) < 20/burst {
				lost = burst
			}
			if lost > 0 {
				lost--
			} else {
				s.put(i)
				came = append(came, i)
			}
			l.play(2)
			if i%100 == 99 && lost == 0 {
				if d := l.buffer.Delay(); d > usual {
					t.Fatalf("bursts of %d: after %d packets %v wait", burst, i, d)
				}
			}
		}
		heard := slices.DeleteFunc(l.sound(), func(v int) bool { return v == invented || v == 0 })
		if !slices.Equal(heard, came[:len(heard)]) || len(came)-len(heard) > 5 {
			t.Errorf("bursts of %d: %d of %d packets were heard", burst, len(heard), len(came))
		}
		if l.buffer.Late() != 0 {
			t.Errorf("bursts of %d: %d late", burst, l.buffer.Late())
		}
	}
}

// redundant is a codec whose packets, of samples of 16 bits, begin with the first
// sample of the one before.
type redundant struct{ plain }

func (redundant) Decode(pcm []int16, payload []byte) (int, error) {
	return plain{}.Decode(pcm, payload[2:])
}

func (redundant) Recover(pcm []int16, next []byte) error {
	for i := range pcm {
		pcm[i] = int16(binary.BigEndian.Uint16(next))
	}
	return nil
}

// A lost packet is taken from the next one; of several in a row the last is, and
// nothing is where the peer only did not send.
func TestLostPacketIsTakenFromTheNext(t *testing.T) {
	for _, lost := range []int{1, 2, 3} {
		s, l := call(t)
		l.buffer.network.even = settled // as if some had been lost before
		c := &Coding{redundant{}, rate}
		put := func(i int) {
			payload := binary.BigEndian.AppendUint16(nil, uint16(i-1))
			for range perPack {
				payload = binary.BigEndian.AppendUint16(payload, uint16(i))
			}
			s.buffer.Put(c, s.sequence+uint16(i), s.timestamp+uint32(i*perPack), s.clock.now, payload)
		}
		var want []int
		for i := 1; i <= 30; i++ {
			gone := i > 12-lost && i <= 12
			switch {
			case !gone, i == 12:
				want = append(want, i)
			case want[len(want)-1] != invented:
				want = append(want, invented)
			}
			if !gone {
				put(i)
			}
			if i == 20 {
				s.timestamp += 2 * perPack // a pause
				want = append(want, invented)
			}
			l.play(2)
			if i == 20 {
				l.play(4)
			}
		}
		if got := l.sound(); len(got) < 25 || !slices.Equal(got, want[:len(got)]) {
			t.Errorf("%d lost: heard %v", lost, got)
		}
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
	if tail := l.heard[len(l.heard)-40:]; slices.ContainsFunc(tail, func(v int) bool { return v != 0 }) {
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
		l.clock.play(l.buffer, pcm)
		if d := l.buffer.Delay(); d > usual+4*tick {
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
	if d := l.buffer.Delay(); d > usual {
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

// The peer changes the codec: at the same clock no packet is lost; at another
// one the new one is heard soon, the old one is not heard late, and the delay is
// what it was.
func TestCodecThatChangesInMidStream(t *testing.T) {
	for name, c := range map[string]*Coding{"same clock": {plain{}, rate}, "another clock": wide} {
		t.Run(name, func(t *testing.T) {
			s, l := call(t)
			for round := range 20 {
				before, after := narrow, c
				if round%2 == 1 {
					before, after = after, before
				}
				from := round * 50
				put := func(c *Coding, i int) {
					payload := make([]byte, 0, 2*perPack)
					for range perPack {
						payload = binary.BigEndian.AppendUint16(payload, uint16(i))
					}
					s.buffer.Put(c, s.sequence+uint16(i), s.timestamp*uint32(c.Clock/rate)+uint32(i*perPack*c.Clock/rate), s.clock.now, payload)
				}
				for i := from + 1; i <= from+25; i++ {
					put(before, i)
					l.play(2)
				}
				for i := from + 26; i <= from+50; i++ {
					if i == from+27 { // overtaken by the first of the other codec
						l.play(2)
						continue
					}
					put(after, i)
					if i == from+28 {
						put(before, from+27)
					}
					l.play(2)
				}
				if d := l.buffer.Delay(); d > usual {
					t.Fatalf("after %d changes %v wait", round+1, d)
				}
				for i := from + 40; i < from+46; i++ {
					if !slices.Contains(l.heard, i) {
						t.Fatalf("after %d changes %d was not heard", round+1, i)
					}
				}
			}
			sound := slices.DeleteFunc(l.sound(), func(v int) bool { return v == invented || v == 0 })
			if !slices.IsSorted(sound) {
				t.Errorf("out of order: %v", sound)
			}
			if missed := 1000 - len(sound); name == "same clock" && missed > 10 || missed > 20*5 {
				t.Errorf("%d packets of 1000 were not heard", missed)
			}
		})
	}
}

// A peer that says that it is silent takes no time to be heard again, and its
// pauses add up to nothing.
func TestSilenceThatIsSaidIsNoLoss(t *testing.T) {
	for _, pause := range []int{1, 2, 3, 4, 7, 50, 500} { // packets
		s, l := call(t)
		at, sent := 0, 0
		for range 20 {
			for range 30 {
				at, sent = at+1, sent+1
				s.buffer.Put(narrow, s.sequence+uint16(sent), s.timestamp+uint32(at*perPack), s.clock.now, slices.Repeat([]byte{1}, 2*perPack))
				l.play(2)
			}
			for k := range pause {
				at++
				if k%10 == 0 { // again and again
					sent++
					s.buffer.PutSilence(s.sequence+uint16(sent), s.timestamp+uint32(at*perPack), nil)
				}
				l.play(2)
			}
		}
		if slices.Contains(l.heard, invented) {
			t.Errorf("pauses of %d: something was invented", pause)
		}
		if d := l.buffer.Delay(); d > usual || l.buffer.Late() != 0 {
			t.Errorf("pauses of %d: %v wait, %d late", pause, d, l.buffer.Late())
		}
		heard := 0
		for _, v := range l.heard {
			if v == 0x101 {
				heard++
			}
		}
		if want := 20 * 30 * 2; heard < want-10 || heard > want {
			t.Errorf("pauses of %d: %d ticks of %d were heard", pause, heard, want)
		}
	}
}

// What a decoder invents is short behind a voice, and longer behind what was quiet.
// A peer that only sent nothing has lost nothing.
func TestPauseThatIsNotSaid(t *testing.T) {
	for amplitude, want := range map[int16]int{1000: concealed, 10: hush} {
		s, l := call(t)
		put := func(i, at int) {
			var payload []byte
			for k := range perPack {
				v := amplitude
				if k%2 == 0 {
					v = -v
				}
				payload = binary.BigEndian.AppendUint16(payload, uint16(v))
			}
			s.buffer.Put(narrow, s.sequence+uint16(i), s.timestamp+uint32(at*perPack), s.clock.now, payload)
		}
		for i := range 50 {
			put(i, i)
			l.play(2)
		}
		l.heard = nil
		l.play(90)
		// In the first and in the last tick there may be something else.
		if n := len(slices.DeleteFunc(slices.Clone(l.heard), func(v int) bool { return v != invented })); n != want && n != want+1 {
			t.Errorf("behind an amplitude of %d %d ticks were invented, want %d", amplitude, n, want)
		}
		if made := l.buffer.Concealed(); made != time.Duration(want)*tick {
			t.Errorf("behind an amplitude of %d %v were invented", amplitude, made)
		}
		put(50, 95)
		l.play(5)
		if made := l.buffer.Concealed(); made > concealed*tick {
			t.Errorf("behind an amplitude of %d %v count as lost", amplitude, made)
		}
	}
}

// What the peer described is heard for as long as it is silent.
func TestNoiseIsHeardAsDescribed(t *testing.T) {
	s, l := call(t)
	for i := range 20 {
		s.put(i)
		l.play(2)
	}
	level := func(ticks int) float64 {
		pcm, sum := make([]int16, perTick), 0.0
		for range ticks {
			l.clock.play(l.buffer, pcm)
			sum += meanSquare(pcm)
		}
		return 10 * math.Log10(sum/float64(ticks)/32768/32768+1e-12)
	}
	s.buffer.PutSilence(s.sequence+20, s.timestamp+20*perPack, []byte{60})
	level(50)
	for range 5 { // and long after
		if got := level(100); math.Abs(got+60) > 2 {
			t.Errorf("noise of %.1f dBov", got)
		}
	}
	s.buffer.PutSilence(s.sequence+21, s.timestamp+400*perPack, []byte{50})
	level(50)
	if got := level(100); math.Abs(got+50) > 2 {
		t.Errorf("other noise of %.1f dBov", got)
	}
	for i := 500; i < 520; i++ {
		s.buffer.Put(narrow, s.sequence+uint16(i-478), s.timestamp+uint32(i*perPack), s.clock.now, make([]byte, 2*perPack))
		if got := level(2); i > 505 && got > -100 {
			t.Fatalf("%.1f dBov beside the voice", got)
		}
	}
	if made := l.buffer.Concealed(); made > 60*time.Millisecond {
		t.Errorf("%v count as lost", made)
	}
}

// Timestamps that stand still in a silence are those of a new beginning.
func TestClockThatStoodStillInSilence(t *testing.T) {
	s, l := call(t)
	for i := 1; i <= 10; i++ {
		s.put(i)
		l.play(2)
	}
	s.buffer.PutSilence(s.sequence+11, s.timestamp+11*perPack, nil)
	l.play(200)
	s.sequence++
	for i := 11; i <= 40; i++ {
		s.put(i)
		l.play(2)
	}
	if got := l.sound(); !slices.Contains(got, 35) {
		t.Errorf("heard %v", got)
	}
}

// Packets of any duration are played whole, in their order.
func TestPacketsOfAnyDuration(t *testing.T) {
	for ms := 10; ms <= 160; ms += 5 {
		size := ms * rate / 1000
		b, c := New(rate), newClock()
		pcm, sent, missed := make([]int16, perTick), 0, 0
		for played := range 1000 {
			for sent*size <= played*perTick {
				payload := make([]byte, 0, size)
				for range size {
					payload = append(payload, byte(sent%100)+1)
				}
				b.Put(octets, uint16(sent), uint32(sent*size), c.now, payload)
				sent++
			}
			c.play(b, pcm)
			if played > 100 && (pcm[0] == 0 || pcm[0] == invented) {
				missed++
			}
		}
		if missed > 0 || b.Late() > 2 {
			t.Errorf("packets of %d ms: %d ticks of 900 missed, %d late", ms, missed, b.Late())
		}
	}
}

// octets are samples of eight bits, as long in sound as G.711.
var octets = &Coding{eight{}, rate}

type eight struct{ plain }

func (eight) Decode(pcm []int16, payload []byte) (int, error) {
	if len(payload) > len(pcm) {
		return 0, errors.New("too many samples")
	}
	for i, v := range payload {
		pcm[i] = int16(v)
	}
	return len(payload), nil
}

func TestBufferDoesNotAllocate(t *testing.T) {
	b, c := New(rate), newClock()
	pcm, payload, i := make([]int16, perTick), make([]byte, 2*perPack), 0
	if n := testing.AllocsPerRun(1000, func() {
		b.Put(narrow, uint16(i), uint32(i*perPack), c.now, payload)
		c.play(b, pcm)
		c.play(b, pcm)
		i++
	}); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

// FuzzBuffer: whatever the network brings, a tick is played in its time, what
// waits is bounded, and a source that is well again is heard.
func FuzzBuffer(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 160, 255, 255, 0, 2, 0, 1, 64})
	f.Add([]byte{1, 1, 0, 0, 160, 255, 0x61, 0, 2, 0, 1, 64, 0x71, 0, 3, 0, 1, 64, 1, 0, 4, 0, 2, 64})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0x80, 0, 0x7f, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, script []byte) {
		b, c := New(rate), newClock()
		pcm, payload := make([]int16, perTick), make([]byte, 2*maxSize)
		for len(script) >= 6 {
			sequence, timestamp := binary.BigEndian.Uint16(script), binary.BigEndian.Uint32(script[1:])
			switch script[0] >> 4 & 7 {
			case 6:
				b.PutSilence(sequence, timestamp, nil)
			case 7:
				b.Put(wide, sequence, timestamp, c.now, payload[:int(script[5])*8])
			default:
				b.Put(narrow, sequence, timestamp, c.now, payload[:int(script[5])*8])
			}
			for range script[0] % 4 {
				c.play(b, pcm)
			}
			if d := b.Delay(); d < 0 || d > 2*jump {
				t.Fatalf("%v wait", d)
			}
			script = script[6:]
		}
		s := sender{buffer: b, sequence: 7000, timestamp: 1 << 20, clock: c}
		for i := 1; i <= 200; i++ {
			s.put(i)
			c.play(b, pcm)
			c.play(b, pcm)
		}
		if v := int(pcm[0]); v < 180 || v > 200 {
			t.Fatalf("two hundred good packets later %d is heard, with %v waiting", v, b.Delay())
		}
	})
}

// BenchmarkBuffer is a packet of 20 ms: put, and played in two ticks. The
// decoder of the tests costs little.
func BenchmarkBuffer(b *testing.B) {
	buffer, c := New(rate), newClock()
	pcm, payload, i := make([]int16, perTick), make([]byte, 2*perPack), 0
	b.ReportAllocs()
	for b.Loop() {
		buffer.Put(narrow, uint16(i), uint32(i*perPack), c.now, payload)
		c.play(buffer, pcm)
		c.play(buffer, pcm)
		i++
	}
}
