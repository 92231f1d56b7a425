package rtp

import "time"

// gapMin is Gmin: so many packets that came, one after the other, end a burst
// (RFC 3611, section 4.7.2, recommends it).
const gapMin = 16

// bursts sorts what is missing of a source into bursts and gaps (RFC 3611, section
// 4.7.2): a burst begins and ends with a packet that is missing, and within it fewer
// than gapMin in a row came. One that is missing alone is in a gap. It is told of packets
// in their order.
type bursts struct {
	packets    uint32 // in all
	missing    uint32 // of these
	since      uint32 // that came, since the last one that is missing
	run        uint32 // packets from the first to the last missing one of what may be a burst
	runMissing uint32 // of these
	in         uint32 // packets of bursts that are over
	inMissing  uint32 // of these
	happened   uint32 // bursts that are over
	any        bool   // something has been missing
}

// add takes the next packet: it came, or it is missing.
func (b *bursts) add(came bool) {
	b.packets++
	if came {
		b.since++
		return
	}
	b.missing++
	if b.any && b.since < gapMin {
		b.run += b.since + 1
		b.runMissing++
	} else {
		b.end()
		b.run, b.runMissing = 1, 1
	}
	b.since, b.any = 0, true
}

// end counts the run in, if it is a burst.
func (b *bursts) end() {
	if b.runMissing > 1 {
		b.in, b.inMissing, b.happened = b.in+b.run, b.inMissing+b.runMissing, b.happened+1
	}
}

// figures are what is said of packets of a length each: which parts of those in
// bursts and in gaps are missing, and how long either lasts in the mean.
func (b bursts) figures(length time.Duration) (burstDensity, gapDensity float64, burst, gap time.Duration) {
	b.end()
	share := func(of, all uint32) float64 {
		if all == 0 {
			return 0
		}
		return float64(of) / float64(all)
	}
	mean := func(packets, times uint32) time.Duration {
		if times == 0 {
			return 0
		}
		return time.Duration(packets) * length / time.Duration(times)
	}
	outside := b.packets - b.in
	return share(b.inMissing, b.in), share(b.missing-b.inMissing, outside), mean(b.in, b.happened), mean(outside, b.happened+1)
}
