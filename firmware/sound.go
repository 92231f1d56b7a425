package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"flexphone/audio"
	"flexphone/audio/g711"
	"flexphone/audio/g722"
	"flexphone/audio/opus"
	"flexphone/audio/udp"
	"flexphone/firmware/internal/media"
	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/sip"
	"flexphone/hal"
)

// clickFor is how long a key is heard by whoever presses it.
const clickFor = 80 * time.Millisecond

// telephone-event (RFC 4733), and its payload types; the dynamic range of RFC 3551.
const (
	eventName    = "telephone-event"
	eventType48k = 110
	eventType8k  = 101
)

// formats are what the engine can carry.
func formats() []audio.Format {
	return []audio.Format{opus.Format{}, g722.Format{}, g711.PCMA(), g711.PCMU()}
}

// codecs are formats as SDP names them, preferred first, and digits at the clock
// of each of them.
func codecs() []media.Codec {
	var cs []media.Codec
	for _, f := range formats() {
		c := f.Codec()
		s := media.Codec{Name: c.Name, PayloadType: c.PayloadType, ClockRate: c.ClockRate, Channels: 1}
		if c.Name == "opus" {
			s.Channels, s.Params = 2, "useinbandfec=1" // RFC 7587: the name says 2, whatever is sent
		}
		cs = append(cs, s)
	}
	return append(cs,
		media.Codec{Name: eventName, PayloadType: eventType48k, ClockRate: 48000, Channels: 1, Params: "0-15"},
		media.Codec{Name: eventName, PayloadType: eventType8k, ClockRate: 8000, Channels: 1, Params: "0-15"})
}

// sound is the audio engine as call control sees it.
type sound struct {
	engine  *audio.Engine
	tones   map[phone.Tone]audio.Tone
	address func(peer netip.Addr) netip.Addr
	traced  func(audio.Path) audio.Path // a path, traced if that is wanted
}

func newSound(engine *audio.Engine, address func(peer netip.Addr) netip.Addr, traced func(audio.Path) audio.Path) *sound {
	set := audio.Germany()
	return &sound{engine: engine, address: address, traced: traced, tones: map[phone.Tone]audio.Tone{
		phone.ToneDial: set.Dial, phone.ToneRing: set.Ringback, phone.ToneBusy: set.Busy,
		phone.ToneCongestion: set.Congestion, phone.ToneSIT: set.Unknown, phone.ToneAlert: set.Ringing,
	}}
}

// Play implements phone.Sound.
func (s *sound) Play(t phone.Tone) { s.engine.Play(s.tones[t]) }

// Click implements phone.Sound.
func (s *sound) Click(k hal.Key) {
	if t, ok := audio.DTMF(rune(k), clickFor); ok {
		s.engine.Feedback(t)
	}
}

// Open implements phone.Sound.
func (s *sound) Open(ctx context.Context) (phone.Stream, error) {
	path, err := udp.Open(ctx, netip.Addr{}, udp.PortRange{})
	if err != nil {
		return nil, err
	}
	call := &stream{Stream: s.engine.Open(s.traced(path)), path: path, address: s.address}
	call.Renew()
	return call, nil
}

// stream is the sound of one call as call control sees it.
type stream struct {
	*audio.Stream
	path    *udp.Path
	plain   atomic.Pointer[media.Plain] // of the call that it is the sound of
	address func(peer netip.Addr) netip.Addr
}

// Local implements phone.Stream.
func (s *stream) Local(peer netip.Addr, without ...string) (sip.LocalMedia, bool) {
	some := slices.DeleteFunc(codecs(), func(c media.Codec) bool { return slices.Contains(without, c.Name) })
	sounds := slices.ContainsFunc(some, func(c media.Codec) bool { return c.Name != eventName })
	return s.plain.Load().With(media.Local{Addr: s.address(peer), Port: s.path.Port(), Codecs: some}), sounds
}

// Renew implements phone.Stream.
func (s *stream) Renew() { s.plain.Store(media.NewPlain()) }

// Start implements phone.Stream.
func (s *stream) Start(m sip.Media) error {
	terms, ok := m.Terms.(media.RTP)
	if !ok {
		return fmt.Errorf("flexphone: start sound: %T is not plain RTP", m.Terms)
	}
	if err := s.Stream.Start(sessionOf(m, terms)); err != nil {
		return err
	}
	s.path.SetPeer(m.Remote, terms.RemoteRTCP)
	return nil
}

// sessionOf is what was agreed as the engine carries it.
func sessionOf(m sip.Media, terms media.RTP) audio.Session {
	var receive []audio.Codec // as we described it
	for _, c := range terms.Receive {
		receive = append(receive, carried(c))
	}
	return audio.Session{
		Codec:      carried(terms.Codec),
		Params:     terms.Codec.Params,
		DTMF:       terms.DTMF,
		DTMFClock:  terms.DTMFRate,
		Receive:    receive,
		PacketTime: m.PacketTime,
		Send:       m.Send, Recv: m.Recv,
	}
}

// carried is c as the engine names it.
func carried(c media.Codec) audio.Codec {
	return audio.Codec{Name: c.Name, PayloadType: c.PayloadType, ClockRate: c.ClockRate}
}

// SendDigit implements phone.Stream.
func (s *stream) SendDigit(k hal.Key) error { return s.Stream.SendDigit(rune(k)) }

// Received implements phone.Stream.
func (s *stream) Received() uint64 {
	t := s.Stream.Stats()
	return t.PacketsReceived + t.ReportsReceived
}

// Stats implements phone.Stream.
func (s *stream) Stats() any {
	t := s.Stream.Stats()
	return statistics{
		Codec: t.Codec, PacketsSent: t.PacketsSent, PacketsReceived: t.PacketsReceived,
		PacketsLost: t.PacketsLost, Late: t.Late, JitterMS: inMS(t.Jitter), RoundTripMS: inMS(t.RoundTrip), DelayMS: inMS(t.Delay),
	}
}

// statistics is what `flexphone ctl status` tells of a stream.
type statistics struct {
	Codec           string  `json:"codec"`
	PacketsSent     uint64  `json:"packets_sent"`
	PacketsReceived uint64  `json:"packets_received"`
	PacketsLost     uint64  `json:"packets_lost"`
	Late            uint64  `json:"late"`
	JitterMS        float64 `json:"jitter_ms"`
	RoundTripMS     float64 `json:"round_trip_ms"` // 0 until known
	DelayMS         float64 `json:"delay_ms"`      // of the playout buffer
}

func inMS(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
