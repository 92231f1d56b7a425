package audio

import (
	"errors"
	"time"

	"flexphone/audio/noise"
	"flexphone/audio/rtp"
)

// Timing of a digit (RFC 4733, section 2.5.1).
const (
	digitTime = 100 * time.Millisecond
	digitEnds = 3 // times the last packet is sent, since each may be lost
	digitGap  = 2 // packets of sound before the next digit
	// digitVolume is told to a peer that makes a tone of it, in -dBm0.
	digitVolume = 10
)

// A sender is a stream's sending end. It belongs to the engine's goroutine.
type sender struct {
	leg        *leg
	ssrc       uint32
	sequence   uint16
	timestamp  uint32 // of the next packet's first sample
	resumed    bool   // sound was sent before this packet (else it is marked)
	packet     []byte // header and payload
	complained bool

	digit struct {
		active   bool
		code     uint8
		begun    bool
		start    uint32 // timestamp
		duration time.Duration
		ends     int // last packets sent
		gap      int // packets before the next
	}
}

// send takes a tick of sound, and sends a packet if it completes one.
func (s *Stream) send(pcm []int16) {
	l := s.leg.Load()
	if l == nil || l.ear.rate != len(pcm)*ticksPerSecond {
		return
	}
	o := &s.out
	if l != o.leg {
		o.adopt(l)
	}
	m := l.mouth
	m.have += copy(m.frame[m.have:], pcm)
	if m.have < len(m.frame) {
		return
	}
	m.have = 0
	if l.session.Send {
		s.sendPacket(l)
	} else {
		o.resumed = false
		o.digit.active = false
	}
	o.timestamp += units(l.session.PacketTime, l.session.Codec.ClockRate)
}

func units(d time.Duration, clock int) uint32 {
	return uint32(d * time.Duration(clock) / time.Second)
}

// adopt begins to send as l says. Timestamps go on; but one source has one
// clock, so that with another clock another source begins (RFC 7160).
func (o *sender) adopt(l *leg) {
	if o.leg == nil || o.leg.session.Codec.ClockRate != l.session.Codec.ClockRate {
		o.ssrc = l.ssrc
		o.resumed = false
		o.digit.active = false
	}
	o.leg = l
}

// A pause is what a peer is told while nobody speaks.
type pause struct {
	meter  *noise.Meter
	length time.Duration // of a packet
	silent bool          // and was told so
	level  byte          // as it was told
	since  time.Duration // it was told
}

// Timing of comfort noise. It is told at once when silence begins, when the room has
// become louder or quieter by 3 dB, which is heard, and now and then: so that it is
// known where the first packet was lost, and that we are there.
const (
	noiseStep   = 3 // dB
	noiseSoon   = 100 * time.Millisecond
	noiseAtMost = time.Second
)

// silence takes a frame, and reports whether the peer need not be sent it. A packet
// of n bytes, if n is not 0, is due in its place.
func (p *pause) silence(frame []int16, b []byte) (n int, ok bool) {
	if p.meter.Voice(frame) {
		p.silent = false
		return 0, false
	}
	p.since += p.length
	level := p.meter.Level()
	moved := max(level, p.level)-min(level, p.level) >= noiseStep && p.since >= noiseSoon
	if p.silent && !moved && p.since < noiseAtMost {
		return 0, true
	}
	p.silent, p.level, p.since = true, level, 0
	return p.meter.Describe(b), true
}

