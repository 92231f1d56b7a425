package g711

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// muFormula and aFormula are decoder output values as G.711's tables 2a and 1a
// give them: y_n = the middle between decision values, from the virtual
// decision values of each segment.
func muFormula(code uint8) int {
	c := int(^code & 0x7f)
	segment, step := c/16, c%16
	// Segment s begins at 2^(s+5)-33 and has 16 steps of 2^(s+1), each decoded
	// to its middle; the first step lies around 0.
	v := 1<<(segment+5) - 33 + step<<(segment+1) + 1<<segment
	if code&0x80 == 0 {
		v = -v
	}
	return v * 4
}

func aFormula(code uint8) int {
	c := int(code ^ 0x55)
	segment, step := c>>4&7, c&15
	begin, width := 0, 2
	if segment > 0 {
		begin, width = 16<<segment, 1<<segment
	}
	v := begin + step*width + width/2
	if c&0x80 == 0 {
		v = -v
	}
	return v * 8
}

func TestDecodeIsTheStandardsForAllCodes(t *testing.T) {
	mu, a := Mu(), A()
	for code := range 256 {
		c := uint8(code)
		if got, want := int(mu.Decode(c)), muFormula(c); got != want {
			t.Errorf("µ-law %#02x: %d, want %d", c, got, want)
		}
		if got, want := int(a.Decode(c)), aFormula(c); got != want {
			t.Errorf("A-law %#02x: %d, want %d", c, got, want)
		}
	}
	// A few values by hand, from the standard's tables.
	for _, v := range []struct {
		law  *Law
		code uint8
		want int16
	}{
		{mu, 0xff, 0}, {mu, 0x7f, 0}, {mu, 0x80, 32124}, {mu, 0x00, -32124}, {mu, 0xfe, 8},
		{a, 0xd5, 8}, {a, 0x55, -8}, {a, 0xaa, 32256}, {a, 0x2a, -32256},
	} {
		if got := v.law.Decode(v.code); got != v.want {
			t.Errorf("code %#02x: %d, want %d", v.code, got, v.want)
		}
	}
}

func TestEncodeChoosesTheIntervalOfEachSample(t *testing.T) {
	for _, l := range []struct {
		name  string
		law   *Law
		same  func(a, b uint8) bool
		width func(code uint8) int // of a code's interval
	}{
		// 0x7f and 0xff are both the value 0 in µ-law.
		{"µ-law", Mu(), func(a, b uint8) bool { return a == b || a|b == 0xff && a&0x7f == 0x7f && b&0x7f == 0x7f },
			func(c uint8) int { return 8 << (^c >> 4 & 7) }},
		{"A-law", A(), func(a, b uint8) bool { return a == b },
			func(c uint8) int { return 16 << max(int((c^0x55)>>4&7)-1, 0) }},
	} {
		t.Run(l.name, func(t *testing.T) {
			for code := range 256 {
				c := uint8(code)
				if got := l.law.Encode(l.law.Decode(c)); !l.same(got, c) {
					t.Errorf("code %#02x decodes to %d, which encodes to %#02x", c, l.law.Decode(c), got)
				}
			}
			last := int16(-32768)
			for s := -32768; s < 32768; s++ {
				v := l.law.Decode(l.law.Encode(int16(s)))
				if v < last {
					t.Fatalf("sample %d: %d after %d: not monotonic", s, v, last)
				}
				last = v
				// The sample lies in the code's interval, up to the bits which
				// the law does not see; beyond the last one it clips.
				if d := abs(s - int(v)); d > l.width(l.law.Encode(int16(s)))/2+1<<l.law.shift && abs(s) < 32636 {
					t.Fatalf("sample %d: encoded as %d away", s, d)
				}
			}
		})
	}
}

func abs(v int) int { return max(v, -v) }

func TestCodersKeepLengthAtEachRate(t *testing.T) {
	for _, rate := range []int{8000, 16000, 48000} {
		for _, f := range []Format{PCMU(), PCMA()} {
			e, err := f.NewEncoder(rate, 20*time.Millisecond, "")
			if err != nil {
				t.Fatal(err)
			}
			d, err := f.NewDecoder(rate)
			if err != nil {
				t.Fatal(err)
			}
			pcm := make([]int16, rate/50)
			for i := range pcm {
				pcm[i] = int16(rand.IntN(20000) - 10000)
			}
			b, out := make([]byte, 200), make([]int16, rate/10)
			allocs := testing.AllocsPerRun(50, func() {
				n, err := e.Encode(b, pcm)
				if err != nil || n != 160 {
					t.Fatalf("encode: %d, %v", n, err)
				}
				m, err := d.Decode(out, b[:n])
				if err != nil || m != len(pcm) {
					t.Fatalf("decode: %d, %v", m, err)
				}
				for range 4 { // more than is ever made up
					if err := d.Conceal(out[:m]); err != nil {
						t.Fatal(err)
					}
				}
			})
			if allocs != 0 {
				t.Errorf("%d Hz: %v allocations a packet", rate, allocs)
			}
			if out[len(pcm)-1] != 0 {
				t.Errorf("%d Hz: a gap ends with %d", rate, out[len(pcm)-1])
			}
			if _, err := d.Decode(out[:100], b[:160]); err == nil {
				t.Error("a payload longer than its place was taken")
			}
		}
	}
	if _, err := PCMU().NewDecoder(44100); err == nil {
		t.Error("44.1 kHz was taken")
	}
}

// FuzzDecode: any payload is as many samples as it has bytes, or refused; what is made
// up after it is no louder than it was, and silence in the end.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{0, 0x80, 0xff, 0x7f, 0x2a, 0xd5}, uint8(0))
	f.Add([]byte("not a voice at all, and longer than any period of one"), uint8(5))
	f.Fuzz(func(t *testing.T, b []byte, which uint8) {
		device := []int{8000, 16000, 48000}[which%3]
		format := []Format{PCMA(), PCMU()}[which/3%2]
		d, err := format.NewDecoder(device)
		if err != nil {
			t.Fatal(err)
		}
		const guard = 77
		room := make([]int16, device/10+8)
		for i := range room {
			room[i] = guard
		}
		pcm := room[:device/10]
		n, err := d.Decode(pcm, b)
		if want := len(b) * device / 8000; err == nil && n != want || err != nil && want <= len(pcm) {
			t.Fatalf("%d samples of %d bytes, %v", n, len(b), err)
		}
		for range 20 { // 200 ms
			if err := d.Conceal(pcm[:device/100]); err != nil {
				t.Fatal(err)
			}
		}
		if slices.Max(pcm[:device/100]) > 64 || slices.Min(pcm[:device/100]) < -64 {
			t.Fatal("it goes on after 200 ms of nothing")
		}
		for _, s := range room[len(pcm):] {
			if s != guard {
				t.Fatal("written past the end")
			}
		}
	})
}

// BenchmarkPacket is 20 ms there and back, on a device of 16 kHz.
func BenchmarkPacket(b *testing.B) {
	for _, f := range []Format{PCMU(), PCMA()} {
		b.Run(f.Codec().Name, func(b *testing.B) {
			e, err := f.NewEncoder(16000, 20*time.Millisecond, "")
			if err != nil {
				b.Fatal(err)
			}
			d, err := f.NewDecoder(16000)
			if err != nil {
				b.Fatal(err)
			}
			pcm, packet := make([]int16, 320), make([]byte, 160)
			b.ReportAllocs()
			for b.Loop() {
				n, err := e.Encode(packet, pcm)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := d.Decode(pcm, packet[:n]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
