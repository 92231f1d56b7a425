// Package l16 is sound as it is: samples of 16 bits at 16 kHz in network byte order
// (L16, RFC 3551, section 4.5.11), between a device's rate and RTP. At 256 kbit/s it
// is for two ends of a good network that both want it: it has all that G.722 has, no
// delay and no processor.
//
// Package conceal fills its gaps. It knows nothing of packets' order or of time.
package l16

import (
	"encoding/binary"
	"fmt"
	"time"

	"flexphone/audio"
	"flexphone/audio/conceal"
	"flexphone/audio/resample"
)

const (
	rate = 16000
	tick = rate / 100 // samples at a time
	// longest is what fits into a packet of a usual link.
	longest = 40 * time.Millisecond
	// PayloadType is what we offer; any dynamic one may be agreed. The static ones are
	// of 44.1 kHz.
	PayloadType = 112
)

// A Format is L16 at 16 kHz as an audio.Format.
type Format struct{}

var _ audio.Format = Format{}

// Codec returns the codec as SDP names it.
func (Format) Codec() audio.Codec {
	return audio.Codec{Name: "L16", PayloadType: PayloadType, ClockRate: rate}
}

// Packet returns the wish in whole ticks, from 10 to 40 ms.
func (Format) Packet(wish time.Duration) time.Duration {
	return min(max(wish.Truncate(audio.TickDuration), audio.TickDuration), longest)
}

// NewEncoder returns an encoder from deviceRate: 8000, 16000 or 48000.
func (Format) NewEncoder(deviceRate int, _ time.Duration, _ string) (audio.Encoder, error) {
	if err := check(deviceRate); err != nil {
		return nil, err
	}
	return &encoder{device: deviceRate, change: resample.NewConverter(deviceRate, rate)}, nil
}

// NewDecoder returns a decoder to deviceRate: 8000, 16000 or 48000.
func (Format) NewDecoder(deviceRate int) (audio.Decoder, error) {
	if err := check(deviceRate); err != nil {
		return nil, err
	}
	return &decoder{device: deviceRate, gaps: conceal.New(rate), change: resample.NewConverter(rate, deviceRate)}, nil
}

func check(deviceRate int) error {
	switch deviceRate {
	case 8000, rate, 48000:
		return nil
	}
	return fmt.Errorf("l16: make coder of %d Hz: want 8000, 16000 or 48000", deviceRate)
}

type encoder struct {
	device int                 // rate
	change *resample.Converter // to 16 kHz
	pcm    [tick]int16
}

func (e *encoder) Encode(b []byte, pcm []int16) (int, error) {
	n := 2 * len(pcm) * rate / e.device
	if n > len(b) {
		return 0, fmt.Errorf("l16: encode: %d samples for %d bytes", len(pcm), len(b))
	}
	for at := 0; at < n; at += 2 * tick {
		wide := e.pcm[:min(tick, (n-at)/2)]
		from := pcm[:len(wide)*e.device/rate]
		pcm = pcm[len(from):]
		e.change.Process(wide, from)
		for i, v := range wide {
			binary.BigEndian.PutUint16(b[at+2*i:], uint16(v))
		}
	}
	return n, nil
}

type decoder struct {
	device int // rate
	gaps   *conceal.Concealer
	change *resample.Converter // from 16 kHz
	pcm    [tick]int16
}

func (d *decoder) Decode(pcm []int16, payload []byte) (int, error) {
	if len(payload)%4 != 0 { // of two samples each, which are one at 8 kHz
		return 0, fmt.Errorf("l16: decode: %d bytes are no whole samples", len(payload))
	}
	n := len(payload) / 2 * d.device / rate
	if n > len(pcm) {
		return 0, fmt.Errorf("l16: decode: %d samples for %d", n, len(pcm))
	}
	for len(payload) > 0 {
		wide := d.pcm[:min(tick, len(payload)/2)]
		for i := range wide {
			wide[i] = int16(binary.BigEndian.Uint16(payload[2*i:]))
		}
		payload = payload[2*len(wide):]
		d.gaps.Heard(wide)
		pcm = d.give(pcm, wide)
	}
	return n, nil
}

// give writes wide at the device's rate, and returns what remains of pcm.
func (d *decoder) give(pcm, wide []int16) []int16 {
	n := len(wide) * d.device / rate
	d.change.Process(pcm[:n], wide)
	return pcm[n:]
}

func (d *decoder) Conceal(pcm []int16) error {
	for n := len(pcm) * rate / d.device; n > 0; n -= len(d.pcm) {
		wide := d.pcm[:min(n, len(d.pcm))]
		d.gaps.Fill(wide)
		pcm = d.give(pcm, wide)
	}
	return nil
}
