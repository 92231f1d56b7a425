package link

import (
	"time"

	"flexphone/registry-client/wire"
)

// How a relayed link treats what is lost (RFC 6298, with shorter times: a person
// waits, and a link carries a few thousand bytes).
const (
	linkFirst = 1 * time.Second        // until something is sent again before a round trip was measured
	linkLeast = 250 * time.Millisecond // the same after
	linkMost  = 2 * time.Second
	// linkStall is how long the other end may leave without an answer what it owes
	// one to. Within it a phone that moves finds its server again.
	linkStall = 20 * time.Second
	// linkRoom is how much is kept of what is written and not sent yet.
	linkRoom = 16 << 10
)

// A stream is one end of a relayed link, without clock, socket and lock: what was
// written and has not come yet, what has come and was not read yet.
type stream struct {
	peer wire.MAC
	link wire.LinkID

	// What goes. Bytes from first on are kept.
	out         []byte
	first, next uint64 // the first that is not acknowledged; the next to be sent
	limit       uint64 // the other end takes those before it
	opening     bool   // we have asked for the link, and nothing has come
	ending      bool   // there will be no more
	due         time.Time
	since       time.Time // the other end owes an answer since then; zero: it does not
	wait        time.Duration
	timed       uint64    // by the acknowledgement of this byte the round trip is measured
	timedAt     time.Time // zero: none is
	smooth      time.Duration
	vary        time.Duration
	repeats     int // of the same, without an answer
	// Where quiet is set, the other end is asked whether it is there when nothing has come
	// from it for so long, and look is how long it may leave that without an answer.
	quiet, look time.Duration
	heard       time.Time

	// What comes.
	in       []byte
	come     uint64            // all before have come
	early    map[uint64][]byte // what has overtaken others, by the number of its first byte
	told     uint64            // the limit that was told last
	owe      bool              // an answer
	finished bool              // by the other end, which has sent all

	over   bool        // there is nothing to say any more
	parted wire.Ending // why, when the other end says it; 0: it does not
	bye    bool        // a last close is to be sent
	left   bool        // and it says that nothing of what was sent before counts
	lost   bool        // over, since the other end has said nothing for linkStall
}

func newStream(peer wire.MAC, link wire.LinkID, opening bool) *stream {
	return &stream{peer: peer, link: link, opening: opening, owe: !opening, wait: linkFirst}
}

// write takes what there is room for.
func (s *stream) write(b []byte) int {
	n := min(len(b), linkRoom-len(s.out))
	s.out = append(s.out, b[:n]...)
	return n
}

// read gives what has come.
func (s *stream) read(b []byte) int {
	n := copy(b, s.in)
	s.in = s.in[n:]
	if len(s.in) == 0 {
		s.in = nil
	}
	if s.window()-s.told >= wire.LinkWindow/2 { // enough has room again to be told
		s.owe = true
	}
	return n
}

// window is up to where we take bytes.
func (s *stream) window() uint64 { return s.come - uint64(len(s.in)) + wire.LinkWindow }

// end says that nothing more will be written.
func (s *stream) end() { s.ending = true }

// reset ends the stream at once.
func (s *stream) reset() {
	if !s.over {
		s.over, s.bye, s.left = true, true, true
	}
}

// take takes what the other end has sent.
func (s *stream) take(now time.Time, m wire.LinkMessage) {
	if s.over {
		return
	}
	s.repeats, s.heard = 0, now
	switch m.Kind {
	case wire.LinkOpen:
		s.limit = max(s.limit, m.Limit)
		s.owe = true
		return
	case wire.LinkClose:
		if m.Ending == wire.EndDone {
			if m.Offset != s.come && !s.ending {
				return // what is missing comes first
			}
			s.finished = true
			s.bye = !s.ending || len(s.out) > 0 // else this is the answer to ours
		}
		s.over, s.parted = true, m.Ending
		return
	}
	s.opening = false
	s.limit = max(s.limit, m.Limit)
	if last := s.first + uint64(len(s.out)); m.Next > s.first && m.Next <= last {
		s.out = s.out[m.Next-s.first:]
		s.first = m.Next
		s.next = max(s.next, s.first)
		if !s.timedAt.IsZero() && m.Next > s.timed {
			s.measured(now.Sub(s.timedAt))
		}
		s.since, s.due = time.Time{}, time.Time{}
		if s.next > s.first {
			s.since, s.due = now, now.Add(s.wait)
		}
	} else if s.next == s.first && !s.ending {
		s.since, s.due = time.Time{}, time.Time{} // it is there
	}
	if len(m.Data) == 0 {
		return
	}
	s.owe = true
	if m.Offset > s.come {
		if m.Offset < s.window() && len(s.early) < wire.LinkWindow/wire.MaxSegment {
			if s.early == nil {
				s.early = map[uint64][]byte{}
			}
			s.early[m.Offset] = m.Data
		}
		return
	}
	s.append(m.Offset, m.Data)
	for again := true; again; {
		again = false
		for offset, data := range s.early {
			if offset <= s.come {
				delete(s.early, offset)
				s.append(offset, data)
				again = true
			}
		}
	}
}

