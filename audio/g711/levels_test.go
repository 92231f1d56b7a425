package g711

import (
	"bytes"
	"encoding/binary"
	"os/exec"
	"testing"
)

// A table is G.711's table 1a (A-law) or 2a (µ-law), which 1b and 2b repeat for
// negative values.
type table struct {
	law      *Law
	scale    int   // of a value of the table in 16 bits
	decision []int // column 5: x_0 to x_128, of which the last is virtual
}

// decisions are a table's from the number and the width of each segment's intervals.
func decisions(segments [][2]int) []int {
	x := []int{0}
	for _, s := range segments {
		for range s[0] {
			x = append(x, x[len(x)-1]+s[1])
		}
	}
	return x
}

func tables() map[string]table {
	return map[string]table{
		"pcm_alaw":  {A(), 8, decisions([][2]int{{32, 2}, {16, 4}, {16, 8}, {16, 16}, {16, 32}, {16, 64}, {16, 128}})},
		"pcm_mulaw": {Mu(), 4, decisions([][2]int{{1, 1}, {15, 2}, {16, 4}, {16, 8}, {16, 16}, {16, 32}, {16, 64}, {16, 128}, {16, 256}})},
	}
}

// signal is the character signal of the interval above x_n (column 6).
func (v table) signal(n int, negative bool) uint8 {
	c := uint8(255 - n)
	if v.scale == 8 { // even bits are inverted (note 2 of table 1a)
		c = uint8(128+n) ^ 0x55
	}
	if negative {
		c ^= 0x80
	}
	return c
}

// right are the signals that the table gives for a sample: one between two decision
// values, two at a decision value, of which the text says nothing.
func (v table) right(sample int) (signals []uint8) {
	magnitude := max(sample, -sample)
	for n := range 128 {
		low, high := v.decision[n]*v.scale, v.decision[n+1]*v.scale
		if n == 127 {
			high = 1 << 15 // beyond the virtual decision value it is the last all the same
		}
		if low <= magnitude && magnitude <= high {
			signals = append(signals, v.signal(n, sample < 0))
		}
	}
	if sample == 0 {
		signals = append(signals, v.signal(0, true))
	}
	return signals
}

// The values that the tables print, at the ends of their segments.
func TestDecisionValues(t *testing.T) {
	for name, printed := range map[string]map[int]int{
		"pcm_alaw":  {0: 0, 1: 2, 32: 64, 33: 68, 48: 128, 49: 136, 64: 256, 80: 512, 96: 1024, 112: 2048, 113: 2176, 127: 3968, 128: 4096},
		"pcm_mulaw": {0: 0, 1: 1, 2: 3, 16: 31, 17: 35, 32: 95, 33: 103, 48: 223, 64: 479, 80: 991, 96: 2015, 112: 4063, 113: 4319, 127: 7903, 128: 8159},
	} {
		for n, x := range printed {
			if got := tables()[name].decision[n]; got != x {
				t.Errorf("%s: x_%d is %d, want %d", name, n, got, x)
			}
		}
	}
}

// Every sample of 16 bits gets the signal of the interval that it lies in. One that
// is a decision value gets that of the interval above it, on the line of numbers:
// so all intervals are of one length, and 0 is positive.
func TestEncodeByTheDecisionValues(t *testing.T) {
	for name, v := range tables() {
		for s := -32768; s < 32768; s++ {
			got, want := v.law.Encode(int16(s)), v.right(s)
			chosen := want[0]
			if s > 0 {
				chosen = want[len(want)-1]
			}
			if got != chosen {
				t.Errorf("%s: %d is %#02x, want %#02x of %#02x", name, s, got, chosen, want)
			}
		}
	}
}

// Why ours is not ffmpeg's, which gives another signal to 964 of the 65,536 samples in
// each law: that one chooses the nearest output value, which between segments is not where the table
// has its decision value, and rounds negative samples down to 14 bits first. Of
// none of them does the table say what ffmpeg does and not what we do.
func TestWhereFFmpegDiffers(t *testing.T) {
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		t.Skipf("the second opinion is not here: install ffmpeg (%v)", err)
	}
	var in []byte
	for s := -32768; s < 32768; s++ {
		in = binary.LittleEndian.AppendUint16(in, uint16(int16(s)))
	}
	for name, v := range tables() {
		cmd := exec.CommandContext(t.Context(), "ffmpeg", "-v", "error", "-f", "s16le", "-ar", "8000", "-ac", "1", "-i", "-",
			"-c:a", name, "-f", name[len("pcm_"):], "-")
		cmd.Stdin = bytes.NewReader(in)
		out, err := cmd.Output()
		if err != nil || len(out) != 1<<16 {
			t.Fatalf("%v: %d bytes, %v", cmd, len(out), err)
		}
		differs, wrong, free := 0, 0, 0
		for i, theirs := range out {
			s := i - 32768
			if theirs == v.law.Encode(int16(s)) {
				continue
			}
			differs++
			right := v.right(s)
			if bytes.IndexByte(right, theirs) >= 0 {
				free++
			} else {
				wrong++
			}
			if bytes.IndexByte(right, v.law.Encode(int16(s))) < 0 || bytes.IndexByte(right, theirs) >= 0 && len(right) == 1 {
				t.Errorf("%s: %d is %#02x there and %#02x here, want %#02x", name, s, theirs, v.law.Encode(int16(s)), right)
			}
		}
		t.Logf("%s: %d samples differ, %d of them decision values, %d wrong there", name, differs, free, wrong)
	}
}
