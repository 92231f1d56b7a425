package audio

import (
	"errors"
	"math/rand/v2"
	"time"

	"flexphone/audio/rtp"
)

// reportInterval is the mean time between two reports; each is drawn from half to
// one and a half of it (RFC 3550, section 6.2 and 6.3.1), and the first comes
// after half of that.
const reportInterval = 5 * time.Second

// listen takes what comes by the path until that is closed.
func (s *Stream) listen() {
	defer close(s.inDigits)
	defer s.survive()
	r := &reader{stream: s}
	if err := s.path.Receive(r.take); err != nil {
		s.log.Error("call hears nothing any more", "err", err)
	}
}

// A reader is a stream's receiving end up to the inbox. The path calls it by one
// goroutine at a time for each protocol, and what is here is of RTP.
type reader struct {
	stream  *Stream
	parser  rtp.Parser
	packet  rtp.Packet
	events  rtp.Events
	newPeer bool // the next packet is the first of another peer
	restart bool // the next packet of sound is the first of another source
}

// take takes what the path brings. The goroutine may be the path's own, which is
// to outlive a panic here.
func (r *reader) take(d Datagram) {
	defer r.stream.survive()
	switch d.Protocol {
	case RTP:
		r.arrive(d)
	case RTCP:
		r.stream.arriveReport(d.Bytes, d.At)
	}
}

func (r *reader) arrive(d Datagram) {
	s, p := r.stream, &r.packet
	r.newPeer = r.newPeer || d.NewPeer
	l := s.leg.Load()
	if l == nil || r.parser.Parse(p, d.Bytes) != nil {
		s.refused.Add(1)
		return
	}
	what := l.receive[p.PayloadType&0x7f]
	if what.kind == nothing {
		s.refused.Add(1)
		return
	}
	verdict := r.book(l, what, d.At)
	switch verdict {
	case rtp.Drop:
		s.refused.Add(1)
		return
	case rtp.Restart:
		r.restart = true
		r.events.Reset()
	}
	s.packetsReceived.Add(1)
	if what.kind == digit {
		r.press(p)
		return
	}
	if !l.session.Recv {
		return
	}
	if !s.inbox.put(l.ear, what.coding, p, d.At, r.restart) {
		s.crowded.Add(1)
		return
	}
	r.restart = false
}

// book enters the packet into the books, which say what to do with it.
func (r *reader) book(l *leg, what format, at time.Time) rtp.Verdict {
	s, p := r.stream, &r.packet
	s.books.Lock()
	defer s.books.Unlock()
	if r.newPeer {
		r.newPeer = false
		s.heard.Reset(l.session.Codec.ClockRate) // whoever is there now is heard at once
	}
	verdict := s.heard.Add(p, at)
	if what.kind == sound && verdict != rtp.Drop {
		s.heard.SetClock(what.coding.Clock)
		s.heard.Measure(p.Timestamp, at)
	}
	return verdict
}

func (r *reader) press(p *rtp.Packet) {
	key, pressed, err := r.events.Add(p.Timestamp, p.Payload)
	if err != nil {
		r.stream.refused.Add(1)
		return
	}
	if !pressed {
		return
	}
	select {
	case r.stream.inDigits <- key:
	default: // nobody listens
	}
}

// receive fills s.in with a tick of n samples, which begins now, or makes it nil
// where nothing is to be heard.
func (s *Stream) receive(n int, now time.Time) {
	s.in = nil
	l := s.leg.Load()
	for a := s.inbox.next(); a != nil; a = s.inbox.next() {
		if l != nil && a.ear == l.ear && !l.ear.take(a) {
			s.books.Lock()
			s.heard.Discard(a.sequence)
			s.books.Unlock()
		}
		s.inbox.done()
	}
	if l == nil || !l.session.Recv || l.ear.rate != n*ticksPerSecond {
		return
	}
	e := l.ear
	e.buffer.Play(e.pcm, now)
	s.in = e.pcm
	s.delay.Store(int64(e.buffer.Delay()))
	late, made := e.buffer.Late(), e.buffer.Concealed()
	s.late.Add(late - e.late)
	s.concealed.Add(int64(made - e.concealed))
	e.late, e.concealed = late, made
}

// take puts what arrived into the buffer, and reports whether it was in time.
func (e *ear) take(a *arrival) bool {
	if a.restart {
		e.buffer.Reset()
	}
	before := e.buffer.Late()
	if a.coding == nil {
		e.buffer.PutSilence(a.sequence, a.timestamp, a.payload[:a.size])
	} else {
		e.buffer.Put(a.coding, a.sequence, a.timestamp, a.at, a.payload[:a.size])
	}
	return e.buffer.Late() == before
}

func (s *Stream) arriveReport(b []byte, now time.Time) {
	if s.leg.Load() == nil {
		s.refused.Add(1)
		return
	}
	s.books.Lock()
	defer s.books.Unlock()
	if err := s.control.Receive(b, s.sent.SSRC, now); err != nil {
		s.refused.Add(1)
		return
	}
	s.reportsReceived.Add(1)
	lost, reports := s.control.Lost()
	s.reported.Store(packed(reports, s.control.RoundTrip(), lost))
}

// report sends reports until the stream is closed.
func (s *Stream) report() {
	defer s.survive()
	interval := func(mean time.Duration) time.Duration { return mean/2 + rand.N(mean) }
	t := time.NewTimer(interval(reportInterval / 2))
	defer t.Stop()
	for {
		select {
		case <-s.done:
			return
		case now := <-t.C:
			s.sendReport(now, false)
			t.Reset(interval(reportInterval))
		}
	}
}

// sendReport sends what we sent and heard to the peer, if there is one yet.
func (s *Stream) sendReport(now time.Time, last bool) {
	l := s.leg.Load()
	if l == nil {
		return
	}
	stats := s.Stats()
	s.books.Lock()
	sent := s.sent
	if sent.SSRC == 0 {
		sent.SSRC = l.ssrc // we only listen; the source has not begun
	}
	sent.Lately = sent.Packets != s.lastSent
	s.lastSent = sent.Packets
	var heard *rtp.Reception
	if r, ok := s.heard.Report(); ok {
		heard = &r
	}
	var metrics *rtp.Metrics
	if m, ok := s.heard.Metrics(); ok && l.session.Metrics {
		metrics = stats.tell(m)
	}
	b, err := s.control.Report(now, sent, heard, metrics, last)
	s.books.Unlock()
	if err == nil {
		err = s.path.Send(RTCP, b)
	}
	if err != nil && !errors.Is(err, ErrNoPeer) {
		s.log.Debug("report not sent", "err", err)
	}
}