// append takes what is new in bytes from offset on, without a hole before them.
func (s *stream) append(offset uint64, data []byte) {
	skip := s.come - offset
	if skip >= uint64(len(data)) {
		return
	}
	data = data[skip:]
	data = data[:min(uint64(len(data)), s.window()-s.come)]
	s.in = append(s.in, data...)
	s.come += uint64(len(data))
}

// measured takes a round trip (RFC 6298, section 2).
func (s *stream) measured(took time.Duration) {
	s.timedAt = time.Time{}
	if s.smooth == 0 {
		s.smooth, s.vary = took, took/2
	} else {
		s.vary += ((s.smooth - took).Abs() - s.vary) / 4
		s.smooth += (took - s.smooth) / 8
	}
	s.wait = min(max(s.smooth+4*s.vary, linkLeast), linkMost)
}

// say returns what is to be sent now. If nothing is, it returns when to ask again;
// zero: when something has happened.
func (s *stream) say(now time.Time) (m wire.LinkMessage, ok bool, at time.Time) {
	m = wire.LinkMessage{Peer: s.peer, Link: s.link, Kind: wire.LinkData, Next: s.come, Limit: s.window(), Offset: s.next}
	if s.over {
		if s.bye {
			s.bye = false
			return s.close(), true, time.Time{}
		}
		return m, false, time.Time{}
	}
	if !s.since.IsZero() && now.Sub(s.since) >= s.patience() {
		s.over, s.lost = true, true
		return m, false, time.Time{}
	}
	if !s.due.IsZero() && !now.Before(s.due) { // again, from what is missing
		s.due, s.timedAt = time.Time{}, time.Time{}
		s.next = s.first
		s.wait = min(2*s.wait, linkMost)
		s.repeats++
	}
	end := s.first + uint64(len(s.out))
	quiet := s.due.IsZero()
	switch {
	case s.opening:
		if quiet {
			m.Kind, m.Next = wire.LinkOpen, 0
			s.await(now)
			return m, true, time.Time{}
		}
	case s.next < end && s.next < s.limit:
		at := s.next - s.first
		m.Offset, m.Data = s.next, s.out[at:min(at+wire.MaxSegment, uint64(len(s.out)), s.limit-s.first)]
		s.next += uint64(len(m.Data))
		if s.timedAt.IsZero() && s.repeats == 0 {
			s.timed, s.timedAt = s.next-1, now
		}
		s.await(now)
		s.answered(m)
		return m, true, time.Time{}
	case s.next == s.first && s.next < end && quiet: // there is no room: has it been lost that there is?
		if s.since.IsZero() {
			s.await(now)
			break
		}
		m.Data = s.out[:1]
		s.await(now)
		s.answered(m)
		return m, true, time.Time{}
	case s.ending && s.first == end && quiet:
		s.await(now)
		return s.close(), true, time.Time{}
	case s.asks(now) && quiet:
		m.Offset, m.Data = s.first-1, []byte{0} // it has that byte, and says so (RFC 9293, 3.8.4)
		s.await(now)
		s.answered(m)
		return m, true, time.Time{}
	}
	if s.owe {
		s.answered(m)
		return m, true, time.Time{}
	}
	at = s.due
	if !s.since.IsZero() && (at.IsZero() || s.since.Add(s.patience()).Before(at)) {
		at = s.since.Add(s.patience())
	}
	if s.since.IsZero() && s.keeps() {
		at = s.heard.Add(s.quiet)
	}
	return m, false, at
}

// keepAlive sets quiet and look; zero: the other end may be silent.
func (s *stream) keepAlive(now time.Time, quiet, look time.Duration) {
	if s.heard.IsZero() {
		s.heard = now
	}
	s.quiet, s.look = quiet, look
	if quiet == 0 && len(s.out) == 0 && !s.opening && !s.ending { // what it was asked is no longer asked again
		s.since, s.due = time.Time{}, time.Time{}
	}
}

// keeps reports whether the other end is asked when it is silent. It can be once it has
// acknowledged a byte, which is there to be asked with.
func (s *stream) keeps() bool { return s.quiet > 0 && s.first > 0 && !s.ending }

// asks reports whether it is to be asked now, or again.
func (s *stream) asks(now time.Time) bool {
	return s.keeps() && s.first == s.next && (!s.since.IsZero() || now.Sub(s.heard) >= s.quiet)
}

// patience is how long it may leave an answer that it owes.
func (s *stream) patience() time.Duration {
	if s.quiet > 0 {
		return s.look
	}
	return linkStall
}

func (s *stream) close() wire.LinkMessage {
	m := wire.LinkMessage{
		Peer: s.peer, Link: s.link, Kind: wire.LinkClose, Ending: wire.EndDone,
		Offset: s.first + uint64(len(s.out)), Next: s.come,
	}
	if s.left {
		m.Ending = wire.EndReset
	}
	return m
}

// await notes that what is sent now is to be answered.
func (s *stream) await(now time.Time) {
	if s.since.IsZero() {
		s.since = now
	}
	if s.due.IsZero() {
		s.due = now.Add(s.wait)
	}
}

func (s *stream) answered(m wire.LinkMessage) { s.owe, s.told = false, m.Limit }
