package phone

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"flexphone/firmware/internal/sip"
)

// anewPause is between two tries to call a peer anew whose row says nothing new.
const anewPause = 3 * time.Second

// placeCall is a call that starts here: resolve, connect, talk. A phone that
// answers at the address but is another one than was dialled, or nobody there at
// all, means that the address is out of date: it is asked for again, once. When an
// end moves before the call is answered, or the connection to a phone of ours
// is gone, the peer is called anew; since it may be on the move as well, for a while
// wherever its row says that it is. It returns the reason of the end; run releases
// the call.
func (w *worker) placeCall(ctx context.Context, to Destination) Reason {
	peer, asking, err := w.find(ctx, to)
	if err != nil {
		return w.notResolved(ctx, to, err)
	}
	w.post(callResolved{w.id, peer})
	stream, err := w.open(ctx)
	if err != nil {
		return ReasonSound
	}
	var patience time.Time // until when it may be on the move
	for asked, tried := false, false; ; tried = true {
		for w.away.Load() { // it is told when there is an address again, or is ended
			select {
			case <-w.moves:
				patience = time.Now().Add(lostAfter)
			case <-ctx.Done():
				return w.why()
			}
		}
		if tried {
			if !w.forsake(ctx, peer) { // the peer has yet to hear of the move
				return w.carry(ctx, ctx, w.call, stream, w.movedHere)
			}
			stream.Renew()
		}
		was := peer
		reason := w.connect(ctx, &peer, asking, stream)
		switch {
		case ctx.Err() == nil && reason == reasonOther:
			w.dismiss(ctx)
			if asking.err != nil {
				return w.notResolved(ctx, to, asking.err)
			}
			w.parts.Log.Warn("another phone has the number now", "number", to, "was", peer.Target.User, "is", asking.peer.Target.User)
			peer, asking = asking.peer, nil
			w.post(callResolved{w.id, peer})
			continue
		case ctx.Err() == nil && (reason == reasonMoved || reason == sip.ReasonCut):
			if reason == reasonMoved {
				patience = time.Now().Add(lostAfter)
			}
			w.parts.Log.Info("calling anew", "number", to, "address", peer.Target.Addr)
			if peer != was {
				w.post(callResolved{w.id, peer})
			}
			continue
		case ctx.Err() == nil && reason == sip.ReasonUnreachable && time.Now().Before(patience):
			bounded, cancel := context.WithTimeout(ctx, anewPause)
			_, there, _ := w.untilMoved(bounded, called(peer.Target), nil, peer)
			if cancel(); there.IsValid() {
				peer.Target.Addr = there
			}
			continue
		case ctx.Err() != nil, asked, reason != sip.ReasonWrongPhone && reason != sip.ReasonUnreachable:
			return reason
		}
		asked = true
		again, err := w.parts.Directory.Resolve(ctx, to)
		if err != nil {
			return w.notResolved(ctx, to, err)
		}
		if reason == sip.ReasonUnreachable && again == peer {
			return reason // nobody there, and nowhere else to look
		}
		w.parts.Log.Info("address out of date, resolved again", "number", to, "reason", reason, "address", again.Target.Addr)
		w.post(callResolved{w.id, again})
		peer = again
	}
}

// reasonMoved is of an INVITE that was not answered before an end has moved.
const reasonMoved Reason = "moved"

// reasonOther is of one that was on its way when it became known that another phone
// has the number, or none.
const reasonOther Reason = "another phone"

// An inquiry is the storing server being asked who a number is.
type inquiry struct {
	over chan struct{} // closed when it has answered
	peer Peer
	err  error
}

func (w *worker) inquire(ctx context.Context, to Destination) *inquiry {
	q := &inquiry{over: make(chan struct{})}
	w.beside(func() {
		defer close(q.over)
		q.err = errPanicked
		q.peer, q.err = w.parts.Directory.Resolve(ctx, to)
	})
	return q
}

// denies reports whether the answer is that p is not to be called. A server that
// cannot be asked does not deny it.
func (q *inquiry) denies(p Peer) bool {
	if q.err != nil {
		return errors.Is(q.err, ErrUnknown) || errors.Is(q.err, ErrOffline)
	}
	return q.peer.Target.User != p.Target.User || q.peer.Target.Pin != p.Target.Pin
}

// answered is closed when q has answered; nil: nobody is asked.
func (q *inquiry) answered() <-chan struct{} {
	if q == nil {
		return nil
	}
	return q.over
}

// find returns whom to call. The storing server says it; and to a number that is
// known the connection is begun meanwhile, with who had it last, who does not hear of
// that. If the server tells of each change of that row, and there is a connection, it
// has said it already: its answer is still to come then, and asking brings it.
func (w *worker) find(ctx context.Context, to Destination) (peer Peer, asking *inquiry, err error) {
	last, current := w.parts.Book.Known(to)
	if !last.ours() {
		peer, err = w.parts.Directory.Resolve(ctx, to)
		return peer, nil, err
	}
	q := w.inquire(ctx, to)
	if current && w.parts.Line.Prepared(last.Target) {
		return last, q, nil
	}
	preparing, enough := context.WithCancel(ctx)
	w.beside(func() {
		defer enough()
		if err := w.parts.Line.Prepare(preparing, last.Target); err != nil && preparing.Err() == nil {
			w.parts.Log.Debug("nobody is where the number was last", "number", to, "address", last.Target.Addr, "err", err)
		}
	})
	select {
	case <-q.over:
	case <-ctx.Done():
		return Peer{}, nil, ctx.Err()
	}
	if q.err != nil || q.peer.Target != last.Target {
		enough()
	}
	return q.peer, nil, q.err
}