// sendPacket sends the frame, or a digit in its place.
func (s *Stream) sendPacket(l *leg) {
	o := &s.out
	p := rtp.Packet{Sequence: o.sequence, SSRC: o.ssrc}
	payload := o.packet[rtp.HeaderSize:]
	size, silent := 0, false
	if l.mouth.pause != nil {
		size, silent = l.mouth.pause.silence(l.mouth.frame, payload)
	}
	if s.nextDigit(l) {
		p.PayloadType = l.session.DTMF
		p.Marker = !o.digit.begun
		size = o.putDigit(l)
		p.Timestamp = o.digit.start
	} else if silent {
		o.resumed = false
		if size == 0 {
			return
		}
		p.PayloadType, p.Timestamp = l.session.Noise, o.timestamp
	} else {
		if err := l.mouth.adapt(s.reported.Load()); err != nil {
			s.complain(err)
		}
		n, err := l.mouth.encoder.Encode(payload, l.mouth.frame)
		if err != nil {
			s.complain(err)
			return
		}
		if n == 0 {
			o.resumed = false
			return
		}
		p.PayloadType = l.session.Codec.PayloadType
		p.Timestamp, p.Marker = o.timestamp, !o.resumed
		o.resumed = true
		size = n
	}
	if err := p.PutHeader(o.packet); err != nil {
		s.complain(err)
		return
	}
	now := time.Now()
	err := s.path.Send(RTP, o.packet[:rtp.HeaderSize+size])
	if errors.Is(err, ErrNoPeer) {
		o.pause()
		return
	}
	o.sequence++
	if err != nil {
		s.complain(err)
		return
	}
	o.complained = false
	s.packetsSent.Add(1)
	s.books.Lock()
	if s.sent.SSRC != o.ssrc {
		s.sent = rtp.Sent{SSRC: o.ssrc}
		s.lastSent = 0
	}
	s.sent.Packets++
	s.sent.Octets += uint32(size)
	s.sent.Timestamp, s.sent.At, s.sent.Clock = o.timestamp, now, l.session.Codec.ClockRate
	s.books.Unlock()
}

// adapt tells the encoder what was reported of it, once.
func (m *mouth) adapt(reported uint64) error {
	if reported == m.reported {
		return nil
	}
	m.reported = reported
	if a, ok := m.encoder.(Adapter); ok {
		return a.Adapt(unpacked(reported))
	}
	return nil
}

// packed is a report in a word: how often there was one, so that each is another, the
// round trip in ms, and what was lost of 256.
func packed(reports uint32, trip time.Duration, of256 uint8) uint64 {
	return uint64(reports)<<32 | uint64(min(trip.Milliseconds(), 1<<24-1))<<8 | uint64(of256)
}

func unpacked(w uint64) Reported {
	return Reported{Lost: float64(w&0xff) / 256, RoundTrip: time.Duration(w>>8&(1<<24-1)) * time.Millisecond}
}

// pause is the state in which nobody is there: what is sent next is a beginning,
// and a digit under way begins again.
func (o *sender) pause() {
	o.resumed = false
	d := &o.digit
	d.begun, d.duration, d.ends = false, 0, 0
}

// complain counts a packet that was not sent, and logs the first of a row.
func (s *Stream) complain(err error) {
	s.unsent.Add(1)
	if !s.out.complained {
		s.out.complained = true
		s.log.Warn("sound not sent", "err", err)
	}
}

// nextDigit reports whether a digit is sent now, and begins the next one.
func (s *Stream) nextDigit(l *leg) bool {
	o := &s.out
	d := &o.digit
	if d.active {
		return true
	}
	if d.gap > 0 {
		d.gap--
		return false
	}
	if l.session.DTMF == 0 {
		return false
	}
	select {
	case code := <-s.outDigits:
		d.active, d.code, d.begun, d.duration, d.ends = true, code, false, 0, 0
		return true
	default:
		return false
	}
}

// putDigit writes the digit's next packet and returns its length. All packets
// of a digit have the timestamp of its beginning.
func (o *sender) putDigit(l *leg) int {
	d := &o.digit
	if !d.begun {
		d.begun, d.start = true, o.timestamp
	}
	if d.duration < digitTime {
		d.duration = min(d.duration+l.session.PacketTime, digitTime)
	}
	e := rtp.Event{
		Code:     d.code,
		Volume:   digitVolume,
		Duration: uint16(units(d.duration, l.session.DTMFClock)),
	}
	if d.duration == digitTime {
		e.End = true
		if d.ends++; d.ends == digitEnds {
			d.active, d.gap = false, digitGap
			o.resumed = false
		}
	}
	e.Put(o.packet[rtp.HeaderSize:])
	return rtp.EventSize
}
