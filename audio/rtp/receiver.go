package rtp

import "time"

// Limits of RFC 3550, appendix A.1.
const (
	maxDropout    = 3000 // a jump ahead that is still loss
	maxMisorder   = 100  // a step back that is still reordering
	minSequential = 2    // packets in order before a source is believed
)

// A Verdict says what to do with a packet.
type Verdict int

// The verdicts.
const (
	Drop    Verdict = iota // of no source that is believed yet
	Keep                   // of the source that is heard
	Restart                // the first of another source, or of one that began anew
)

// A Receiver keeps the books of the source that is heard: RFC 3550, appendices
// A.1 (sequence numbers), A.3 (loss) and A.8 (jitter). It belongs to one
// goroutine. The zero value hears nobody yet.
//
// One source is heard at a time. The first one is heard at once, so that the
// beginning of a call is not cut; a packet of another is taken for a stray
// until a second one follows it in order.
type Receiver struct {
	heard    bool
	ssrc     uint32
	clock    int // RTP timestamp units per second
	maxSeq   uint16
	cycles   uint32 // wraps of the sequence number, shifted by 16
	baseSeq  uint32
	received uint32
	// totals of the sources heard before
	lostBefore uint64
	// of the last report
	expectedPrior, receivedPrior uint32
	// jitter, in timestamp units, scaled by 16
	transit  int32
	jitter   uint32
	first    time.Time
	measured bool // transit is of the clock that we have now
	// of RFC 3611: the newest packets, the bits of those that came, the newest lowest;
	// what can come no more is in gone
	window    uint64
	windowed  int // packets in window
	gone      bursts
	discarded uint32
	follows   bool   // the packet that was added last is the one after that measured last
	timestamp uint32 // measured last
	length    uint32 // of a packet, in timestamp units; 0: unknown
	// the source or position that may take over
	next struct {
		ssrc uint32
		seq  uint16
		run  int
	}
}

// Reset makes r ready to hear a source of the given clock; totals remain.
func (r *Receiver) Reset(clock int) {
	*r = Receiver{clock: clock, lostBefore: r.Lost()}
}

// Add takes the next packet, which arrived now.
func (r *Receiver) Add(p *Packet, now time.Time) Verdict {
	if !r.heard {
		r.begin(p, now)
		return Restart
	}
	if p.SSRC != r.ssrc {
		return r.candidate(p, now)
	}
	ahead := p.Sequence - r.maxSeq
	r.follows = ahead == 1
	switch {
	case ahead < maxDropout:
		if p.Sequence < r.maxSeq {
			r.cycles += 1 << 16
		}
		r.maxSeq = p.Sequence
		r.pass(int(ahead))
	case ahead <= 0xffff-maxMisorder:
		return r.candidate(p, now)
	}
	r.mark(p.Sequence, true)
	r.next.run = 0
	r.received++
	return Keep
}

// candidate counts packets that stand for another source, or for the same one
// after a jump. The second in order makes it the one that is heard.
func (r *Receiver) candidate(p *Packet, now time.Time) Verdict {
	if r.next.run > 0 && r.next.ssrc == p.SSRC && r.next.seq == p.Sequence {
		r.next.run++
	} else {
		r.next.run = 1
	}
	r.next.ssrc, r.next.seq = p.SSRC, p.Sequence+1
	if r.next.run < minSequential {
		return Drop
	}
	r.begin(p, now)
	return Restart
}

func (r *Receiver) begin(p *Packet, now time.Time) {
	*r = Receiver{
		heard:      true,
		ssrc:       p.SSRC,
		clock:      r.clock,
		maxSeq:     p.Sequence,
		baseSeq:    uint32(p.Sequence),
		received:   1,
		lostBefore: r.Lost(),
		first:      now,
		measured:   true,
		window:     1,
		windowed:   1,
	}
	r.transit, r.timestamp = -int32(p.Timestamp), p.Timestamp
}

// recent is how many packets may still come, out of order.
const recent = 64

// pass moves the window on by n packets.
func (r *Receiver) pass(n int) {
	for range n {
		if r.windowed == recent {
			r.gone.add(r.window>>(recent-1) != 0)
		} else {
			r.windowed++
		}
		r.window <<= 1
	}
}

// mark says of a packet whether it came in time.
func (r *Receiver) mark(sequence uint16, came bool) {
	back := r.maxSeq - sequence
	switch {
	case int(back) >= r.windowed:
	case came:
		r.window |= 1 << back
	default:
		r.window &^= 1 << back
	}
}