// met tells the book that whom we call is there.
func (w *worker) met(call Call) {
	if !w.incoming {
		w.parts.Book.Met(w.name, call.Peer())
	}
}

// dismiss ends an INVITE to a phone that was not meant.
func (w *worker) dismiss(ctx context.Context) {
	if w.call != nil {
		w.tellEnd(ctx, w.call, 0, sip.ReasonWrongPhone)
		w.call = nil
	}
}

func (w *worker) notResolved(ctx context.Context, to Destination, err error) Reason {
	switch {
	case ctx.Err() != nil:
		return w.why()
	case errors.Is(err, ErrUnknown):
		return sip.ReasonUnknown
	case errors.Is(err, ErrOffline):
		return ReasonOffline
	}
	w.parts.Log.Warn("number not resolved", "number", to, "err", err)
	if w.away.Load() {
		return ReasonNetwork
	}
	return ReasonServer
}

// forsake ends an INVITE that failed, or was sent to where nobody is any more. It
// returns false if the call has been answered in that moment, and is kept.
func (w *worker) forsake(ctx context.Context, peer Peer) bool {
	before, left := w.call, true
	switch {
	case before == nil:
		return true
	case peer.ours():
		if !w.contain("call", func() { left = before.Leave() }) {
			w.tellEnd(ctx, before, 0, reasonMoved)
		}
	default:
		w.tellEnd(ctx, before, 0, reasonMoved)
	}
	if left {
		w.call = nil
	}
	return left
}

// connect calls peer, and carries the call. When an end moves before the answer,
// peer is where the other phone is then. What asking brings may still end it.
func (w *worker) connect(ctx context.Context, peer *Peer, asking *inquiry, stream Stream) Reason {
	to := peer.Target
	w.name = peer.Name
	lm, ok := stream.Local(called(to), Wanted{})
	if !ok {
		return ReasonNotPrivate
	}
	call, err := w.parts.Line.Invite(ctx, to, lm)
	switch {
	case err == nil:
		w.uses(call)
	case ctx.Err() != nil:
		return w.why()
	default:
		w.parts.Log.Warn("call not started", "peer", peer.Name, "err", err)
		return sip.ReasonUnreachable
	}

	trying, cut := context.WithCancel(ctx)
	watched, whom := make(chan struct{}), *peer
	var here, other bool
	var there netip.AddrPort
	w.beside(func() {
		defer close(watched)
		defer cut()
		here, there, other = w.untilMoved(trying, call.Peer(), asking, whom)
	})
	unwatch := func() { cut(); <-watched }
	defer unwatch()
	reason := w.carry(ctx, trying, call, stream, func() {
		unwatch() // and what it saw is no reason to call anew
		if other {
			w.wish(sip.ReasonWrongPhone)
		}
		if asking != nil {
			w.beside(func() { w.confirm(ctx, asking, whom) })
		}
		if here {
			w.movedHere()
		}
		if there.IsValid() {
			w.movedThere(call, there)
		}
	})
	unwatch()
	switch {
	case other && ctx.Err() == nil:
		return reasonOther
	case there.IsValid():
		peer.Target.Addr = there
	}
	return reason
}

// called is whom a call to a target is with.
func called(to sip.Target) sip.Peer {
	return sip.Peer{User: to.User, Addr: to.Addr, Secure: to.Pin != [32]byte{}, Fingerprint: to.Pin, Called: true, Browser: to.Browser}
}

// untilMoved returns when one of the ends of a call that is not answered yet has
// moved: this phone, or the peer, to an address of its row; or when asking says that
// it is another than to. If ctx is done first it may be neither.
func (w *worker) untilMoved(ctx context.Context, with sip.Peer, asking *inquiry, to Peer) (here bool, there netip.AddrPort, other bool) {
	row := make(chan netip.AddrPort, 1)
	w.beside(func() {
		w.parts.Directory.Follow(ctx, with, func(to netip.AddrPort, found bool) {
			if found && to != with.Addr {
				replace(row, to)
			}
		})
	})
	for answered := asking.answered(); ; {
		select {
		case <-w.moves:
			return true, there, false
		case <-answered:
			if answered = nil; !asking.denies(to) {
				continue
			}
			other = true
		case there = <-row:
			if w.away.Load() { // it cannot be called from nowhere
				continue
			}
		case <-ctx.Done():
		}
		return false, there, other
	}
}

// confirm ends a call that was answered by a phone that was not meant.
func (w *worker) confirm(ctx context.Context, asking *inquiry, to Peer) {
	select {
	case <-asking.answered():
		if asking.denies(to) {
			w.wish(sip.ReasonWrongPhone)
		}
	case <-ctx.Done():
	}
}
