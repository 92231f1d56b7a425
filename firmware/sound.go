package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"

	"flexphone/audio"
	"flexphone/audio/echo"
	"flexphone/audio/emodel"
	"flexphone/audio/g711"
	"flexphone/audio/g722"
	"flexphone/audio/l16"
	"flexphone/audio/opus"
	"flexphone/firmware/internal/media"
	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/sip"
	"flexphone/hal"
	"flexphone/registry-client/wire"
)

// clickFor is how long a key is heard by whoever presses it.
const clickFor = 80 * time.Millisecond

// nearPacket is what a peer of the same network is asked for: half of the usual
// packet, and 10 ms less from mouth to ear.
const nearPacket = 10 * time.Millisecond

// telephone-event (RFC 4733), and its payload types; the dynamic range of RFC 3551.
const (
	eventName    = "telephone-event"
	noiseName    = "CN" // RFC 3389; its number is of RFC 3551
	noiseType    = 13
	eventType48k = 110
	eventType8k  = 101
)

// formats are what the engine can carry, as they are preferred.
func formats() []audio.Format {
	return []audio.Format{opus.Format{Sparing: runtime.NumCPU() == 1}, g722.Format{}, g711.PCMA(), g711.PCMU(), l16.Format{}}
}

// usualCodecs are what is described where the settings say nothing. L16 takes eight
// times as much of a network as Opus, which both ends have to want.
const usualCodecs = "opus G722 PCMA PCMU"

