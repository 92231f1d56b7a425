package g722

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"flexphone/audio/audiotest"
)

func TestCodersKeepLengthAtEachRate(t *testing.T) {
	for _, device := range []int{8000, 16000, 32000, 48000} {
		for _, ms := range []int{10, 20, 30, 60} {
			packet := time.Duration(ms) * time.Millisecond
			e, err := Format{}.NewEncoder(device, packet, "")
			if err != nil {
				t.Fatal(err)
			}
			d, err := Format{}.NewDecoder(device)
			if err != nil {
				t.Fatal(err)
			}
			pcm := make([]int16, device*ms/1000)
			for i := range pcm {
				pcm[i] = int16(rand.IntN(20000) - 10000)
			}
			b, out := make([]byte, 500), make([]int16, device/10)
			allocs := testing.AllocsPerRun(50, func() {
				n, err := e.Encode(b, pcm)
				if err != nil || n != 8*ms {
					t.Fatalf("encode: %d, %v", n, err)
				}
				m, err := d.Decode(out, b[:n])
				if err != nil || m != len(pcm) {
					t.Fatalf("decode: %d, %v", m, err)
				}
				if err := d.Conceal(out[:m]); err != nil {
					t.Fatal(err)
				}
			})
			if allocs != 0 {
				t.Errorf("%d Hz, %d ms: %v allocations a packet", device, ms, allocs)
			}
			if _, err := d.Decode(out[:100], b[:160]); err == nil {
				t.Error("a payload longer than its place was taken")
			}
			if _, err := e.Encode(b[:10], pcm); err == nil {
				t.Error("sound longer than its place was taken")
			}
		}
	}
	for _, device := range []int{0, 4000, 24000, 44100} {
		if _, err := (Format{}).NewDecoder(device); err == nil {
			t.Errorf("%d Hz was taken", device)
		}
		if _, err := (Format{}).NewEncoder(device, 20*time.Millisecond, ""); err == nil {
			t.Errorf("%d Hz was taken", device)
		}
	}
}

// Speech comes out as it went in, at each rate of a device, and after as much as
// the filters and the resamplers take.
func TestSpeechAtEachRate(t *testing.T) {
	for _, device := range []int{8000, 16000, 48000} {
		t.Run(fmt.Sprint(device), func(t *testing.T) {
			spoken := audiotest.Speech(t, "goforward.raw", device)
			e, err := Format{}.NewEncoder(device, 20*time.Millisecond, "")
			if err != nil {
				t.Fatal(err)
			}
			d, err := Format{}.NewDecoder(device)
			if err != nil {
				t.Fatal(err)
			}
			var heard []int16
			b, pcm := make([]byte, 160), make([]int16, device/50)
			for frame := range slices.Chunk(spoken, device/50) {
				if len(frame) < len(pcm) {
					break
				}
				n, err := e.Encode(b, frame)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := d.Decode(pcm, b[:n]); err != nil {
					t.Fatal(err)
				}
				heard = append(heard, pcm...)
			}
			// Compare looks for the place to an eighth of a millisecond: at 48 kHz
			// it is half of that off.
			if r := audiotest.Compare(spoken, heard, device); r.Correlation < 0.95 || r.Arrived < 0.97 || r.Delay > 5*time.Millisecond {
				t.Errorf("%+v", r)
			}
		})
	}
}

// FuzzDecode: any bytes are sound, the same in one piece and in two, and the scale
// factors stay where the standard has them.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	f.Add([]byte{0, 0xff, 3, 0xc0, 0x1f, 0x20}, uint8(2))
	f.Add(encode(signal()[:640]), uint8(80))
	f.Fuzz(func(t *testing.T, b []byte, at uint8) {
		whole := decode(b)
		d := NewDecoder()
		pcm := make([]int16, 2*len(b))
		cut := min(int(at), len(b))
		d.Decode(pcm, b[:cut])
		d.Decode(pcm[2*cut:], b[cut:])
		if !slices.Equal(pcm, whole) {
			t.Fatal("two pieces sound other than one")
		}
		for _, b := range []*band{&d.low, &d.high} {
			if b.nb < 0 || b.nb > b.most || b.det < 8 || b.det > 16384 {
				t.Fatalf("scale factor %d, logarithm %d", b.det, b.nb)
			}
		}
		for _, device := range []int{8000, 16000, 48000} {
			d, err := Format{}.NewDecoder(device)
			if err != nil {
				t.Fatal(err)
			}
			pcm := make([]int16, len(b)*device/clock)
			if n, err := d.Decode(pcm, b); err != nil || n != len(pcm) {
				t.Fatalf("%d Hz: %d samples, %v", device, n, err)
			}
			if err := d.Conceal(make([]int16, device/50)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// BenchmarkPacket is 20 ms there and back, on a device of 16 kHz.
func BenchmarkPacket(b *testing.B) {
	e, err := Format{}.NewEncoder(rate, 20*time.Millisecond, "")
	if err != nil {
		b.Fatal(err)
	}
	d, err := Format{}.NewDecoder(rate)
	if err != nil {
		b.Fatal(err)
	}
	said := signal()[rate*3/2:]
	pcm, packet := make([]int16, rate/50), make([]byte, 160)
	at := 0
	b.ReportAllocs()
	for b.Loop() {
		n, err := e.Encode(packet, said[at:at+len(pcm)])
		if err != nil {
			b.Fatal(err)
		}
		if _, err := d.Decode(pcm, packet[:n]); err != nil {
			b.Fatal(err)
		}
		at = (at + len(pcm)) % (rate / 4)
	}
}
