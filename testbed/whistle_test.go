package testbed

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"testing"
	"time"
)

// Whoever whistles repeats a pulse of one frequency. Of words one has to hear a second
// to know whose they are; of whistles a single packet is known, so that sound of
// somebody else is noticed however short it is.
const (
	pulse   = 100 * time.Millisecond // and as long a pause
	keyhole = 20 * time.Millisecond  // what is looked at at once: a packet
	// purity is the share of the sound of a moment from which on somebody is said to
	// whistle in it: two who are mixed are both heard.
	purity = 0.3
	// faint is the least that is looked at, as the root of the mean square. A whistle has
	// 5,600.
	faint = 150
)

// whistles are the frequencies of those who whistle, in Hz: whole numbers of periods in
// a keyhole, none a multiple of another, and none that a phone uses for tones.
var whistles = []float64{1100, 1550, 2050, 2600}

// whistle is what one of them says, at 16 kHz.
func whistle(hz float64) []int16 {
	n := int(pulse * speechRate / time.Second)
	const edge = speechRate / 100 // 10 ms, without which a pulse has all frequencies
	out := make([]int16, 2*n)
	for i := range n {
		a := 8000.0
		if d := min(i, n-1-i); d < edge {
			a *= (1 - math.Cos(math.Pi*float64(d)/edge)) / 2
		}
		out[i] = int16(a * math.Sin(2*math.Pi*hz*float64(i)/speechRate))
	}
	return out
}

// whistling returns for how long each of those whose frequencies these are is heard.
func whistling(pcm []int16, rate int, hz []float64) []time.Duration {
	out := make([]time.Duration, len(hz))
	n := int(keyhole * time.Duration(rate) / time.Second)
	for ; len(pcm) >= n; pcm = pcm[n/2:] {
		energy := 0.0
		for _, v := range pcm[:n] {
			energy += float64(v) * float64(v)
		}
		if energy < faint*faint*float64(n) {
			continue
		}
		for i, f := range hz {
			re, im := 0.0, 0.0
			for k, v := range pcm[:n] {
				sin, cos := math.Sincos(2 * math.Pi * f * float64(k) / float64(rate))
				re, im = re+float64(v)*cos, im+float64(v)*sin
			}
			if 2*(re*re+im*im)/float64(n) > purity*energy { // Parseval: a pure one has all of it
				out[i] += keyhole / 2
			}
		}
	}
	return out
}

// listenFor waits until lasts of sound were played after now, and returns what was
// played from there on and the position after it. Between calls nothing is played.
func (t tape) listenFor(ctx context.Context, lasts time.Duration) (from, to position, err error) {
	if from, err = t.position(); err != nil {
		return from, from, err
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	n := int(lasts * time.Duration(from.rate) / time.Second)
	for {
		if to, err = t.position(); err != nil || to.samples >= from.samples+n {
			return from, to, err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return from, to, fmt.Errorf("testbed: listen: %w", ctx.Err())
		}
	}
}

// part returns what was played between two positions.
func (t tape) part(from, to position) ([]int16, error) {
	f, err := os.Open(t.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, 2*(to.samples-from.samples))
	if _, err := f.ReadAt(b, wavHeader+2*int64(from.samples)); err != nil {
		return nil, err
	}
	pcm := make([]int16, len(b)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	return pcm, nil
}

// A packet of somebody else is heard, in place of a packet or beside it.
func TestForeignSoundIsNoticed(t *testing.T) {
	own := whistle(whistles[0])
	for range 3 {
		own = append(own, own...)
	}
	clean := whistling(own, speechRate, whistles)
	if clean[0] < 600*time.Millisecond || clean[1]+clean[2]+clean[3] > 0 {
		t.Errorf("who whistles alone is heard as %v", clean)
	}
	for i, hz := range whistles[1:] {
		packet := whistle(hz)[320:640]
		replaced, mixed := append([]int16(nil), own...), append([]int16(nil), own...)
		copy(replaced[6400+480:], packet)
		for k, v := range packet {
			mixed[6400+480+k] += v
		}
		for what, pcm := range map[string][]int16{"in place of one": replaced, "beside one": mixed} {
			if heard := whistling(pcm, speechRate, whistles); heard[i+1] == 0 {
				t.Errorf("a packet of %v Hz %s is not heard: %v", hz, what, heard)
			}
		}
	}
	for _, name := range words {
		if heard := whistling(speak(t, name), speechRate, whistles); heard[0]+heard[1]+heard[2]+heard[3] > 40*time.Millisecond {
			t.Errorf("%s is heard as whistling: %v", name, heard)
		}
	}
}
