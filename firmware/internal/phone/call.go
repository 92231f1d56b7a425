package phone

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"flexphone/firmware/internal/sip"
)

// releaseWait bounds the release of a call whose peer does not answer. It is
// longer than two retransmissions of a BYE (RFC 3261 17.1.2.2: 0.5 and 1 s), and
// short enough for somebody who waits to dial again.
const releaseWait = 2 * time.Second

// updateWait is between two tries to tell the peer of a new address: a network
// that has just come up drops the first packets.
const updateWait = 500 * time.Millisecond

// Final SIP statuses (RFC 3261 section 21) that the user's doings amount to.
const (
	statusUnavailable = 480 // nobody lifted the handset
	statusBusyHere    = 486
	statusServerError = 500
	statusDecline     = 603
)

// lostAfter is how long nothing may come from a peer that was heard before. A
// peer without a link cannot say that it is gone. Reports come from it every
// 7.5 s at least (RFC 3550, section 6.2), even when it says nothing or holds the
// call, and an address changes faster than this.
const lostAfter = 20 * time.Second

// callShell is what the function of one call works with.
type callShell struct {
	*Phone
	generation int
	post       func(event)
	answer     <-chan struct{} // closed when the user answers
	moves      <-chan struct{} // this phone has another address
}

// placeCall is a call that starts here: resolve, connect, talk, release. A phone
// that answers at the address but is another one than was dialled, or nobody
// there at all, means that the address is out of date: it is asked for again,
// once. It returns the reason of the end.
func (c *callShell) placeCall(ctx context.Context, to Destination) string {
	peer, err := c.parts.Directory.Resolve(ctx, to)
	if err != nil {
		return c.notResolved(ctx, to, err)
	}
	c.post(callResolved{c.generation, peer})
	stream, err := c.parts.Sound.Open(ctx)
	if err != nil {
		c.parts.Log.Error("no sound for the call", "err", err)
		return ReasonSound
	}
	defer c.closeStream(stream)

	reason := c.connect(ctx, peer, stream)
	if reason != sip.ReasonWrongPhone && reason != sip.ReasonUnreachable {
		return reason
	}
	again, err := c.parts.Directory.Resolve(ctx, to)
	if err != nil {
		return c.notResolved(ctx, to, err)
	}
	if reason == sip.ReasonUnreachable && again == peer {
		return reason // nobody there, and nowhere else to look
	}
	c.parts.Log.Info("address out of date, resolved again", "number", to, "reason", reason, "address", again.Target.Addr)
	c.post(callResolved{c.generation, again})
	return c.connect(ctx, again, stream)
}

func (c *callShell) notResolved(ctx context.Context, to Destination, err error) string {
	switch {
	case ctx.Err() != nil:
		return causeOf(ctx)
	case errors.Is(err, ErrUnknown):
		return sip.ReasonUnknown
	case errors.Is(err, ErrOffline):
		return ReasonOffline
	}
	c.parts.Log.Warn("number not resolved", "number", to, "err", err)
	return ReasonServer
}

func (c *callShell) connect(ctx context.Context, peer Peer, stream Stream) string {
	call, err := c.parts.Line.Invite(ctx, peer.Target, stream.Local(peer.Target.Addr.Addr()))
	if err != nil {
		c.parts.Log.Warn("call not started", "peer", peer.Name, "err", err)
		return sip.ReasonUnreachable
	}
	return c.carry(ctx, call, stream)
}

// takeCall is a call that comes in: ring, answer, talk, release. It returns the
// reason of the end. It rings at once; whether the caller is who it says is
// asked meanwhile.
func (c *callShell) takeCall(ctx context.Context, call Call) string {
	var asking sync.WaitGroup
	defer asking.Wait()
	askCtx, stopAsking := context.WithCancel(ctx)
	defer stopAsking()
	asking.Go(func() {
		if c.parts.Directory.Vouches(askCtx, call.Peer()) {
			c.post(callerProved{c.generation})
		}
	})
	if err := call.Ring(); err != nil {
		c.parts.Log.Warn("ringing not sent", "err", err)
	}
	ended := make(chan string, 1)
	waitCtx, stopWait := context.WithCancel(ctx)
	go func() { ended <- c.untilGivenUp(waitCtx, call) }()
	select {
	case reason := <-ended:
		stopWait()
		return reason
	case <-ctx.Done():
		stopWait()
		<-ended
		reason := causeOf(ctx)
		return c.turnAway(call, reason)
	case <-c.answer:
		stopWait()
		if reason := <-ended; reason != "" {
			return reason // given up while the handset was being lifted
		}
	}
	stream, err := c.parts.Sound.Open(ctx)
	if err != nil {
		c.parts.Log.Error("no sound for the call", "err", err)
		call.Reject(statusServerError)
		return ReasonSound
	}
	defer c.closeStream(stream)
	var answering sync.WaitGroup
	defer answering.Wait()
	answering.Go(func() { // returns when the caller has acknowledged, and sound flows before
		if err := call.Answer(stream.Local(call.Peer().Addr.Addr())); err != nil {
			c.parts.Log.Warn("call not answered", "err", err)
			c.hangUp(ctx, call) // what ended it, if it was the caller, is its last event
		}
	})
	return c.carry(ctx, call, stream)
}

