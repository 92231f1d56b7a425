package main

import (
	"context"
	"sync"
	"time"

	"flexphone/audio"
)

const (
	// usualPacket is how long packets are where nobody wishes for others.
	usualPacket = 20 * time.Millisecond
	// lostPause is the least time from one question of where this phone is seen, since the
	// way was lost, to the next, and so between two offers that say what came of it. Where
	// nobody answers, as while the network is away, each is twice as long, up to lostMost.
	lostPause = 5 * time.Second
	lostMost  = 80 * time.Second
)

// A flow is what a stream has been started with last.
type flow struct {
	mu      sync.Mutex
	session audio.Session // as it was agreed: PacketTime is the peer's wish
	packet  time.Duration // as it is; 0: as usual
	begun   bool
}

// detour reports whether signalling or sound of the call goes by way of the storing server.
// Then the peer is not near, whatever its address: homes are alike. And a relay has as much
// to do for a short packet as for a long one.
func (s *stream) detour() bool { return s.far.Load() || s.ways.relayed() }

// packet is how long packets are for a peer that wishes for so long ones. Who calls says what
// it wishes for before it is known how the call goes; on a detour they are no shorter than usual.
func (s *stream) packet(wish time.Duration) time.Duration {
	if wish < usualPacket && s.detour() {
		return 0
	}
	return wish
}

// speak makes sound flow as it was agreed.
func (s *stream) speak(session audio.Session) error {
	s.flow.mu.Lock()
	defer s.flow.mu.Unlock()
	return s.start(session, s.packet(session.PacketTime))
}

// repack changes how long packets are, if the way of the sound is another now.
func (s *stream) repack() {
	s.flow.mu.Lock()
	defer s.flow.mu.Unlock()
	packet := s.packet(s.flow.session.PacketTime)
	if !s.flow.begun || packet == s.flow.packet {
		return
	}
	if err := s.start(s.flow.session, packet); err != nil {
		s.ways.log.Debug("packets stay as long as they are", "err", err)
	}
}

// forget leaves what flows as it is, until something else is agreed with another phone.
func (f *flow) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun = false
}

// start starts the stream with packets of that length. The flow is locked.
func (s *stream) start(session audio.Session, packet time.Duration) error {
	of := session
	of.PacketTime = packet
	if err := s.Stream.Start(of); err != nil {
		return err
	}
	s.flow.session, s.flow.packet, s.flow.begun = session, packet, true
	return nil
}

// followWay has packets as long as the way of the sound wants, until ctx is done.
func (s *stream) followWay(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.ways.turned:
			s.repack()
		}
	}
}

// seenAnew asks where this phone is seen now that the way of the sound was lost. A NAT may have
// forgotten it, or was restarted: the other end is told then, and sound comes back from the relay.
func (s *stream) seenAnew() (answered bool) {
	stun, _ := s.places.helpers()
	other, answered := s.places.askAgain(stun)
	if other {
		note(s.ways.elsewhere)()
	}
	return answered
}

// whenLost asks whenever lost says so, until ctx is done, and again where nobody has answered.
func whenLost(ctx context.Context, lost <-chan struct{}, ask func() (answered bool)) {
	calm := time.NewTimer(0)
	calm.Stop()
	defer calm.Stop()
	listens, pause, answered := lost, lostPause, true
	for {
		select {
		case <-ctx.Done():
			return
		case <-calm.C:
			if listens = lost; answered {
				continue
			}
		case <-listens:
		}
		listens = nil
		if answered = ask(); answered {
			pause = lostPause
		}
		if calm.Reset(pause); !answered {
			pause = min(2*pause, lostMost)
		}
	}
}
