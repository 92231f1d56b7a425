package l16_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"flexphone/audio/audiotest"
	"flexphone/audio/l16"
)

// At its own rate sound arrives to the bit, in network byte order; at others as
// well as resampling leaves it.
func TestSoundAsItIs(t *testing.T) {
	for _, rate := range []int{8000, 16000, 48000} {
		for _, packet := range []time.Duration{10 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond} {
			speech := audiotest.Speech(t, "something.raw", rate)
			e, err := l16.Format{}.NewEncoder(rate, packet, "")
			if err != nil {
				t.Fatal(err)
			}
			d, err := l16.Format{}.NewDecoder(rate)
			if err != nil {
				t.Fatal(err)
			}
			frame := int(packet * time.Duration(rate) / time.Second)
			b, pcm := make([]byte, 1300), make([]int16, frame)
			var heard []int16
			for at := 0; at+frame <= len(speech); at += frame {
				n, err := e.Encode(b, speech[at:at+frame])
				if want := int(packet * 32000 / time.Second); err != nil || n != want {
					t.Fatalf("%d bytes, %v; want %d", n, err, want)
				}
				if rate == 16000 && (b[0] != byte(uint16(speech[at])>>8) || b[1] != byte(speech[at])) {
					t.Fatalf("%x is sent for %x", b[:2], speech[at])
				}
				if n, err := d.Decode(pcm, b[:n]); err != nil || n != frame {
					t.Fatalf("%d samples, %v", n, err)
				}
				heard = append(heard, pcm...)
			}
			if rate == 16000 && !slices.Equal(heard, speech[:len(heard)]) {
				t.Errorf("%v at %d Hz: not as it was", packet, rate)
			}
			if packet != 20*time.Millisecond {
				continue
			}
			if u := audiotest.Intelligibility(speech, heard, rate); u < 0.99 {
				t.Errorf("%v at %d Hz: %.3f is understood", packet, rate, u)
			}
		}
	}
	for wish, want := range map[time.Duration]time.Duration{0: 10, 15: 10, 20: 20, 30: 30, 60: 40, 1000: 40} {
		if got := (l16.Format{}).Packet(wish * time.Millisecond); got != want*time.Millisecond {
			t.Errorf("packets of %v for %v", got, wish)
		}
	}
	for _, rate := range []int{0, 11025, 44100} {
		_, enc := l16.Format{}.NewEncoder(rate, 20*time.Millisecond, "")
		_, dec := l16.Format{}.NewDecoder(rate)
		if enc == nil || dec == nil {
			t.Errorf("%d Hz: %v, %v", rate, enc, dec)
		}
	}
}

func TestDoesNotAllocate(t *testing.T) {
	e, _ := l16.Format{}.NewEncoder(48000, 20*time.Millisecond, "")
	d, _ := l16.Format{}.NewDecoder(48000)
	b, pcm := make([]byte, 1300), make([]int16, 960)
	if a := testing.AllocsPerRun(100, func() {
		n, _ := e.Encode(b, pcm)
		d.Decode(pcm, b[:n])
		d.Conceal(pcm[:480])
	}); a != 0 {
		t.Errorf("%v allocations", a)
	}
}

// FuzzDecode: a payload is decoded to as many samples as it has, or refused and
// nothing of it heard.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x12, 0x34, 0x80, 0}, uint8(1))
	f.Add([]byte{1, 2, 3}, uint8(0))
	f.Fuzz(func(t *testing.T, payload []byte, which uint8) {
		rate := []int{8000, 16000, 48000}[which%3]
		d, err := l16.Format{}.NewDecoder(rate)
		if err != nil {
			t.Fatal(err)
		}
		pcm, kept := make([]int16, rate/25), bytes.Clone(payload)
		n, err := d.Decode(pcm, payload)
		if want := len(payload) / 2 * rate / 16000; err == nil && n != want || err != nil && n != 0 {
			t.Fatalf("%d samples of %d bytes, %v", n, len(payload), err)
		}
		if err := d.Conceal(pcm[:rate/100]); err != nil || !bytes.Equal(kept, payload) {
			t.Fatal("changed, or not concealed")
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	d, _ := l16.Format{}.NewDecoder(16000)
	pcm, payload := make([]int16, 320), make([]byte, 640)
	b.ReportAllocs()
	for b.Loop() {
		d.Decode(pcm, payload)
	}
}