// untilGivenUp returns the reason for which the caller gave up, or "" when ctx
// was done first.
func (c *callShell) untilGivenUp(ctx context.Context, call Call) string {
	for {
		e, err := call.Next(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return ""
		case err != nil:
			return sip.ReasonUnreachable
		case e.Kind == sip.Ended:
			return e.Reason
		}
	}
}

func (c *callShell) turnAway(call Call, reason string) string {
	code := statusUnavailable
	if reason == sip.ReasonHangup {
		code = statusDecline
	}
	if err := call.Reject(code); err != nil {
		c.parts.Log.Warn("call not refused", "err", err)
	}
	return reason
}

// carry follows a call that is being set up until it has ended at both ends.
func (c *callShell) carry(ctx context.Context, call Call, stream Stream) string {
	defer c.talk(nil)
	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	following, stop := context.WithCancel(ctx)
	var followers sync.WaitGroup
	defer followers.Wait()
	defer stop()
	followers.Go(func() { c.followMoves(following, call, stream) })
	var media sip.Media // what stream has been started with
	for {
		e, err := call.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				c.parts.Log.Warn("call lost", "err", err)
				return sip.ReasonUnreachable
			}
			c.hangUp(ctx, call)
			return causeOf(ctx)
		}
		switch e.Kind {
		case sip.Progress:
			c.post(callProgress{c.generation})
		case sip.Early, sip.Established, sip.Changed:
			if e.Kind != sip.Established || !e.Media.Equal(media) {
				if err := stream.Start(e.Media); err != nil {
					c.parts.Log.Error("no sound for the call", "err", err)
					c.hangUp(ctx, call)
					return ReasonSound
				}
				media = e.Media
			}
			if e.Kind == sip.Early {
				continue
			}
			if e.Kind == sip.Changed {
				c.post(callChanged{c.generation, "peer"})
				continue
			}
			c.talk(stream)
			followers.Go(func() { c.followPeer(following, call) })
			followers.Go(func() { watch(following, stream, lose) })
			c.post(callEstablished{c.generation, e.Media.Codec.Name, false})
		case sip.Ended:
			return e.Reason
		}
	}
}

// followMoves tells the peer whenever this phone has another address, again and
// again until it has heard: it may be on the move as well.
func (c *callShell) followMoves(ctx context.Context, call Call, stream Stream) {
	again := time.NewTimer(0)
	again.Stop()
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.moves:
		case <-again.C:
		}
		again.Stop()
		if err := call.Update(ctx, stream.Local(call.Peer().Addr.Addr())); err != nil {
			c.parts.Log.Info("peer not yet told of the new address", "err", err)
			again.Reset(updateWait)
			continue
		}
		c.post(callChanged{c.generation, "local"})
	}
}

// followPeer sends what is to come to where the peer's row says it is now: when
// both ends move at once, neither can tell the other.
func (c *callShell) followPeer(ctx context.Context, call Call) {
	c.parts.Directory.Follow(ctx, call.Peer(), func(addr netip.AddrPort) {
		if addr == call.Peer().Addr {
			return
		}
		if err := call.Retarget(addr); err != nil {
			c.parts.Log.Info("peer's new address not taken", "err", err)
		}
	})
}

// watch ends a call by lose when nothing comes from its peer any more.
func watch(ctx context.Context, stream Stream, lose context.CancelCauseFunc) {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	var received uint64
	var at time.Time // when more of it was seen last
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-look.C:
			switch n := stream.Received(); {
			case n != received:
				received, at = n, now
			case n > 0 && now.Sub(at) >= lostAfter:
				lose(errors.New(ReasonLost))
				return
			}
		}
	}
}

// hangUp releases call.
func (c *callShell) hangUp(ctx context.Context, call Call) {
	c.talk(nil)
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWait)
	defer cancel()
	if err := call.Hangup(bounded); err != nil {
		c.parts.Log.Warn("peer did not confirm the end", "err", err)
	}
}

// causeOf is the reason for which ctx is done.
func causeOf(ctx context.Context) string {
	if cause := context.Cause(ctx); cause != nil {
		return cause.Error()
	}
	return ReasonStopped
}

// talk makes stream the one that digits go to and that Status tells of.
func (c *callShell) talk(stream Stream) {
	c.mu.Lock()
	c.stream = stream
	c.mu.Unlock()
}

func (c *callShell) closeStream(stream Stream) {
	if err := stream.Close(); err != nil {
		c.parts.Log.Warn("stream not closed", "err", err)
	}
}
