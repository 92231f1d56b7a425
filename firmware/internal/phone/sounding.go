package phone

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"flexphone/firmware/internal/sip"
	"flexphone/hal"
)

// recodeWait bounds a try to agree with the peer upon another codec, in which
// nothing is heard.
const recodeWait = 8 * time.Second

// lostAfter is how long nothing may come from a peer that was heard before, and how
// long there may be no address here. A peer without a link cannot say that it is
// gone; neither a cable that is out for half a minute nor a switch that listens for
// as long before it forwards (IEEE 802.1D) ends a call, and then the two ends have
// to find each other.
const lostAfter = 45 * time.Second

// A peer that is not heard any more, though silence was not agreed upon, is said to
// be reconnecting. One of ours sends all the time. Another phone may not, but at
// least a report each 7.5 s (RFC 3550, section 6.2).
const (
	missedAfter         = 2 * time.Second
	missedStrangerAfter = 8 * time.Second
)

// Where silence was agreed upon, or nothing was ever heard, the peer is asked
// whether it lives. A network that has just come up, or is full, loses a question.
const (
	probeWait  = 5 * time.Second
	probePause = 2 * time.Second
	probeTries = 3
)

// Sound before the answer flows while something came in the last earlyGap: no
// codec's packets, and no report of its silence, are that far apart.
const (
	earlyLook = 100 * time.Millisecond
	earlyGap  = time.Second
)

// digitLeast is between two digits of a peer that are told of: nobody's keys are faster
// (ITU-T Q.24: 40 ms of tone, 40 of pause), and who sends more keeps call control from
// nothing else.
const digitLeast = 80 * time.Millisecond

// sounding is the sound of one call: its stream, and what it has been started
// with.
type sounding struct {
	books   sync.Mutex
	stream  Stream // nil: there is none, or it is closed
	media   sip.Media
	refused []string // names of codecs that the stream does not take
}

// open opens the sound of the call, unless it is open.
func (w *worker) open(ctx context.Context) (Stream, error) {
	w.books.Lock()
	stream := w.stream
	w.books.Unlock()
	if stream != nil {
		return stream, nil
	}
	stream, err := w.parts.Sound.Open(ctx)
	if err != nil {
		w.parts.Log.Error("no sound for the call", "err", err)
		return nil, err
	}
	w.books.Lock()
	defer w.books.Unlock()
	w.stream = stream
	return stream, nil
}

// prepare makes keys with the caller while it rings, so that nobody waits for them
// once the handset is lifted. Who has proved no key may wait.
func (w *worker) prepare(ctx context.Context, call Call) {
	offer, from := call.Offer()
	if !call.Peer().Secure || offer == nil {
		return
	}
	if stream, err := w.open(ctx); err == nil { // else again when the call is answered
		stream.Prepare(call.Peer(), offer, from)
	}
}

// close ends the sound of the call.
func (w *worker) close() {
	w.mu.Lock()
	delete(w.streams, w.id.of())
	delete(w.lines, w.id.of())
	w.mu.Unlock()
	w.books.Lock()
	stream := w.stream
	w.stream = nil
	w.books.Unlock()
	if stream == nil {
		return
	}
	w.contain("end of a stream", func() {
		if err := stream.Close(); err != nil {
			w.parts.Log.Warn("stream not closed", "err", err)
		}
	})
}

// talk makes stream the one that digits go to and that Status tells of.
func (w *worker) talk(stream Stream) {
	w.mu.Lock()
	w.streams[w.id.of()] = stream
	w.mu.Unlock()
}

// hearDigits tells of the keys that the peer presses, until ctx is done.
func (w *worker) hearDigits(ctx context.Context, stream Stream) {
	for digits := stream.Digits(); ; sleep(ctx, digitLeast) {
		select {
		case key, ok := <-digits:
			if !ok {
				return
			}
			w.post(callDigit{w.id, hal.Key(key)})
		case <-ctx.Done():
			return
		}
	}
}

// uses makes call the one that the peer is told of the end by, and that Status asks.
func (w *worker) uses(call Call) {
	w.call = call
	w.mu.Lock()
	w.lines[w.id.of()] = call
	w.mu.Unlock()
}

// playing is what the stream has been started with; zero: it has not.
func (w *worker) playing() sip.Media {
	w.books.Lock()
	defer w.books.Unlock()
	return w.media
}

