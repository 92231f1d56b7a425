package main

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"flexphone/audio"
	"flexphone/audio/emodel"
	"flexphone/audio/srtp"
	"flexphone/firmware/internal/browser"
	"flexphone/firmware/internal/media"
	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/sip"
	"flexphone/hal"
	"flexphone/internal/mac"
	"flexphone/registry-client/wire"
)

// stream is the sound of one call as call control sees it.
type stream struct {
	*audio.Stream
	ways        *ways
	engine      *audio.Engine
	underruns   uint64                     // of the engine, before the call
	late        uint64                     // periods, likewise
	call        atomic.Pointer[media.Call] // whose sound it is
	address     func(peer netip.Addr) netip.Addr
	near        func(peer netip.Addr) bool
	onlyPrivate bool
	codecs      []media.Codec
	began       atomic.Pointer[time.Time] // nil: nothing was agreed yet
	heard       func(wire.Heard)          // nil: nobody is told
	places      *places                   // nil: there is no private sound

	mu  sync.Mutex
	pin [32]byte // of the peer, if it is a phone of ours

	far  atomic.Bool // signalling goes by way of the storing server
	flow flow
}

// local is this end for peer, in these codecs.
func (s *stream) local(peer sip.Peer, codecs []media.Codec) media.Local {
	lm := media.Local{
		Addr: s.address(peer.Addr.Addr()), Port: s.ways.plain.Port(), Codecs: codecs,
		Vouched: peer.Secure, OnlyPrivate: s.onlyPrivate || s.ways.taken.Load() == private,
	}
	s.far.Store(peer.Relayed)
	if !s.detour() && s.near(peer.Addr.Addr()) {
		lm.PacketTime = nearPacket
	}
	p := s.ways.private
	if p == nil || s.ways.taken.Load() == plain {
		return lm
	}
	pin := pinOf(peer)
	s.mu.Lock()
	s.pin = pin
	s.mu.Unlock()
	own, f := p.Own(), p.Fingerprint()
	lm.Private = &media.Private{
		Port: p.Port(), Fingerprint: media.Fingerprint{Hash: f.Hash, Value: f.Value},
		Ufrag: own.Ufrag, Pwd: own.Pwd, Ours: pin != [32]byte{},
	}
	if lm.Private.Ours {
		if peer.Called && !peer.Relayed {
			s.places.calls(peer.Addr.Addr())
		}
		lm.Private.Candidates = s.places.candidates(p.Port())
	}
	return lm
}

// pinOf is the key that a peer proves itself with wherever it speaks: that of its TLS,
// if it is a phone of ours, which is known by its MAC. A standard phone has
// another one for its sound, if any.
func pinOf(peer sip.Peer) [32]byte {
	if _, err := mac.Parse(peer.User); err != nil || !peer.Secure {
		return [32]byte{}
	}
	return peer.Fingerprint
}

// Local implements phone.Stream.
func (s *stream) Local(peer sip.Peer, wanted phone.Wanted) (sip.LocalMedia, bool) {
	if peer.Browser {
		return browser.Local{Hold: wanted.Hold}, !slices.Contains(wanted.Without, "opus")
	}
	some := slices.DeleteFunc(slices.Clone(s.codecs), func(c media.Codec) bool { return slices.Contains(wanted.Without, c.Name) })
	lm := s.local(peer, some)
	lm.Hold, lm.NewKeys = wanted.Hold, wanted.NewKeys
	if lm.Private != nil && lm.Private.Ours {
		s.ways.private.Expect(peer.Addr.Addr(), pinOf(peer))
	}
	sounds := slices.ContainsFunc(some, func(c media.Codec) bool { return c.Name != eventName && c.Name != noiseName })
	return s.call.Load().With(lm), sounds && (!lm.OnlyPrivate || lm.Private != nil && lm.Vouched)
}

// Worn implements phone.Stream.
func (s *stream) Worn() <-chan struct{} { return s.ways.worn }

// Elsewhere implements phone.Stream.
func (s *stream) Elsewhere() <-chan struct{} { return s.ways.elsewhere }

// Wrong implements phone.Stream.
func (s *stream) Wrong() <-chan struct{} { return s.ways.wrong }

// Keyed implements phone.Stream.
func (s *stream) Keyed() bool { return s.ways.taken.Load() != private || s.ways.private.Keyed() }

// Renew implements phone.Stream.
func (s *stream) Renew() {
	s.call.Store(media.NewCall())
	s.flow.forget()
	if s.ways.private != nil {
		s.ways.private.Renew()
		s.places.renew()
	}
	for _, c := range []chan struct{}{s.ways.worn, s.ways.wrong, s.ways.turned, s.ways.lost, s.ways.elsewhere} { // it is about the one before
		select {
		case <-c:
		default:
		}
	}
}

