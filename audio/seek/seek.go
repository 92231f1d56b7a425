// Package seek decides by which of several ways a stream goes to its peer: it says whom
// to ask when, and of those who have answered which is best.
//
// It knows places where the peer may be, questions and answers, and simulated or real
// time alike. It refuses to know sockets, and how a question is made and its answer
// proved (package srtp): whoever calls it has checked that.
//
// # Asking
//
// All places are asked in turn, one question each 20 ms for a second: so the way opens
// through two NATs that each want to see something go out first. Then rarely: the place in
// use each five seconds (RFC 7675), those that work each fifteen, which keeps NATs from
// forgetting, the others ever more rarely. A place is only ever asked before it has
// answered: whoever names a place that is not the peer's brings it fifty questions, and
// then one each half minute; however often it names others, two a second. A peer that itself
// asks from a better place than the one in use is asked there at once: that way may just
// have opened.
//
// # Choosing
//
// The best that works is taken: an address of the peer's own, by IPv4, by IPv6, one that
// a NAT has given it, the relay. Later a better one is taken as soon as it answers, so
// that there is no gap. What is in use is left for a worse one only when it is in doubt
// and does not answer: nothing has been heard for a while, or the peer speaks from another
// place. A doubt is another second of asking.
package seek

import (
	"net/netip"
	"slices"
	"time"
)

// A Kind is what sort of place one is. The lower, the better.
type Kind uint8

// The kinds.
const (
	Host      Kind = iota // an address of the peer's own, IPv4
	Host6                 // likewise, IPv6
	Reflexive             // which a NAT has given it, as a server or we have seen it
	Relayed               // a relay's
)

// Times.
const (
	pace      = 20 * time.Millisecond // between two questions while it is asked in earnest
	burstTime = time.Second           // for so long
	inUse     = 5 * time.Second       // between two to the place in use (RFC 7675, section 5.1)
	works     = 15 * time.Second      // to another that has answered
	rarest    = 30 * time.Second      // to one that has not
	fresh     = 20 * time.Second      // how long an answer says that a place works
	// silence is how long nothing may be heard of a peer that was: no codec's packets are so far
	// apart, but for pauses, in which a few questions cost nothing.
	silence = 400 * time.Millisecond
	// patience is how long the place in use has to answer when it is in doubt, and
	// hearsay the same when the peer was heard from elsewhere.
	patience = 300 * time.Millisecond
	hearsay  = 150 * time.Millisecond
	// calm is the least time between two doubts; that after a silence grows to calmest.
	calm    = 2 * time.Second
	calmest = 32 * time.Second
)

// Questions to places that have never answered are no more than so many at once, and so
// many each second: somebody may be there who never asked for them.
const (
	creditMost = 120
	creditRate = 2
)

// Bounds of what is remembered.
const (
	MaxNamed = 8 // places that the peer has named
	maxSeen  = 4 // and those where it was seen
)

// A Candidate is a place where the peer may be.
type Candidate struct {
	Addr netip.AddrPort
	Kind Kind
}

type place struct {
	Candidate
	named  bool // by the peer, or by whoever calls for it
	asked  int  // questions since the last answer, out of bursts
	next   time.Time
	last   time.Time // when it was asked last
	proved time.Time // when it has answered last; zero: never
	since  time.Time // when it was first known
}

// A Seeker is a value without a clock or a socket. The zero Seeker knows no place, and asks
// nobody.
type Seeker struct {
	places  []place
	current netip.AddrPort // the place in use; zero: none has answered

	burst   time.Time // until when it is asked in earnest
	turn    int       // whose turn is next
	credit  float64   // questions to places that have never answered
	counted time.Time // when that was
	nextAsk time.Time // in the burst

	heard    time.Time // when the peer was heard last
	doubted  time.Time // when the place in use came into doubt; zero: it is not
	until    time.Time // the end of its patience
	lastTime time.Time // of the last doubt
	wait     time.Duration
	lost     bool // since Lost was asked
}

// Start says where the peer has said that it is. Called again, what works stays.
func (s *Seeker) Start(named []Candidate, now time.Time) {
	if len(named) > MaxNamed {
		named = named[:MaxNamed]
	}
	s.places = slices.DeleteFunc(s.places, func(p place) bool {
		return p.Addr != s.current && (p.proved.IsZero() || now.Sub(p.proved) > fresh) && (p.named || now.Sub(p.since) > fresh)
	})
	for i := range s.places {
		s.places[i].named = false
	}
	for _, c := range named {
		s.add(c, true, now)
	}
	s.again(now)
}

