package g722

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// A sequence is a file of G.722's Appendix II, digital test sequences: 50 lines
// of 16 words, the first and the last of which reset. Bit 0 of a word is the
// reset, and the filters are left out: both bands get the upper 15 bits of a word
// at the encoder, and a byte is the upper half of a word.
type sequence []uint16

const (
	margin = 16
	words  = 768
)

// crc is that of the file as the ITU distributes it, little endian; it stands in
// the list beside the files.
func (s sequence) crc() uint32 {
	reset := make(sequence, margin)
	for i := range reset {
		reset[i] = 1
	}
	var b []byte
	for _, w := range append(append(reset, s...), reset...) {
		b = binary.LittleEndian.AppendUint16(b, w)
	}
	return crc32.ChecksumIEEE(b)
}

// overflow is T1C2.XMT, which brings all that saturates to its limits: the lowest
// and the highest sample in turns, a step, and two low ones to each high one.
func overflow() sequence {
	s := make(sequence, words)
	for i := range s {
		s[i] = 0x8000
		if i < 640 && i%2 == 1 || i > 642 && i%3 == 1 {
			s[i] = 0x7ffe
		}
	}
	s[639], s[640], s[641] = 0, 0xb1e0, 0xc000
	return s
}

// The sequences that reach the limits of every number: T1C2 into the encoder,
// whose codes are T2R2, and these into the decoder, which makes T3L2.RC1 (mode 1,
// 64 kbit/s) and T3H2.RC0. Each is known by its checksum.
func TestTheStandardsOverflowSequences(t *testing.T) {
	in := overflow()
	if got := in.crc(); got != 0x2d604685 {
		t.Fatalf("T1C2.XMT is made wrongly: %08X", got)
	}
	c, d := NewCoder(), NewDecoder()
	codes, low, high := make(sequence, words), make(sequence, words), make(sequence, words)
	for i, w := range in {
		v := int32(int16(w)) >> 1
		code := c.encode(v, v)
		codes[i] = uint16(code) << 8
		l, h := d.decode(code)
		low[i], high[i] = uint16(l<<1), uint16(h<<1)
	}
	for _, f := range []struct {
		name string
		made sequence
		crc  uint32
	}{
		{"T2R2.COD", codes, 0x344ea5d0}, {"T3L2.RC1", low, 0xaf00f31f}, {"T3H2.RC0", high, 0x5330ae2e},
	} {
		if got := f.made.crc(); got != f.crc {
			t.Errorf("%s: checksum %08X, want %08X", f.name, got, f.crc)
		}
	}
}