// preferred returns the formats that a setting names, in its order.
func preferred(names string) ([]audio.Format, error) {
	all := formats()
	var out []audio.Format
	for _, name := range strings.Fields(cmp.Or(strings.TrimSpace(names), usualCodecs)) {
		is := func(f audio.Format) bool { return strings.EqualFold(f.Codec().Name, name) }
		i := slices.IndexFunc(all, is)
		if i < 0 || slices.ContainsFunc(out, is) {
			return nil, fmt.Errorf("%q is no codec, or named twice; there are %s L16", name, usualCodecs)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// codecs are what a setting names as SDP does, preferred first, comfort noise for
// those of its clock, and digits at the clock of each of them. A setting that is none
// was refused before.
func codecs(names string) []media.Codec {
	var cs []media.Codec
	some, _ := preferred(names)
	for _, f := range some {
		c := f.Codec()
		s := media.Codec{Name: c.Name, PayloadType: c.PayloadType, ClockRate: c.ClockRate, Channels: 1}
		if c.Name == "opus" {
			s.Channels, s.Params = 2, "useinbandfec=1" // RFC 7587: the name says 2, whatever is sent
		}
		cs = append(cs, s)
	}
	return append(cs,
		media.Codec{Name: noiseName, PayloadType: noiseType, ClockRate: 8000, Channels: 1},
		media.Codec{Name: eventName, PayloadType: eventType48k, ClockRate: 48000, Channels: 1, Params: "0-15"},
		media.Codec{Name: eventName, PayloadType: eventType8k, ClockRate: 8000, Channels: 1, Params: "0-15"})
}

// sound is the audio engine as call control sees it.
type sound struct {
	soundConfig
	engine *audio.Engine
	tones  map[phone.Tone]audio.Tone
}

// soundConfig is what calls need beside the engine.
type soundConfig struct {
	address     func(peer netip.Addr) netip.Addr
	near        func(peer netip.Addr) bool     // on a network where short packets cost nothing
	own         func() (tls.Certificate, bool) // what this phone proves itself with, once there is something
	around      *neighbourhood
	onlyPrivate bool
	codecs      []media.Codec
	loud        *volumes
	heard       func(wire.Heard)            // is told of each call that is over; nil: nobody is
	traced      func(audio.Path) audio.Path // a path, traced if that is wanted
	log         *slog.Logger
}

func newSound(engine *audio.Engine, cfg soundConfig) *sound {
	set := audio.Germany()
	return &sound{engine: engine, soundConfig: cfg, tones: map[phone.Tone]audio.Tone{
		phone.ToneDial: set.Dial, phone.ToneRing: set.Ringback, phone.ToneBusy: set.Busy,
		phone.ToneCongestion: set.Congestion, phone.ToneSIT: set.Unknown, phone.ToneAlert: set.Ringing,
	}}
}

// Play implements phone.Sound.
func (s *sound) Play(t phone.Tone) {
	s.loud.desk.Ring(t == phone.ToneAlert)
	if t == phone.ToneAlert {
		s.engine.Ring(s.tones[t])
		return
	}
	s.engine.Play(s.tones[t])
}

// Click implements phone.Sound.
func (s *sound) Click(k hal.Key) {
	if t, ok := audio.DTMF(rune(k), clickFor); ok {
		s.engine.Feedback(t)
	}
}

// Turn implements phone.Sound.
func (s *sound) Turn(by int, ringer bool) string {
	o := s.loud.desk.Voice()
	if ringer {
		o = echo.Ringer
	}
	s.loud.set(o, s.loud.desk.Volume(o)+by)
	return s.loud.loud(o)
}

// Mute implements phone.Sound.
func (s *sound) Mute(is bool) { s.loud.desk.Mute(is) }

// Open implements phone.Sound.
func (s *sound) Open(ctx context.Context) (phone.Stream, error) {
	ways, err := openWays(ctx, s.own, s.log)
	if err != nil {
		return nil, err
	}
	call := &stream{
		Stream: s.engine.Open(s.traced(ways)), ways: ways, address: s.address, near: s.near, onlyPrivate: s.onlyPrivate, codecs: s.codecs, heard: s.heard,
		engine: s.engine, underruns: s.engine.Underruns(), late: s.engine.LatePeriods(),
	}
	if ways.private != nil {
		call.places = newPlaces(context.WithoutCancel(ctx), s.around, ways.private)
	}
	call.Renew()
	if p := call.places; p != nil {
		p.work.Go(func() { call.followWay(p.ctx) })
		p.work.Go(func() { whenLost(p.ctx, ways.lost, call.seenAnew) })
	}
	return call, nil
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
		Noise:      terms.Noise,
		Receive:    receive,
		Metrics:    terms.Metrics,
		PacketTime: m.PacketTime,
		Send:       m.Send, Recv: m.Recv,
	}
}

// carried is c as the engine names it.
func carried(c media.Codec) audio.Codec {
	return audio.Codec{Name: c.Name, PayloadType: c.PayloadType, ClockRate: c.ClockRate}
}

// statistics is what `flexphone ctl status` tells of a stream.
type statistics struct {
	Codec           string  `json:"codec"`
	Way             string  `json:"way,omitempty"` // of the sound to a phone of ours: direct, punched (through a NAT), or relayed
	PacketsSent     uint64  `json:"packets_sent"`
	PacketsReceived uint64  `json:"packets_received"`
	PacketsLost     uint64  `json:"packets_lost"`
	Late            uint64  `json:"late"`
	JitterMS        float64 `json:"jitter_ms"`
	RoundTripMS     float64 `json:"round_trip_ms"` // 0 until known
	DelayMS         float64 `json:"delay_ms"`      // of the playout buffer
	ConcealedMS     float64 `json:"concealed_ms"`  // made up for what was lost or late
	// What else was dropped: packets that cannot be understood, that others than the
	// peer have sent, that came when too many waited, and that the network did not
	// take; and how often the card had nothing to play.
	Refused   uint64 `json:"refused"`
	Strangers uint64 `json:"strangers"`
	Crowded   uint64 `json:"crowded"`
	Unsent    uint64 `json:"unsent"`
	Underruns uint64 `json:"underruns"`
	CardLate  uint64 `json:"card_late"` // periods of the card that came more than a period late
	// How good it is, by the E-model (audio/emodel): R, to 93.2, and what people think
	// of that, 1 to 4.5, both 0 while nothing has come; and what the peer has said of how it hears us (RFC 3611), where
	// it said that.
	R       float64  `json:"r"`
	MOS     float64  `json:"mos"`
	PeerR   *float64 `json:"peer_r,omitempty"`
	PeerMOS *float64 `json:"peer_mos,omitempty"`
}

// rate enters what is known of how good t is.
func (s *statistics) rate(t audio.Stats) {
	if t.PacketsReceived > 0 {
		r := t.Rating()
		s.R, s.MOS = rounded(r, 10), rounded(emodel.MOS(r), 100)
	}
	known := func(v float64) *float64 {
		if !t.Told || math.IsNaN(v) {
			return nil
		}
		return &v
	}
	s.PeerR, s.PeerMOS = known(t.Peer.R), known(t.Peer.Conversing)
}

// rounded is v in parts of one.
func rounded(v, parts float64) float64 { return math.Round(parts*v) / parts }

func inMS(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
