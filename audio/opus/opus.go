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
// Where a link is full, which is seen from packets that queue or from loss that came with
// more bits, less is sent, down to 16 kbit/s, and more is tried again after half a minute.
//
// # How hard it tries
//
// Complexity 5 is usual, 2 is enough where bits are plenty and nothing is lost, or the
// processor is slow, and 8 is worth its price where the link has no room. STOI of 7 s of
// speech, at complexities 2, 5 and 8, in packets of 10 and of 20 ms:
//
//	16 kbit/s             .871 .900 .911    .894 .923 .930
//	24                    .946 .954 .961    .951 .963 .966
//	40                    .982 .986 .987    .983 .988 .989
//	48, of which 10 % are lost and repeated   .949 .959 .957    .964 .971 .976
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
	// bitrate is of wideband speech that is hard to tell from the original.
	bitrate = 24000
	// shortBitrate is of packets of 10 ms, whose headers alone take 32 kbit/s: .989
	// where 24 kbit/s leave .960.
	shortBitrate = 40000
	// PayloadType is what we offer; any dynamic one may be agreed.
	PayloadType = 111
)

// A Format is Opus as an audio.Format.
type Format struct {
	// Sparing is of a processor that may have little to spare, until that is measured.
	Sparing bool
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
	w := wishesOf(params)
	if err := w.meet(e, packet); err != nil {
		return nil, err
	}
	made := &encoder{e: e, wishes: w, packet: packet, link: link{room: highest}, pace: pace{slow: f.Sparing}, now: time.Now}
	return made, made.adopt()
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
	link   link
	pace   pace
	plan   plan // in force
	now    func() time.Time
}

// Adapt implements audio.Adapter.
func (e *encoder) Adapt(r audio.Reported) error {
	e.link.hear(r, e.plan.bitrate)
	before := e.plan.bitrate
	err := e.adopt()
	e.link.moved = e.plan.bitrate - before
	return err
}

// adopt puts the plan in force that what is known leads to.
func (e *encoder) adopt() error {
	p := e.wishes.against(e.link.lost, e.packet, e.link.room, e.pace)
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
	if err := e.e.SetComplexity(p.complexity); err != nil {
		return fmt.Errorf("opus: set complexity of %d: %w", p.complexity, err)
	}
	return nil
}

func (e *encoder) Encode(b []byte, pcm []int16) (int, error) {
	// The library looks at capacities: b must end where it ends.
	from := e.now()
	n, err := e.e.Encode(pcm, b[:len(b):len(b)])
	if err != nil {
		return 0, fmt.Errorf("opus: encode: %w", err)
	}
	if e.pace.took(e.now().Sub(from), e.packet, e.plan.complexity) {
		if err := e.adopt(); err != nil {
			return 0, err
		}
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
