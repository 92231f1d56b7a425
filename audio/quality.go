package audio

import (
	"time"

	"flexphone/audio/emodel"
	"flexphone/audio/jitter"
	"flexphone/audio/rtp"
)

// Rating is R by the E-model (package emodel), 0 to 93.2, of what a stream hears: what
// was lost or late of all that was sent, and how late the rest is heard, but for what
// the sound cards and the peer's buffer take.
func (s Stats) Rating() float64 { return s.rating(s.RoundTrip/2 + s.Delay) }

// rating is R where sound is heard so much later than it was said.
func (s Stats) rating(delay time.Duration) float64 {
	lost := 0.0
	if sent := s.PacketsReceived + s.PacketsLost; sent > 0 {
		lost = float64(s.PacketsLost+s.Late) / float64(sent)
	}
	return emodel.R(emodel.Of(s.Codec), lost, float64(delay)/float64(time.Millisecond))
}

// tell is what the peer is told of how it is heard: m, which has the packets, and the
// rest.
func (s Stats) tell(m rtp.Metrics) *rtp.Metrics {
	m.RoundTrip = s.RoundTrip
	m.EndSystem += s.Delay
	m.R = s.Rating()
	m.Listening, m.Conversing = emodel.MOS(s.rating(0)), emodel.MOS(m.R)
	m.Buffer, m.BufferMost = s.Delay, jitter.Most
	return &m
}
