package phone

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"flexphone/firmware/internal/sip"
)

// releaseWait bounds the release of a call whose peer does not answer. It is
// longer than two retransmissions of a BYE (RFC 3261 17.1.2.2: 0.5 and 1 s); a
// new call need not wait for it.
const releaseWait = 2 * time.Second

// releaseTries is how often a peer is told of the end while that fails at once.
const releaseTries = 3

// An ending is the wish that a call ends, and why: the first reason stays.
type ending struct {
	cancel context.CancelFunc // ends the context of the call's function

	mu     sync.Mutex
	reason Reason
}

func (e *ending) wish(r Reason) {
	e.mu.Lock()
	if e.reason == "" {
		e.reason = r
	}
	e.mu.Unlock()
	e.cancel()
}

// why is the reason of a call whose context is done.
func (e *ending) why() Reason {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.reason == "" {
		return ReasonStopped
	}
	return e.reason
}

// worker carries out one call: what its function works with, and what is released
// at its end.
type worker struct {
	*Phone
	*leash
	id   callID
	post func(event)
	side sync.WaitGroup // what runs beside the function

	incoming bool
	name     string      // of whom is called
	call     Call        // whose peer is to be told of the end; nil: nobody is
	answers  atomic.Bool // it came in and is being answered: it cannot be refused any more
	sounding
}

// run is the life of a call: its function, then the release of all that it holds,
// however the function has ended. It returns the reason of the end.
func (w *worker) run(ctx context.Context, f func(context.Context, *worker) Reason) Reason {
	reason := ReasonBroken
	w.contain("call", func() { reason = f(ctx, w) })
	w.wish(reason) // nothing has to go on beside it

	// The user, the peer and the sound: none of them waits for another.
	var releasing sync.WaitGroup
	if w.call != nil {
		refusal := 0
		if w.incoming && !w.answers.Load() {
			refusal = reason.status()
		}
		releasing.Go(func() { w.tellEnd(ctx, w.call, refusal, reason) })
	}
	releasing.Go(w.close)
	w.post(callOver{w.id, reason})
	releasing.Wait()
	w.side.Wait()
	return reason
}

// beside runs f beside the function of the call. If it panics, the call ends.
func (w *worker) beside(f func()) {
	w.side.Go(func() {
		if !w.contain("call", f) {
			w.wish(ReasonBroken)
		}
	})
}

// tellEnd tells the peer of call that it is over for reason: by the final status
// refusal, unless that is 0.
func (p *Phone) tellEnd(ctx context.Context, call Call, refusal int, reason Reason) {
	for range releaseTries {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWait)
		err := errPanicked
		p.contain("release of a call", func() {
			if refusal != 0 {
				err = call.Reject(refusal)
			} else {
				err = call.HangupFor(bounded, string(reason))
			}
		})
		given := bounded.Err() != nil
		cancel()
		if err == nil || errors.Is(err, sip.ErrEnded) {
			return
		}
		p.parts.Log.Warn("peer did not confirm the end", "err", err)
		if given && refusal == 0 {
			return // it goes on by itself
		}
		refusal = 0
	}
}

// errPanicked stands for what a part would have said.
var errPanicked = errors.New("phone: a part has panicked")

// takeCall is a call that comes in: ring, answer, talk. It returns the reason of
// the end; run releases the call. Whether the caller is who it says is asked while
// it rings, or before, if another rings already.
func (w *worker) takeCall(ctx context.Context, call Call, ask bool) Reason {
	w.uses(call)
	w.incoming = true
	if ask {
		w.beside(func() {
			proved, was := w.parts.Directory.Vouches(ctx, call.Peer())
			if proved {
				call.Vouch()
			}
			w.post(callProved{w.id, proved, was})
		})
	}
	if reason, over := w.untilAnswered(ctx, call); over {
		return reason
	}
	stream, err := w.open(ctx)
	if err != nil {
		return ReasonSound
	}
	w.answers.Store(true)
	w.beside(func() { w.answerCall(ctx, call, stream) })
	return w.carry(ctx, ctx, call, stream, func() {})
}