// add adds a place, or says that one is named.
func (s *Seeker) add(c Candidate, named bool, now time.Time) *place {
	if p := s.find(c.Addr); p != nil {
		p.named = p.named || named
		if named {
			p.Kind = c.Kind
		}
		return p
	}
	n, oldest := 0, -1
	for i, p := range s.places {
		if p.named == named {
			n++
			if p.Addr != s.current && (oldest < 0 || p.proved.Before(s.places[oldest].proved)) {
				oldest = i
			}
		}
	}
	most := MaxNamed + 2 // and two of a relay
	if !named {
		most = maxSeen
	}
	made := place{Candidate: c, named: named, since: now, next: now}
	if n >= most {
		if oldest < 0 {
			return nil
		}
		s.places[oldest] = made
		return &s.places[oldest]
	}
	s.places = append(s.places, made)
	return &s.places[len(s.places)-1]
}

func (s *Seeker) find(a netip.AddrPort) *place {
	for i := range s.places {
		if s.places[i].Addr == a {
			return &s.places[i]
		}
	}
	return nil
}

// again begins another second of asking.
func (s *Seeker) again(now time.Time) {
	s.burst, s.nextAsk, s.turn = now.Add(burstTime), now, 0
}

// Name adds a place that the peer has not named by itself, such as a relay's that has just
// let us in.
func (s *Seeker) Name(c Candidate, now time.Time) {
	known := s.find(c.Addr) != nil
	if s.add(c, true, now) != nil && !known {
		s.again(now)
	}
}

// Asked says that the peer asked from there, for certain: it is answered, and asked in its
// turn. It may be a place that nobody knew.
func (s *Seeker) Asked(from netip.AddrPort, now time.Time) {
	p := s.find(from)
	if p == nil {
		if p = s.add(Candidate{from, Reflexive}, false, now); p == nil {
			return
		}
	}
	if used := s.find(s.current); (p.proved.IsZero() || used != nil && p.Kind < used.Kind) && now.Sub(p.last) >= pace {
		p.next = now // one question for one (RFC 8445, section 7.3.1.4), where it may bring something
	}
}

// Known reports whether the peer may be there: it has said so, was seen there, or has
// answered.
func (s *Seeker) Known(a netip.AddrPort) bool { return s.find(a) != nil }

// Proved says that a question was answered from there.
func (s *Seeker) Proved(from netip.AddrPort, now time.Time) {
	p := s.find(from)
	if p == nil {
		return
	}
	first := p.proved.IsZero()
	p.proved, p.asked = now, 0
	if first {
		p.next = now.Add(works)
	}
	used := s.find(s.current)
	switch {
	case used == nil || p.Kind < used.Kind:
		s.use(p, now)
	case p == used:
		s.doubted = time.Time{}
	}
}

func (s *Seeker) use(p *place, now time.Time) {
	if used := s.find(s.current); used != nil && p.Kind > used.Kind {
		s.lost = true
	}
	s.current, s.doubted = p.Addr, time.Time{}
	p.next = now.Add(inUse)
}

// Try uses a place at once, before it has answered: the peer is said to be there, by whom it
// said so before. If it is not, what works is used again.
func (s *Seeker) Try(c Candidate, now time.Time) {
	if p := s.add(c, true, now); p != nil {
		s.use(p, now)
		p.proved = time.Time{}
		s.doubt(patience, now)
	}
}

// Moved says that the peer has gone there, for certain.
func (s *Seeker) Moved(to netip.AddrPort, now time.Time) {
	if p := s.add(Candidate{to, Reflexive}, false, now); p != nil {
		p.proved = now
		s.use(p, now)
		s.again(now)
	}
}

// Heard says that something of the peer's, newer than all before, came from there.
func (s *Seeker) Heard(from netip.AddrPort, now time.Time) {
	s.heard = now
	if from == s.current {
		s.wait = 0
		return
	}
	if s.current.IsValid() && s.find(from) != nil && now.Sub(s.lastTime) >= max(calm, s.wait) {
		s.wait = min(max(calm, 2*s.wait), calmest)
		s.doubt(hearsay, now)
	}
}

// doubt puts the place in use in doubt.
func (s *Seeker) doubt(patience time.Duration, now time.Time) {
	s.doubted, s.lastTime, s.until = now, now, now.Add(patience)
	s.again(now)
}

// Current returns the place in use; zero: none has answered.
func (s *Seeker) Current() (c Candidate, ok bool) {
	if p := s.find(s.current); p != nil {
		return p.Candidate, true
	}
	return Candidate{}, false
}

// Lost reports, once, that the way in use was lost: a worse one had to be taken, or none
// answers. What a NAT had given this end may be another's now, and the peer knows of
// nothing else.
func (s *Seeker) Lost() bool {
	lost := s.lost
	s.lost = false
	return lost
}
