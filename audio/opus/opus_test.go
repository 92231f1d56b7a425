package opus

import (
	"fmt"
	"math"
	"testing"
	"time"

	"flexphone/audio/jitter"
)

var _ jitter.Recoverer = decoder{}

func TestCodersAtEachRateAndDuration(t *testing.T) {
	for _, rate := range []int{8000, 16000, 48000} {
		for _, ms := range []int{10, 20, 40, 60} {
			e, err := Format{}.NewEncoder(rate, time.Duration(ms)*time.Millisecond, "")
			if err != nil {
				t.Fatal(err)
			}
			d, err := Format{}.NewDecoder(rate)
			if err != nil {
				t.Fatal(err)
			}
			n := rate * ms / 1000
			pcm, out, b := make([]int16, n), make([]int16, rate*120/1000), make([]byte, 1300)
			for i := range pcm {
				pcm[i] = int16(8000 * math.Sin(2*math.Pi*440*float64(i)/float64(rate)))
			}
			var power float64
			allocs := testing.AllocsPerRun(30, func() {
				size, err := e.Encode(b, pcm)
				if err != nil {
					t.Fatal(err)
				}
				got, err := d.Decode(out, b[:size])
				if err != nil || got != n {
					t.Fatalf("%d Hz, %d ms: %d samples of %d, %v", rate, ms, got, n, err)
				}
				power = 0
				for _, s := range out[:n] {
					power += float64(s) * float64(s) / float64(n)
				}
			})
			if allocs != 0 {
				t.Errorf("%d Hz, %d ms: %v allocations a packet", rate, ms, allocs)
			}
			if rms := math.Sqrt(power); rms < 4000 || rms > 7500 {
				t.Errorf("%d Hz, %d ms: a tone of 5657 came out with %.0f", rate, ms, rms)
			}
		}
	}
}

func TestConcealFillsWhatItIsGivenAndNoMore(t *testing.T) {
	d, err := Format{}.NewDecoder(16000)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]int16, 800)
	for i := range buf {
		buf[i] = 77
	}
	if err := d.Conceal(buf[:160]); err != nil {
		t.Fatal(err)
	}
	for i, s := range buf {
		if i < 160 && s != 0 || i >= 160 && s != 77 {
			t.Fatalf("sample %d is %d", i, s)
		}
	}
}

func TestWrongWishesAreErrors(t *testing.T) {
	if _, err := (Format{}).NewEncoder(16000, 30*time.Millisecond, ""); err == nil {
		t.Error("30 ms was taken")
	}
	if _, err := (Format{}).NewEncoder(44100, 20*time.Millisecond, ""); err == nil {
		t.Error("44.1 kHz was taken")
	}
	d, _ := Format{}.NewDecoder(16000)
	if _, err := d.Decode(make([]int16, 100), []byte{0x78, 1, 2, 3}); err == nil {
		t.Error("a packet longer than its place was taken")
	}
}

// FuzzDecode: no bytes from the network may do more than fail.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x78})
	f.Add([]byte{0xff, 0xff, 0xff})
	f.Add([]byte{0x4b, 0x41, 0x02, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Format{}.NewDecoder(16000)
		if err != nil {
			t.Fatal(err)
		}
		pcm := make([]int16, 1920+16)
		for i := range pcm {
			pcm[i] = 77
		}
		n, err := d.Decode(pcm[:1920], b)
		if err == nil && (n < 0 || n > 1920) {
			t.Fatalf("%d samples", n)
		}
		if err := d.(jitter.Recoverer).Recover(pcm[1600:1920], b); err != nil && len(b) == 0 {
			t.Fatal(err)
		}
		for range 20 { // what is made up after that, and another packet behind it
			if err := d.Conceal(pcm[1600:1920]); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := d.Decode(pcm[:1920], b); err == nil && (n < 0 || n > 1920) {
			t.Fatalf("%d samples after a gap", n)
		}
		for _, s := range pcm[1920:] {
			if s != 77 {
				t.Fatal("written past the end")
			}
		}
	})
}

// BenchmarkPacket is 20 ms of a voice-like sound at each rate of a device.
func BenchmarkPacket(b *testing.B) {
	for _, rate := range []int{8000, 16000, 48000} {
		pcm, packet := make([]int16, rate/50), make([]byte, 1300)
		for i := range pcm {
			x := 2 * math.Pi * float64(i) / float64(rate)
			pcm[i] = int16(4000*math.Sin(150*x) + 3000*math.Sin(450*x) + 1000*math.Sin(2100*x))
		}
		e, err := Format{}.NewEncoder(rate, 20*time.Millisecond, "")
		if err != nil {
			b.Fatal(err)
		}
		d, err := Format{}.NewDecoder(rate)
		if err != nil {
			b.Fatal(err)
		}
		size, err := e.Encode(packet, pcm)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("encode/%d", rate), func(b *testing.B) {
			b.ReportAllocs()
			spare := make([]byte, 1300)
			for b.Loop() {
				if _, err := e.Encode(spare, pcm); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("decode/%d", rate), func(b *testing.B) {
			b.ReportAllocs()
			out := make([]int16, len(pcm))
			for b.Loop() {
				if _, err := d.Decode(out, packet[:size]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
