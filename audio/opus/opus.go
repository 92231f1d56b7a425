// Package opus is the Opus codec (RFC 6716) in RTP (RFC 7587), by libopus.
//
// Sound is encoded from a device's rate and decoded to it by libopus itself, so
// that 8, 16 and 48 kHz need no resampler; the RTP clock is 48 kHz always. We
// send mono speech, and take whatever a peer sends, mixed to mono. A gap is filled
// from the redundancy of the next packet, or by libopus's concealment. The package
// knows nothing of packets' order or of time.
//
// # How much is sent
//
// 24 kbit/s, 40 in packets of 10 ms, or less and narrower where the peer asks for that.
// Longer packets get no less: 16 kbit/s leave .92 of what 24 leave .96. A peer that can use
// redundancy (useinbandfec) and reports loss gets it, and more bits for it: at 24
// kbit/s it takes so much of the sound itself that little is won. STOI of half a
// minute of speech in packets of 20 ms, without and with it:
//
//	lost    24 kbit/s    32           40           48
//	 2 %    .978 .980    .982 .989    .984 .993    .985 .995
//	 5 %    .958 .965    .961 .986    .963 .991    .964 .994
//	10 %    .953 .966    .959 .980    .960 .986    .960 .990
//	20 %    .860 .925    .861 .956    .863 .964    .862 .971
//
// In packets of 10 ms it makes things worse below 40 kbit/s, so that there it is
// only used from there on.
//
// Build with the tag nolibopusfile: files of Opus are not a phone's business.
package opus

import (
	"fmt"
	"time"

	"github.com/hraban/opus"

	"flexphone/audio"
)

const (
	// bitrate and complexity: wideband speech that is hard to tell from the
	// original, at 1.15 million instructions per 20 ms.
	bitrate    = 24000
	complexity = 5
	// sparing is a complexity that takes less than half of that, and leaves .955 where
	// the other leaves .964 (STOI of 7 s of speech); 1 and 0 leave .94.
	sparing = 2
	// shortBitrate is of packets of 10 ms, whose headers alone take 32 kbit/s: .989
	// where 24 kbit/s leave .960.
	shortBitrate = 40000
	// PayloadType is what we offer; any dynamic one may be agreed.
	PayloadType = 111
)

// A Format is Opus as an audio.Format.
type Format struct {
	// Sparing is of a processor that has little to spare: encoding takes less than half.
	Sparing bool
}

func (f Format) complexity() int {
	if f.Sparing {
		return sparing
	}
	return complexity
}

var _ audio.Format = Format{}

// Codec returns the codec as SDP names it.
func (Format) Codec() audio.Codec {
	return audio.Codec{Name: "opus", PayloadType: PayloadType, ClockRate: 48000}
}

// Packet returns the longest of 10, 20, 40 and 60 ms that is not above the wish.
func (Format) Packet(wish time.Duration) time.Duration {
	for _, p := range []time.Duration{60, 40, 20} {
		if p *= time.Millisecond; p <= wish {
			return p
		}
	}
	return 10 * time.Millisecond
}

// NewEncoder returns an encoder from rate, one of 8000, 16000 and 48000, of
// packets of 10, 20, 40 or 60 ms, as params (RFC 7587, section 6.1) ask for them.
func (f Format) NewEncoder(rate int, packet time.Duration, params string) (audio.Encoder, error) {
	switch packet / time.Millisecond {
	case 10, 20, 40, 60:
	default:
		return nil, fmt.Errorf("opus: make encoder: no packets of %v", packet)
	}
	e, err := opus.NewEncoder(rate, 1, opus.AppVoIP)
	if err != nil {
		return nil, fmt.Errorf("opus: make encoder of %d Hz: %w", rate, err)
	}
	if err := e.SetComplexity(f.complexity()); err != nil {
		return nil, fmt.Errorf("opus: set complexity: %w", err)
	}
	w := wishesOf(params)
	if err := w.meet(e, packet); err != nil {
		return nil, err
	}
	return &encoder{e: e, wishes: w, packet: packet}, nil
}

// NewDecoder returns a decoder to rate, one of 8000, 16000 and 48000.
func (Format) NewDecoder(rate int) (audio.Decoder, error) {
	d, err := opus.NewDecoder(rate, 1)
	if err != nil {
		return nil, fmt.Errorf("opus: make decoder of %d Hz: %w", rate, err)
	}
	return decoder{d}, nil
}

type encoder struct {
	e      *opus.Encoder
	wishes wishes
	packet time.Duration
	lost   float64 // lately
	plan   plan    // in force
}

// Adapt implements audio.Adapter.
func (e *encoder) Adapt(lost float64) error {
	// Loss comes in bursts: it is believed at once, and forgotten slowly.
	e.lost = max(lost, e.lost+(lost-e.lost)/4)
	p := e.wishes.against(e.lost, e.packet)
	if p == e.plan {
		return nil
	}
	e.plan = p
	if err := e.e.SetPacketLossPerc(p.lost); err != nil {
		return fmt.Errorf("opus: set loss of %d %%: %w", p.lost, err)
	}
	if err := e.e.SetBitrate(p.bitrate); err != nil {
		return fmt.Errorf("opus: set bit rate of %d: %w", p.bitrate, err)
	}
	return nil
}

func (e *encoder) Encode(b []byte, pcm []int16) (int, error) {
	// The library looks at capacities: b must end where it ends.
	n, err := e.e.Encode(pcm, b[:len(b):len(b)])
	if err != nil {
		return 0, fmt.Errorf("opus: encode: %w", err)
	}
	if n <= 2 && e.wishes.dtx {
		return 0, nil // a header without sound: not to be sent (opus_encoder.h, OPUS_SET_DTX)
	}
	return n, nil
}

type decoder struct{ d *opus.Decoder }

func (d decoder) Decode(pcm []int16, payload []byte) (int, error) {
	if len(payload) == 0 {
		return 0, nil
	}
	n, err := d.d.Decode(payload, pcm[:len(pcm):len(pcm)])
	if err != nil {
		return 0, fmt.Errorf("opus: decode: %w", err)
	}
	return n, nil
}

// Recover implements jitter.Recoverer, by the redundancy of RFC 6716, section 2.1.7.
func (d decoder) Recover(pcm []int16, next []byte) error {
	if len(next) == 0 {
		return d.Conceal(pcm)
	}
	if err := d.d.DecodeFEC(next, pcm[:len(pcm):len(pcm)]); err != nil {
		return fmt.Errorf("opus: recover: %w", err)
	}
	return nil
}

func (d decoder) Conceal(pcm []int16) error {
	// Again the capacity would decide how much is written.
	if err := d.d.DecodePLC(pcm[:len(pcm):len(pcm)]); err != nil {
		return fmt.Errorf("opus: conceal: %w", err)
	}
	return nil
}
