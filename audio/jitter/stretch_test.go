package jitter

import (
	"encoding/binary"
	"math"
	"testing"
	"time"
)

// A hum is a decoder of a tone that has no beginning and no end.
type hum struct{}

const (
	pitch = 200.0 // Hz
	loud  = 8000
)

func (hum) Decode(pcm []int16, payload []byte) (int, error) {
	first := int(binary.BigEndian.Uint32(payload)) * perPack
	for k := range perPack {
		pcm[k] = int16(loud * math.Sin(2*math.Pi*pitch*float64(first+k)/rate))
	}
	return perPack, nil
}

func (hum) Conceal(pcm []int16) error {
	clear(pcm)
	return nil
}

// Periods of a voice that are left out or played again, where the clocks of the ends
// differ, are joined without a click: it never changes faster than it does by itself, and
// is as loud as ever.
func TestJoinsAreNotHeard(t *testing.T) {
	const most = 2 * math.Pi * pitch / rate * loud // from one sample to the next
	for _, drift := range []float64{-1e-3, 1e-3} {
		b, c := New(rate), &Coding{hum{}, rate}
		begin, period := time.Unix(0, 0), time.Duration(float64(20*ms)/(1+drift))
		pcm, payload := make([]int16, perTick), make([]byte, 4)
		put, joins := 0, 0
		var last int16
		for now := 5 * ms; now < 2*time.Minute; now += tick {
			for ; time.Duration(put)*period <= now; put++ {
				binary.BigEndian.PutUint32(payload, uint32(put))
				b.Put(c, uint16(put), uint32(put*perPack), begin.Add(time.Duration(put)*period), payload)
			}
			waits := b.Delay()
			b.Play(pcm, begin.Add(now))
			if now > 5*time.Second {
				if b.missing > 0 {
					t.Fatalf("%v ppm, after %v: something is missing", drift*1e6, now)
				}
				if b.Delay() != waits-tick {
					joins++
				}
				for i, v := range pcm {
					if step := math.Abs(float64(v) - float64(last)); step > 1.05*most {
						t.Fatalf("%v ppm, after %v: a step of %.0f at sample %d, its own are %.0f", drift*1e6, now, step, i, most)
					}
					last = v
				}
				if level := math.Sqrt(meanSquare(pcm) * 2); level < 0.9*loud {
					t.Fatalf("%v ppm, after %v: %.0f loud, not %d", drift*1e6, now, level, loud)
				}
			}
			last = pcm[perTick-1]
		}
		// Each is one period, of 5 ms, or as many as are in 15.
		if joins < 120/15 {
			t.Errorf("%v ppm: %d joins in two minutes, by which 120 ms have to go", drift*1e6, joins)
		}
	}
}
