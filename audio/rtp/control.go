package rtp

import (
	"fmt"
	"time"

	"github.com/pion/rtcp"
)

// ntpEpoch is 1 January 1970 in seconds of NTP (RFC 5905, section 6).
const ntpEpoch = 2208988800

// NTP returns t as an NTP timestamp: seconds since 1900 in 32.32 fixed point.
func NTP(t time.Time) uint64 {
	s := uint64(t.Unix()) + ntpEpoch
	return s<<32 | uint64(t.Nanosecond())<<32/1e9
}

// A Sent is what a sender report says of the packets sent so far.
type Sent struct {
	SSRC      uint32
	Packets   uint32
	Octets    uint32    // of payload
	Timestamp uint32    // RTP time at At
	At        time.Time // when Timestamp was now
	Clock     int       // of Timestamp
	Lately    bool      // something was sent since the last report
}

// Control writes and reads one call's RTCP (RFC 3550, section 6). It belongs
// to one goroutine.
type Control struct {
	cname string
	// of the peer's last sender report
	lastSR   uint32
	lastSRAt time.Time
	lastSSRC uint32
	trip     time.Duration
	told     uint32 // reports on us
	lost     uint8
	metrics  Metrics // of the peer, on us
	measured bool    // there are some
}

// NewControl returns a Control that names us cname, which ought not to say who
// we are (RFC 7022).
func NewControl(cname string) *Control { return &Control{cname: cname} }

// RoundTrip returns the last measured time to the peer and back; 0 until known.
func (c *Control) RoundTrip() time.Duration { return c.trip }

// Lost returns the part of what we sent that did not arrive, of 256, as the peer's
// last report on us says it of the time since the one before; and how many of
// these there were.
func (c *Control) Lost() (of256 uint8, reports uint32) { return c.lost, c.told }

// Metrics returns how the peer hears us, as it said last, and whether it ever did.
func (c *Control) Metrics() (Metrics, bool) { return c.metrics, c.measured }

// Report returns a compound packet: a sender report if something was sent,
// else a receiver report, with a block on the source heard if there is one, the
// source's description, metrics if there are any to be told (RFC 3611), and a BYE if
// this is the last.
func (c *Control) Report(now time.Time, sent Sent, heard *Reception, metrics *Metrics, last bool) ([]byte, error) {
	var blocks []rtcp.ReceptionReport
	if heard != nil {
		b := rtcp.ReceptionReport{
			SSRC:               heard.SSRC,
			FractionLost:       heard.FractionLost,
			TotalLost:          heard.TotalLost,
			LastSequenceNumber: heard.Highest,
			Jitter:             heard.Jitter,
		}
		if c.lastSR != 0 && c.lastSSRC == heard.SSRC {
			b.LastSenderReport = c.lastSR
			b.Delay = uint32(now.Sub(c.lastSRAt) * 65536 / time.Second)
		}
		blocks = append(blocks, b)
	}
	var packets []rtcp.Packet
	if sent.Lately {
		elapsed := now.Sub(sent.At)
		packets = append(packets, &rtcp.SenderReport{
			SSRC:        sent.SSRC,
			NTPTime:     NTP(now),
			RTPTime:     sent.Timestamp + uint32(int64(elapsed)*int64(sent.Clock)/int64(time.Second)),
			PacketCount: sent.Packets,
			OctetCount:  sent.Octets,
			Reports:     blocks,
		})
	} else {
		packets = append(packets, &rtcp.ReceiverReport{SSRC: sent.SSRC, Reports: blocks})
	}
	packets = append(packets, rtcp.NewCNAMESourceDescription(sent.SSRC, c.cname))
	if metrics != nil {
		packets = append(packets, &rtcp.ExtendedReport{SenderSSRC: sent.SSRC, Reports: []rtcp.ReportBlock{metrics.block()}})
	}
	if last {
		packets = append(packets, &rtcp.Goodbye{Sources: []uint32{sent.SSRC}})
	}
	b, err := rtcp.Marshal(packets)
	if err != nil {
		return nil, fmt.Errorf("rtp: write report: %w", err)
	}
	return b, nil
}

// Receive takes a compound packet of the peer, which arrived now; ours is the
// source that its report blocks are searched for.
func (c *Control) Receive(b []byte, ours uint32, now time.Time) error {
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		return fmt.Errorf("rtp: parse report: %w", err)
	}
	for _, p := range packets {
		switch p := p.(type) {
		case *rtcp.SenderReport:
			c.lastSR, c.lastSRAt, c.lastSSRC = uint32(p.NTPTime>>16), now, p.SSRC
			c.measure(p.Reports, ours, now)
		case *rtcp.ReceiverReport:
			c.measure(p.Reports, ours, now)
		case *rtcp.ExtendedReport:
			for _, b := range p.Reports {
				if v, ok := b.(*rtcp.VoIPMetricsReportBlock); ok && v.SSRC == ours {
					c.metrics, c.measured = metricsOf(v), true
				}
			}
		}
	}
	return nil
}

// measure takes what is said of us, and computes the round trip: now - LSR - DLSR
// (section 6.4.1).
func (c *Control) measure(blocks []rtcp.ReceptionReport, ours uint32, now time.Time) {
	for _, b := range blocks {
		if b.SSRC != ours {
			continue
		}
		c.lost = b.FractionLost
		c.told++
		if b.LastSenderReport == 0 {
			continue
		}
		d := int32(uint32(NTP(now)>>16) - b.LastSenderReport - b.Delay)
		// Clocks that step and peers that round give small negative values;
		// a minute says that the peer's figures are made up.
		if d < 0 || d > 60*65536 {
			continue
		}
		c.trip = time.Duration(d) * time.Second / 65536
	}
}