// Discard says of a packet that was kept that it came too late to be played.
func (r *Receiver) Discard(sequence uint16) {
	if !r.heard {
		return
	}
	r.discarded++
	r.mark(sequence, false)
}

// Metrics returns what is known here of how the source is heard, and false while
// nobody is. The last packets, which may still come, are in the totals alone.
func (r *Receiver) Metrics() (Metrics, bool) {
	if !r.heard {
		return Metrics{}, false
	}
	expected := float64(r.expected())
	m := Metrics{
		SSRC:      r.ssrc,
		Lost:      max(0, float64(int32(r.expected()-r.received))) / expected,
		Discarded: min(1, float64(r.discarded)/expected),
	}
	var length time.Duration
	if r.clock != 0 {
		length = time.Duration(r.length) * time.Second / time.Duration(r.clock)
	}
	m.BurstDensity, m.GapDensity, m.Burst, m.Gap = r.gone.figures(length)
	m.EndSystem = length
	return m, true
}

// SetClock says what the timestamps count from the next packet on, since another
// codec may have another clock (RFC 7160).
func (r *Receiver) SetClock(clock int) {
	if clock == r.clock {
		return
	}
	if r.clock != 0 {
		r.jitter = uint32(int64(r.jitter) * int64(clock) / int64(r.clock))
		r.length = uint32(int64(r.length) * int64(clock) / int64(r.clock))
	}
	r.clock, r.measured = clock, false
}

// Measure takes the timestamp of a packet that was kept and arrived now into
// the jitter. Packets whose timestamp is not that of their sending, as those of
// telephone events, are not measured.
func (r *Receiver) Measure(timestamp uint32, now time.Time) {
	arrival := int64(now.Sub(r.first)) * int64(r.clock) / int64(time.Second)
	transit := int32(uint32(arrival) - timestamp)
	if step := timestamp - r.timestamp; r.measured && r.follows && step > 0 && step <= uint32(r.clock)/5 {
		r.length = step
	}
	r.timestamp = timestamp
	d := transit - r.transit
	r.transit = transit
	if !r.measured {
		r.measured = true
		return
	}
	if d < 0 {
		d = -d
	}
	if int(d) > r.clock*10 || d < 0 {
		return // the timestamp jumped; that is not the network's jitter
	}
	r.jitter += uint32(d) - (r.jitter+8)>>4
}

func (r *Receiver) expected() uint32 {
	if !r.heard {
		return 0
	}
	return r.cycles + uint32(r.maxSeq) - r.baseSeq + 1
}

// Lost returns how many packets did not arrive, of all sources heard so far.
// Duplicates count as arrivals, so that it never falls below zero.
func (r *Receiver) Lost() uint64 {
	if lost := int32(r.expected() - r.received); lost > 0 {
		return r.lostBefore + uint64(lost)
	}
	return r.lostBefore
}

// Jitter returns the interarrival jitter.
func (r *Receiver) Jitter() time.Duration {
	if r.clock == 0 {
		return 0
	}
	return time.Duration(r.jitter>>4) * time.Second / time.Duration(r.clock)
}

// A Reception is a report block without the times of sender reports.
type Reception struct {
	SSRC         uint32
	FractionLost uint8  // of 256, since the last report
	TotalLost    uint32 // 24 bits signed, clamped (RFC 3550, section 6.4.1)
	Highest      uint32 // extended sequence number
	Jitter       uint32 // in timestamp units
}

// Report returns the block for the next RTCP packet, and begins the next
// interval. It returns false while nobody is heard.
func (r *Receiver) Report() (Reception, bool) {
	if !r.heard {
		return Reception{}, false
	}
	expected := r.expected()
	lost := int64(int32(expected - r.received))
	lost = min(max(lost, -0x800000), 0x7fffff)
	b := Reception{
		SSRC:      r.ssrc,
		TotalLost: uint32(lost) & 0xffffff,
		Highest:   r.cycles + uint32(r.maxSeq),
		Jitter:    r.jitter >> 4,
	}
	expectedNow, receivedNow := expected-r.expectedPrior, r.received-r.receivedPrior
	r.expectedPrior, r.receivedPrior = expected, r.received
	if missing := int32(expectedNow - receivedNow); expectedNow != 0 && missing > 0 {
		b.FractionLost = uint8(min(uint64(missing)<<8/uint64(expectedNow), 255))
	}
	return b, true
}
