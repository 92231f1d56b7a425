package phone

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"flexphone/firmware/internal/sip"
)

// updateWait is between two tries to tell the peer of a new address: a network
// that has just come up drops the first packets.
const updateWait = 500 * time.Millisecond

// newKeysTries is how often a peer is offered new keys, which it may not want: what it
// says by the present ones is still heard, or the stream asks again.
const newKeysTries = 3

// updateTries is how often a peer is asked for a change that it refuses, each time after
// twice as long: another change of its own, or what it lacks for some moments, is over
// then.
const updateTries = 5

// followMoves tells the peer whenever this phone has another address, or is to have it
// wait, or its sound comes to other places, again and again until it has heard: it may be
// on the move as well. It offers it new keys when those of before are worn.
func (w *worker) followMoves(ctx context.Context, call Call, stream Stream) {
	again := time.NewTimer(0)
	again.Stop()
	defer again.Stop()
	moved, elsewhere := false, false // which the peer is to be told
	held, keys := false, 0           // as the peer knows it; how often others are to be offered
	refused := 0                     // how often in a row
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.moves:
			moved, refused = true, 0
		case <-w.wishes:
			refused = 0
		case <-stream.Elsewhere():
			elsewhere, refused = true, 0
		case <-stream.Worn():
			keys = newKeysTries
		case <-again.C:
		}
		again.Stop()
		wanted := w.wanted() // what changes meanwhile waits as a wish
		wanted.NewKeys = keys > 0
		lm, _ := stream.Local(call.Peer(), wanted)
		err := call.Update(ctx, lm)
		if keys--; err == nil || keys < 0 {
			keys = 0
		}
		if err != nil {
			w.parts.Log.Info("peer not yet told of the change", "err", err)
			if !errors.Is(err, sip.ErrRefused) {
				refused = 0
			} else if refused++; refused == updateTries {
				// It may want the rest. Where it is told of a move alone, it has heard that.
				moved, elsewhere, keys, refused = moved && wanted.Hold != held, false, 0, 0
				if wanted.Hold != held && w.holds.CompareAndSwap(wanted.Hold, held) {
					w.parts.Log.Warn("peer does not agree to be put on hold, or to be taken up again", "err", err)
					w.post(callKept{w.id, held})
				}
			}
			if moved || elsewhere || w.holds.Load() != held || keys > 0 {
				again.Reset(updateWait << max(refused-1, 0))
			}
			continue
		}
		refused, elsewhere = 0, false
		if moved {
			moved = false
			w.post(callChanged{w.id, "local"})
		}
		if wanted.Hold != held {
			held = wanted.Hold
			w.post(callHeld{w.id, "local", held})
		}
	}
}

// followPeer sends what is to come to where the peer's row says it is now: when
// both ends move at once, neither can tell the other.
func (w *worker) followPeer(ctx context.Context, call Call) {
	w.parts.Directory.Follow(ctx, call.Peer(), func(addr netip.AddrPort, found bool) {
		switch {
		case !found: // what is said need not wait for that
			w.sayTo(addr.Addr())
		case addr != call.Peer().Addr:
			w.movedThere(call, addr)
		}
	})
}

// movedThere is that the peer of a call that is answered has moved.
func (w *worker) movedThere(call Call, to netip.AddrPort) {
	w.sayTo(to.Addr())
	if err := call.Retarget(to); err != nil {
		w.parts.Log.Info("peer's new address not taken", "err", err)
	}
}

// sayTo sends what is said to where the peer is, or may be.
func (w *worker) sayTo(peer netip.Addr) {
	w.books.Lock()
	stream := w.stream
	w.books.Unlock()
	if stream != nil {
		stream.Retarget(peer)
	}
}
