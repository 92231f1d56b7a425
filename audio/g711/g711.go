// Package g711 is the codec of every telephone: ITU-T G.711 in its µ-law
// (PCMU) and A-law (PCMA) forms, 8 bits at 8 kHz, between a device's rate and
// RTP's payload types 0 and 8 (RFC 3551, section 4.5.14).
//
// It knows the two laws as tables; package conceal fills its gaps. It knows
// nothing of packets' order or of time.
package g711

import (
	"fmt"
	"time"

	"flexphone/audio"
	"flexphone/audio/conceal"
	"flexphone/audio/resample"
)

const (
	rate = 8000
	// longest is of what we send: more than the usual 20 and 30 ms, for those who
	// count packets, and not so much that one lost packet takes a syllable away.
	longest = 60 * time.Millisecond
)

// A Law holds one law's tables.
type Law struct {
	decode [256]int16
	encode []uint8 // by the sample's upper bits
	shift  int     // the sample's lower bits, which the law does not see
}

// Mu returns the µ-law (table 2 of G.711). Its encoder sees 14 bits.
func Mu() *Law {
	l := &Law{shift: 2}
	for code := range 256 {
		// All bits are inverted on the line: sign, 3 bits of segment, 4 of
		// interval. Segments double from an interval of 2 in 14 bits; the
		// bias of 33 makes them one formula.
		c := ^uint8(code)
		segment, interval := int(c>>4&7), int(c&15)
		v := ((2*interval + 33) << segment) - 33
		if c&0x80 != 0 {
			v = -v
		}
		l.decode[code] = int16(v << l.shift)
	}
	l.build(func(magnitude int) uint8 {
		v := min(magnitude, 8158) + 33
		segment := 0
		for v >= 64<<segment {
			segment++
		}
		return uint8(segment<<4 | v>>(segment+1)&15)
	}, 0xff, 0x7f)
	return l
}

// A returns the A-law (table 1 of G.711). Its encoder sees 12 bits, the values
// it decodes to are of 13.
func A() *Law {
	l := &Law{shift: 4}
	for code := range 256 {
		// Even bits are inverted on the line; a set sign is positive.
		c := uint8(code) ^ 0x55
		segment, interval := int(c>>4&7), int(c&15)
		v := 2*interval + 1
		if segment > 0 {
			v = (v + 32) << (segment - 1)
		}
		if c&0x80 == 0 {
			v = -v
		}
		l.decode[code] = int16(v << 3)
	}
	l.build(func(magnitude int) uint8 {
		segment := 0
		for magnitude >= 32<<segment {
			segment++
		}
		if segment == 0 {
			return uint8(magnitude)&15 | uint8(magnitude>>4)<<4
		}
		return uint8((segment+1)<<4 | magnitude>>segment&15)
	}, 0xd5, 0x55)
	return l
}

// build fills the encoder's table from the code of a magnitude, which is
// combined with the pattern of a positive or of a negative sample. Magnitudes
// of negative samples are their ones' complement, as in ITU-T G.191.
//
// G.711 says which signal a value between two decision values gets (tables 1a to
// 2b, column 6), and nothing of one that is a decision value. Here it gets that of
// the interval above it on the line of numbers. Others choose otherwise, or choose
// the nearest output value, which is against the tables where a segment begins.
func (l *Law) build(magnitude func(int) uint8, positive, negative uint8) {
	n := 1 << (16 - l.shift)
	l.encode = make([]uint8, n)
	for i := range n / 2 {
		l.encode[i] = magnitude(i) ^ positive
		l.encode[n-1-i] = magnitude(i) ^ negative
	}
}

// Encode returns the code of a sample.
func (l *Law) Encode(sample int16) uint8 { return l.encode[uint16(sample)>>l.shift] }

// Decode returns the sample of a code.
func (l *Law) Decode(code uint8) int16 { return l.decode[code] }

// A Format is G.711 as an audio.Format.
type Format struct {
	codec audio.Codec
	law   *Law
}

var _ audio.Format = Format{}

// PCMU returns the µ-law format.
func PCMU() Format { return Format{audio.Codec{Name: "PCMU", PayloadType: 0, ClockRate: rate}, Mu()} }

// PCMA returns the A-law format.
func PCMA() Format { return Format{audio.Codec{Name: "PCMA", PayloadType: 8, ClockRate: rate}, A()} }

// Codec returns the codec as SDP names it.
func (f Format) Codec() audio.Codec { return f.codec }

// Packet returns the wish in whole ticks, from 10 to 60 ms.
func (Format) Packet(wish time.Duration) time.Duration {
	return min(max(wish.Truncate(audio.TickDuration), audio.TickDuration), longest)
}

// NewEncoder returns an encoder from deviceRate, a multiple of 8000.
func (f Format) NewEncoder(deviceRate int, packet time.Duration, _ string) (audio.Encoder, error) {
	if err := check(deviceRate); err != nil {
		return nil, err
	}
	return &encoder{
		law:    f.law,
		down:   resample.NewDown(deviceRate / rate),
		factor: deviceRate / rate,
		pcm:    make([]int16, int(packet*rate/time.Second)),
	}, nil
}

// NewDecoder returns a decoder to deviceRate, a multiple of 8000.
func (f Format) NewDecoder(deviceRate int) (audio.Decoder, error) {
	if err := check(deviceRate); err != nil {
		return nil, err
	}
	return &decoder{law: f.law, gaps: conceal.New(rate), up: resample.NewUp(deviceRate / rate), factor: deviceRate / rate}, nil
}

func check(deviceRate int) error {
	if deviceRate < rate || deviceRate%rate != 0 {
		return fmt.Errorf("g711: make coder: rate %d is no multiple of %d", deviceRate, rate)
	}
	return nil
}

type encoder struct {
	law    *Law
	down   *resample.Down
	factor int
	pcm    []int16
}

func (e *encoder) Encode(b []byte, pcm []int16) (int, error) {
	n := len(pcm) / e.factor
	if n > len(e.pcm) || n > len(b) {
		return 0, fmt.Errorf("g711: encode: %d samples for %d bytes, packets of %d", n, len(b), len(e.pcm))
	}
	low := e.pcm[:n]
	e.down.Process(low, pcm)
	for i, s := range low {
		b[i] = e.law.Encode(s)
	}
	return n, nil
}

type decoder struct {
	law    *Law
	gaps   *conceal.Concealer
	up     *resample.Up
	factor int
	pcm    [80]int16 // 10 ms at a time
}

func (d *decoder) Decode(pcm []int16, payload []byte) (int, error) {
	n := len(payload) * d.factor
	if n > len(pcm) {
		return 0, fmt.Errorf("g711: decode: %d samples for %d", n, len(pcm))
	}
	for len(payload) > 0 {
		part := payload[:min(len(payload), len(d.pcm))]
		payload = payload[len(part):]
		for i, c := range part {
			d.pcm[i] = d.law.Decode(c)
		}
		d.gaps.Heard(d.pcm[:len(part)])
		d.up.Process(pcm, d.pcm[:len(part)])
		pcm = pcm[len(part)*d.factor:]
	}
	return n, nil
}

func (d *decoder) Conceal(pcm []int16) error {
	for len(pcm) >= d.factor {
		n := min(len(pcm)/d.factor, len(d.pcm))
		d.gaps.Fill(d.pcm[:n])
		d.up.Process(pcm, d.pcm[:n])
		pcm = pcm[n*d.factor:]
	}
	return nil
}