// play makes sound flow as m says. How long packets are is a wish of the peer
// (RFC 8866, 6.4): where it cannot be met, they have the usual length.
func (w *worker) play(stream Stream, m sip.Media) error {
	if m.Equal(w.playing()) {
		return nil
	}
	err := stream.Start(m)
	if err != nil && m.PacketTime != 0 {
		usual := m
		usual.PacketTime = 0
		if again := stream.Start(usual); again != nil {
			return errors.Join(err, again)
		}
		w.parts.Log.Info("packets are of the usual length", "peer wants", m.PacketTime, "err", err)
		err = nil
	}
	if err != nil {
		return err
	}
	w.books.Lock()
	defer w.books.Unlock()
	w.media = m
	return nil
}

// agree plays what both ends have agreed upon. What the stream does not take is
// offered no more: the peer is asked for another codec. It returns a reason if
// there is none left, and the call is over.
func (w *worker) agree(ctx context.Context, call Call, stream Stream, m sip.Media) Reason {
	err := w.play(stream, m)
	if err == nil {
		return ""
	}
	w.parts.Log.Error("no sound for the call", "codec", m.Codec, "err", err)
	w.books.Lock()
	again := slices.Contains(w.refused, m.Codec)
	w.refused = append(w.refused, m.Codec)
	w.books.Unlock()
	others, ok := w.local(call, stream)
	if again || !ok {
		return ReasonSound
	}
	w.beside(func() {
		bounded, cancel := context.WithTimeout(ctx, recodeWait)
		defer cancel()
		if err := call.Update(bounded, others); err != nil && ctx.Err() == nil {
			w.parts.Log.Error("peer does not take another codec", "err", err)
			w.wish(ReasonSound)
		}
	})
	return ""
}

// local is what to offer to the peer of call, as Stream.Local says it.
func (w *worker) local(call Call, stream Stream) (lm sip.LocalMedia, ok bool) {
	return stream.Local(call.Peer(), w.wanted())
}

func (w *worker) wanted() Wanted {
	w.books.Lock()
	defer w.books.Unlock()
	return Wanted{Hold: w.holds.Load(), Without: slices.Clone(w.refused)}
}

// hearEarly tells whether sound comes before the call is answered.
func (w *worker) hearEarly(ctx context.Context, stream Stream) {
	look := time.NewTicker(earlyLook)
	defer look.Stop()
	received, flows := stream.Received(), false
	var at time.Time // when more of it was seen last
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-look.C:
			if n := stream.Received(); n != received {
				received, at = n, now
			}
			if is := now.Sub(at) < earlyGap; is != flows {
				flows = is
				w.post(callHeard{w.id, is})
			}
		}
	}
}

// watch ends a call whose peer is gone without a word. One that was heard and is
// heard no more is, unless silence was agreed upon (RFC 3264, 8.4): then, and where
// nothing was ever heard, it is asked. Without an address here nobody can be heard,
// which says nothing about the peer. One whose key is wrong ends at once, and one for
// which no keys come, though both ends have a network, after the same time.
func (w *worker) watch(ctx context.Context, call Call, stream Stream) {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	received, silent := stream.Received(), w.playing().Silent
	at := time.Now() // when it was known last that the peer lives
	keyed := at      // when there were keys last, or no network
	patience, missed := missedStrangerAfter, false
	if call.Peer().Secure {
		patience = missedAfter
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-stream.Wrong():
			w.wish(sip.ReasonWrongKey)
			return
		case <-look.C:
		}
		if stream.Keyed() || w.away.Load() {
			keyed = time.Now()
		} else if time.Since(keyed) >= lostAfter {
			w.wish(sip.ReasonNoKeys)
			return
		}
		n, agreed := stream.Received(), w.playing().Silent
		if is := n == received && n > 0 && !agreed && time.Since(at) >= patience; is != missed {
			missed = is
			w.post(callMissed{w.id, is})
		}
		switch {
		case n != received || agreed != silent || w.away.Load():
			received, silent, at = n, agreed, time.Now()
		case time.Since(at) < lostAfter:
		case (silent || n == 0) && w.lives(ctx, call):
			at = time.Now()
		case ctx.Err() == nil && !w.away.Load():
			w.wish(ReasonLost)
			return
		}
	}
}

// lives asks the peer of call whether it is there.
func (w *worker) lives(ctx context.Context, call Call) bool {
	for range probeTries {
		bounded, cancel := context.WithTimeout(ctx, probeWait)
		err := call.Probe(bounded)
		cancel()
		if err == nil || errors.Is(err, sip.ErrEnded) { // the call's last event says why
			return true
		}
		w.parts.Log.Info("peer does not answer", "err", err)
		sleep(ctx, probePause)
	}
	return false
}
