// Package g722 is the codec of telephones with a wider band: ITU-T G.722 at 64
// kbit/s, 7 kHz of sound by adaptive prediction in two bands, between a device's
// rate and RTP's payload type 9.
//
// It knows the standard to the bit, as its test sequences have it; package conceal
// fills its gaps. It knows nothing of packets' order or of time.
//
// # Why the clock is 8000
//
// Its samples are of 16 kHz, but RTP's clock for it is 8 kHz: RFC 1890 said so by
// mistake, and RFC 3551 (section 4.5.2) keeps it, since everybody had done it. A
// byte is one unit of that clock, and two samples.
package g722

import (
	"fmt"
	"time"

	"flexphone/audio"
	"flexphone/audio/conceal"
	"flexphone/audio/resample"
)

const (
	rate  = 16000
	clock = 8000
	tick  = rate / 100 // samples at a time
	// longest is of what we send, as with G.711.
	longest = 60 * time.Millisecond
)

// A Coder encodes sound of 16 kHz. It belongs to one goroutine.
type Coder struct {
	filter filter
	low    band
	high   band
}

// NewCoder returns a coder in the state of the standard's reset.
func NewCoder() *Coder { return &Coder{low: lowerBand(), high: upperBand()} }

// Encode writes a byte to b for each two samples of pcm, whose number is even.
func (c *Coder) Encode(b []byte, pcm []int16) {
	for i := range len(pcm) / 2 {
		low, high := c.filter.part(int32(pcm[2*i]), int32(pcm[2*i+1]))
		b[i] = c.encode(low, high)
	}
}

// encode makes a byte of a sample of each band, each of 15 bits.
func (c *Coder) encode(low, high int32) byte {
	l, h := c.low.quantizeLower(low), c.high.quantizeUpper(high)
	c.low.take(l)
	c.high.take(h)
	return h<<6 | l
}

// A Decoder is a Coder's other end. It belongs to one goroutine.
type Decoder struct {
	filter filter
	low    band
	high   band
}

// NewDecoder returns a decoder in the state of the standard's reset.
func NewDecoder() *Decoder { return &Decoder{low: lowerBand(), high: upperBand()} }

// Decode writes two samples of 16 kHz to pcm for each byte of b.
func (d *Decoder) Decode(pcm []int16, b []byte) {
	for i, code := range b {
		pcm[2*i], pcm[2*i+1] = d.filter.join(d.decode(code))
	}
}

// decode makes a sample of each band, each of 15 bits, of a byte.
func (d *Decoder) decode(code byte) (low, high int32) {
	return d.low.take(code & 63), d.high.take(code >> 6)
}

// A Format is G.722 as an audio.Format.
type Format struct{}

var _ audio.Format = Format{}

// Codec returns the codec as SDP names it.
func (Format) Codec() audio.Codec { return audio.Codec{Name: "G722", PayloadType: 9, ClockRate: clock} }

// Packet returns the wish in whole ticks, from 10 to 60 ms.
func (Format) Packet(wish time.Duration) time.Duration {
	return min(max(wish.Truncate(audio.TickDuration), audio.TickDuration), longest)
}

// NewEncoder returns an encoder from deviceRate, which is 8000 or a multiple of
// 16000.
func (Format) NewEncoder(deviceRate int, _ time.Duration, _ string) (audio.Encoder, error) {
	if err := check(deviceRate); err != nil {
		return nil, err
	}
	return &encoder{coder: NewCoder(), device: deviceRate, change: resample.NewConverter(deviceRate, rate)}, nil
}

// NewDecoder returns a decoder to deviceRate, which is 8000 or a multiple of 16000.
func (Format) NewDecoder(deviceRate int) (audio.Decoder, error) {
	if err := check(deviceRate); err != nil {
		return nil, err
	}
	return &decoder{decoder: NewDecoder(), gaps: conceal.New(rate), device: deviceRate, change: resample.NewConverter(rate, deviceRate)}, nil
}

func check(deviceRate int) error {
	if deviceRate != clock && (deviceRate < rate || deviceRate%rate != 0) {
		return fmt.Errorf("g722: make coder: rate %d is neither %d nor a multiple of %d", deviceRate, clock, rate)
	}
	return nil
}

type encoder struct {
	coder  *Coder
	device int                 // rate
	change *resample.Converter // to 16 kHz
	pcm    [tick]int16
}

func (e *encoder) Encode(b []byte, pcm []int16) (int, error) {
	n := len(pcm) * clock / e.device
	if n > len(b) {
		return 0, fmt.Errorf("g722: encode: %d samples for %d bytes", len(pcm), len(b))
	}
	for i := 0; i < n; i += tick / 2 {
		part := min(tick/2, n-i)
		wide, from := e.pcm[:2*part], pcm[i*e.device/clock:(i+part)*e.device/clock]
		e.change.Process(wide, from)
		e.coder.Encode(b[i:i+part], wide)
	}
	return n, nil
}

type decoder struct {
	decoder *Decoder
	gaps    *conceal.Concealer
	device  int                 // rate
	change  *resample.Converter // from 16 kHz
	pcm     [tick]int16
}

func (d *decoder) Decode(pcm []int16, payload []byte) (int, error) {
	n := len(payload) * d.device / clock
	if n > len(pcm) {
		return 0, fmt.Errorf("g722: decode: %d samples for %d", n, len(pcm))
	}
	for len(payload) > 0 {
		part := min(tick/2, len(payload))
		d.decoder.Decode(d.pcm[:2*part], payload[:part])
		d.gaps.Heard(d.pcm[:2*part])
		pcm = d.give(pcm, d.pcm[:2*part])
		payload = payload[part:]
	}
	return n, nil
}

// give writes wide at the device's rate, and returns what remains of pcm.
func (d *decoder) give(pcm, wide []int16) []int16 {
	n := len(wide) * d.device / rate
	d.change.Process(pcm[:n], wide)
	return pcm[n:]
}

// Conceal leaves the predictors as they are. To encode what is made up, so that
// they go on with it, is no better: a tenth lost leaves the same intelligibility.
func (d *decoder) Conceal(pcm []int16) error {
	for n := len(pcm) * rate / d.device / 2 * 2; n > 0; n -= len(d.pcm) {
		wide := d.pcm[:min(n, len(d.pcm))]
		d.gaps.Fill(wide)
		pcm = d.give(pcm, wide)
	}
	return nil
}
