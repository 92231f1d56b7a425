package seek

import (
	"net/netip"
	"time"
)

// Due is when Tick is to be called next; zero: not at all.
func (s *Seeker) Due() time.Time {
	if len(s.places) == 0 {
		return time.Time{}
	}
	due := s.places[0].next
	for _, p := range s.places[1:] {
		due = earlier(due, p.next)
	}
	if s.nextAsk.Before(s.burst) {
		due = earlier(due, s.nextAsk)
	}
	if !s.doubted.IsZero() {
		due = earlier(due, s.until)
	} else if at := s.silent(); !at.IsZero() {
		due = earlier(due, at)
	}
	return due
}

// silent is when silence brings doubt; zero: it does not.
func (s *Seeker) silent() time.Time {
	if s.heard.IsZero() || !s.current.IsValid() {
		return time.Time{}
	}
	at := s.heard.Add(silence)
	if next := s.lastTime.Add(max(calm, s.wait)); !s.lastTime.IsZero() && at.Before(next) {
		at = next
	}
	return at
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// Tick does what is due, and returns whom to ask now, in ask, which it appends to. New
// reports whether a doubt has begun: whoever keeps a place at a relay shows itself anew.
func (s *Seeker) Tick(ask []netip.AddrPort, now time.Time) (_ []netip.AddrPort, doubts bool) {
	if s.doubted.IsZero() {
		if at := s.silent(); !at.IsZero() && !now.Before(at) {
			s.wait = min(max(calm, 2*s.wait), calmest)
			s.doubt(patience, now)
			doubts = true
		}
	} else if !now.Before(s.until) {
		s.judge(now)
	}
	if len(s.places) == 0 {
		return ask, doubts
	}
	if !now.Before(s.burst) {
		s.nextAsk = s.burst // what is left of a burst that is over is not due any more
	}
	if now.Before(s.burst) && !now.Before(s.nextAsk) {
		p := &s.places[s.turn%len(s.places)]
		s.turn++
		s.nextAsk = now.Add(pace)
		p.next = later(p.next, s.burst)
		ask = s.ask(ask, p, now)
	}
	for i := range s.places {
		p := &s.places[i]
		if now.Before(p.next) {
			continue
		}
		p.next = now.Add(s.after(p))
		p.asked++
		ask = s.ask(ask, p, now)
	}
	return ask, doubts
}

// ask appends p to whom to ask, if it may be.
func (s *Seeker) ask(to []netip.AddrPort, p *place, now time.Time) []netip.AddrPort {
	if p.last.Equal(now) {
		return to
	}
	if p.proved.IsZero() {
		s.credit = min(creditMost, s.credit+now.Sub(s.counted).Seconds()*creditRate)
		s.counted = now
		if s.credit < 1 {
			return to
		}
		s.credit--
	}
	p.last = now
	return append(to, p.Addr)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// after is how long to wait after a question to p.
func (s *Seeker) after(p *place) time.Duration {
	switch {
	case p.Addr == s.current:
		return inUse
	case !p.proved.IsZero() && p.asked < 4:
		return works
	}
	return min(time.Second<<min(p.asked, 5), rarest)
}

// judge ends the patience: what has answered since the doubt is used instead of what has not.
func (s *Seeker) judge(now time.Time) {
	var best *place
	for i := range s.places {
		p := &s.places[i]
		if !p.proved.Before(s.doubted) && (best == nil || p.Kind < best.Kind || p.Kind == best.Kind && p.proved.After(best.proved)) {
			best = p
		}
	}
	switch {
	case best != nil:
		s.use(best, now)
	case now.Before(s.burst):
		s.until = now.Add(pace) // who answers first is taken
	default:
		s.doubted, s.lost = time.Time{}, true // nobody has: it may come again
	}
}