// untilAnswered rings when it may, until the user answers or the call is over.
func (w *worker) untilAnswered(ctx context.Context, call Call) (reason Reason, over bool) {
	given := make(chan Reason, 1)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	w.beside(func() { given <- w.untilGivenUp(watching, call) })
	for ring := w.ring; ; {
		select {
		case <-ring:
			ring = nil
			if err := call.Ring(); err != nil {
				w.parts.Log.Warn("ringing not sent", "err", err)
			}
			w.prepare(ctx, call)
			continue
		case reason = <-given:
		case <-ctx.Done():
		case <-w.answer:
			stop()
			select {
			case reason = <-given: // "": not given up while the handset was being lifted
			case <-ctx.Done():
			}
		}
		switch {
		case reason == reasonSilent:
			return sip.ReasonUnreachable, true
		case reason != "":
			w.call = nil
			return reason, true
		case ctx.Err() != nil:
			return w.why(), true
		}
		return "", false
	}
}

// reasonSilent is of a call whose events cannot be read: its peer has to be told.
const reasonSilent Reason = "no events"

// untilGivenUp returns the reason for which the caller gave up, or "" when ctx
// was done first.
func (w *worker) untilGivenUp(ctx context.Context, call Call) Reason {
	for {
		e, err := call.Next(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return ""
		case err != nil:
			w.parts.Log.Warn("call lost", "err", err)
			return reasonSilent
		case e.Kind == sip.Ended:
			return Reason(e.Reason)
		}
	}
}

// answerCall returns when the caller has acknowledged; sound flows before. Without an
// address there is nothing to answer with yet, and a phone of ours that is not where
// it was calls anew.
func (w *worker) answerCall(ctx context.Context, call Call, stream Stream) {
	var err error
	for since := time.Now(); ; sleep(ctx, updateWait) {
		lm, _ := w.local(call, stream)
		if err = call.Answer(lm); err == nil || errors.Is(err, sip.ErrEnded) || ctx.Err() != nil {
			break
		}
		w.parts.Log.Info("answer not sent", "err", err)
		if !w.away.Load() && !call.Peer().Secure || time.Since(since) >= lostAfter {
			break
		}
	}
	switch {
	case err == nil, ctx.Err() != nil:
		return
	case errors.Is(err, sip.ErrEnded): // its last event says why
		sleep(ctx, releaseWait)
	default:
		w.answers.Store(false)
	}
	if ctx.Err() == nil {
		w.parts.Log.Warn("call not answered", "err", err)
		w.wish(sip.ReasonFailed)
	}
}

// carry follows a call that is being set up until it has ended, and returns why; or
// until trying is done while the call is not answered. answered is called when it is.
func (w *worker) carry(ctx, trying context.Context, call Call, stream Stream, answered func()) Reason {
	following, stop := context.WithCancel(ctx)
	defer stop()
	early, hush := context.WithCancel(following)
	defer hush()
	hears, talks := false, false // who runs beside it
	held := false                // by the peer
	if w.incoming {              // the peer has to hear of it, whether it knows of our answer or not
		w.beside(func() { w.followMoves(following, call, stream) })
	}
	for {
		e, err := call.Next(trying)
		switch {
		case err != nil && ctx.Err() != nil:
			return w.why()
		case err != nil && trying.Err() != nil:
			return reasonMoved
		case err != nil:
			w.parts.Log.Warn("call lost", "err", err)
			return sip.ReasonUnreachable
		}
		switch e.Kind {
		case sip.Progress:
			w.met(call)
			w.post(callProgress{w.id})
		case sip.Early:
			if err := w.play(stream, e.Media); err != nil {
				w.parts.Log.Warn("no sound before the call is up", "err", err) // then again, or in another way
				continue
			}
			if !w.incoming && !hears {
				hears = true
				w.beside(func() { w.hearEarly(early, stream) })
			}
		case sip.Established, sip.Changed:
			before := w.playing()
			if reason := w.agree(following, call, stream, e.Media); reason != "" {
				return reason
			}
			if e.Kind == sip.Changed {
				if before.Remote != e.Media.Remote {
					w.post(callChanged{w.id, "peer"})
				}
				w.post(callCodec{w.id, e.Media.Codec, e.Media.Private})
				if is := !e.Media.Send; is != held && !e.Media.Holds {
					held = is
					w.post(callHeld{w.id, "peer", held})
				}
				continue
			}
			if talks {
				continue
			}
			talks, trying = true, ctx
			hush()
			w.met(call)
			answered()
			if !w.incoming {
				w.beside(func() { w.followMoves(following, call, stream) })
			}
			w.talk(stream)
			w.beside(func() { w.followPeer(following, call) })
			w.beside(func() { w.watch(following, call, stream) })
			w.beside(func() { w.hearDigits(following, stream) })
			w.post(callEstablished{w.id, e.Media.Codec, e.Media.Private})
		case sip.Ended:
			w.call = nil
			return Reason(e.Reason)
		}
	}
}
