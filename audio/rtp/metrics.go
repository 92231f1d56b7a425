package rtp

import (
	"math"
	"time"

	"github.com/pion/rtcp"
)

// Metrics are how a call is heard at one end (RFC 3611, section 4.7), as far as we
// know them or are told: levels and echo are not among them.
type Metrics struct {
	SSRC uint32 // of the source that is heard
	// Parts of all packets, 0 to 1, since its beginning: those that did not come, and
	// those that came too late to be played.
	Lost, Discarded float64
	// Parts of the packets in bursts and of those in gaps that are either, and how long
	// a burst and a gap last in the mean; at most 65.535 s is said.
	BurstDensity, GapDensity float64
	Burst, Gap               time.Duration
	RoundTrip                time.Duration // of the network; 0: unknown
	EndSystem                time.Duration // what the end adds: a packet's length, and the buffer
	R                        float64       // by the E-model (ITU-T G.107), 0 to 100; NaN: unknown
	// Mean opinion, 1 to 5, of what is heard alone and of talking, which suffers from
	// delay as well; NaN: unknown.
	Listening, Conversing float64
	// The playout buffer: how long it waits now, and for how long at most.
	Buffer, BufferMost time.Duration
}

// Values of the block's fields (RFC 3611, sections 4.7.4 to 4.7.6).
const (
	unavailable = 127
	enhanced    = 2 << 6 // concealment that goes on with the voice
	adaptive    = 3 << 4 // a playout buffer that follows the network
	quickly     = 1      // which takes two packets at most
)

// block is m as it is sent.
func (m Metrics) block() *rtcp.VoIPMetricsReportBlock {
	b := &rtcp.VoIPMetricsReportBlock{
		SSRC:           m.SSRC,
		LossRate:       of256(m.Lost),
		DiscardRate:    of256(m.Discarded),
		BurstDensity:   of256(m.BurstDensity),
		GapDensity:     of256(m.GapDensity),
		BurstDuration:  inMS(m.Burst),
		GapDuration:    inMS(m.Gap),
		RoundTripDelay: inMS(m.RoundTrip),
		EndSystemDelay: inMS(m.EndSystem),
		SignalLevel:    unavailable,
		NoiseLevel:     unavailable,
		RERL:           unavailable,
		Gmin:           gapMin,
		RFactor:        unavailable,
		ExtRFactor:     unavailable,
		MOSLQ:          unavailable,
		MOSCQ:          unavailable,
		RXConfig:       enhanced | adaptive | quickly,
		JBNominal:      inMS(m.Buffer),
		JBMaximum:      inMS(m.BufferMost),
		JBAbsMax:       inMS(m.BufferMost),
	}
	if m.R >= 0 && m.R <= 100 {
		b.RFactor = uint8(math.Round(m.R))
	}
	for to, opinion := range map[*uint8]float64{&b.MOSLQ: m.Listening, &b.MOSCQ: m.Conversing} {
		if opinion >= 1 && opinion <= 5 {
			*to = uint8(math.Round(10 * opinion))
		}
	}
	return b
}

// metricsOf is what a peer says, in which what cannot be is unknown.
func metricsOf(b *rtcp.VoIPMetricsReportBlock) Metrics {
	m := Metrics{
		SSRC:         b.SSRC,
		Lost:         float64(b.LossRate) / 256,
		Discarded:    float64(b.DiscardRate) / 256,
		BurstDensity: float64(b.BurstDensity) / 256,
		GapDensity:   float64(b.GapDensity) / 256,
		Burst:        time.Duration(b.BurstDuration) * time.Millisecond,
		Gap:          time.Duration(b.GapDuration) * time.Millisecond,
		RoundTrip:    time.Duration(b.RoundTripDelay) * time.Millisecond,
		EndSystem:    time.Duration(b.EndSystemDelay) * time.Millisecond,
		R:            math.NaN(),
		Listening:    opinion(b.MOSLQ),
		Conversing:   opinion(b.MOSCQ),
		Buffer:       time.Duration(b.JBNominal) * time.Millisecond,
		BufferMost:   time.Duration(b.JBAbsMax) * time.Millisecond,
	}
	if b.RFactor <= 100 {
		m.R = float64(b.RFactor)
	}
	return m
}

// opinion reads tenths.
func opinion(tenths uint8) float64 {
	if tenths < 10 || tenths > 50 {
		return math.NaN()
	}
	return float64(tenths) / 10
}

func of256(part float64) uint8 { return uint8(256 * min(max(part, 0), 255.0/256)) }

func inMS(d time.Duration) uint16 {
	return uint16(min(max(d.Milliseconds(), 0), math.MaxUint16))
}