// Prepare implements phone.Stream. Sound itself is agreed upon when the call is
// answered; what is agreed of keys is the same then.
func (s *stream) Prepare(peer sip.Peer, offer []byte, from netip.Addr) {
	if s.places != nil {
		s.places.answers()
	}
	_, m, err := s.call.Load().With(s.local(peer, s.codecs)).Answer(offer, from)
	if err != nil {
		return // the answer will say so
	}
	terms, _ := m.Terms.(media.RTP)
	if p := terms.Protection; p != nil && p.Suite == "" {
		if err := s.ways.private.Start(s.agreement(m, p)); err != nil {
			s.ways.log.Warn("no keys while it rings", "err", err)
		}
	}
}

// Retarget implements phone.Stream.
func (s *stream) Retarget(peer netip.Addr) {
	if s.ways.taken.Load() == private {
		s.ways.private.Move(peer)
	}
}

// Start implements phone.Stream.
func (s *stream) Start(m sip.Media) error {
	if terms, ok := m.Terms.(browser.Terms); ok {
		session := terms.Session
		session.Send, session.Recv = m.Send, m.Recv
		if err := s.Stream.Start(session); err != nil {
			return err
		}
		now := time.Now()
		s.began.CompareAndSwap(nil, &now)
		return s.ways.lead(terms.Path)
	}
	terms, ok := m.Terms.(media.RTP)
	if !ok {
		return fmt.Errorf("flexphone: start sound: %T is not RTP", m.Terms)
	}
	if err := s.speak(sessionOf(m, terms)); err != nil {
		return err
	}
	now := time.Now()
	s.began.CompareAndSwap(nil, &now)
	if terms.Protection == nil {
		if err := s.ways.take(plain); err != nil {
			return err
		}
		s.ways.plain.SetPeer(m.Remote, terms.RemoteRTCP)
		return nil
	}
	if err := s.ways.take(private); err != nil {
		return err
	}
	return s.ways.private.Start(s.agreement(m, terms.Protection))
}

// agreement is p as the private path has it.
func (s *stream) agreement(m sip.Media, p *media.Protection) srtp.Agreement {
	a := srtp.Agreement{
		Remote: m.Remote, Mux: p.Mux, Peer: srtp.Credentials{Ufrag: p.Ufrag, Pwd: p.Pwd}, Candidates: s.places.of(p.Candidates),
	}
	if p.Suite != "" {
		suite := srtp.AES128GCM
		if p.Suite != suite.String() {
			suite = srtp.AES128CMSHA1
		}
		a.SDES = &srtp.SDES{Suite: suite, Own: p.Own, Peer: p.Peer}
		return a
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a.DTLS = &srtp.DTLS{Active: p.Active, Pin: s.pin}
	for _, f := range p.Fingerprints {
		a.DTLS.Fingerprints = append(a.DTLS.Fingerprints, srtp.Fingerprint{Hash: f.Hash, Value: f.Value})
	}
	return a
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
	strangers := s.ways.plain.Strangers()
	if s.ways.private != nil {
		strangers += s.ways.private.Strangers()
	}
	now := statistics{
		Codec: t.Codec, PacketsSent: t.PacketsSent, PacketsReceived: t.PacketsReceived,
		PacketsLost: t.PacketsLost, Late: t.Late, JitterMS: inMS(t.Jitter), RoundTripMS: inMS(t.RoundTrip), DelayMS: inMS(t.Delay),
		ConcealedMS: inMS(t.Concealed), Refused: t.Refused, Strangers: strangers,
		Crowded: t.Crowded, Unsent: t.Unsent, Underruns: s.engine.Underruns() - s.underruns, CardLate: s.engine.LatePeriods() - s.late,
	}
	now.Way = s.Way()
	now.rate(t)
	return now
}

// Way implements phone.Stream.
func (s *stream) Way() string {
	if s.ways.taken.Load() != private {
		return ""
	}
	return string(s.ways.private.Way())
}

// Opinion implements phone.Stream.
func (s *stream) Opinion() float64 {
	t := s.Stream.Stats()
	if t.PacketsReceived == 0 {
		return 0
	}
	return emodel.MOS(t.Rating())
}

// Close implements phone.Stream. The log says how good the call was, also where nothing
// was heard, and the storing server is told if that is wanted and something was.
func (s *stream) Close() error {
	if s.places != nil {
		s.places.close()
	}
	way := s.Way()
	err := s.Stream.Close()
	began := s.began.Load()
	if began == nil { // nobody has answered
		return err
	}
	t := s.Stream.Stats()
	if t.PacketsReceived > 0 && s.heard != nil {
		s.heard(heardOf(t, time.Since(*began), way))
	}
	n := s.Stats().(statistics)
	s.ways.log.Info("sound ended", "mos", n.MOS, "r", n.R, "codec", n.Codec, "sent", n.PacketsSent, "received", n.PacketsReceived,
		"lost", n.PacketsLost, "late", n.Late, "concealed", t.Concealed, "jitter", t.Jitter, "round_trip", t.RoundTrip, "delay", t.Delay,
		"refused", n.Refused, "strangers", n.Strangers, "crowded", n.Crowded, "unsent", n.Unsent, "underruns", n.Underruns, "card_late", n.CardLate, "way", way)
	return err
}

var _ phone.Stream = (*stream)(nil)
