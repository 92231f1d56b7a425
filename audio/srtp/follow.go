package srtp

import (
	"net/netip"
	"time"
)

// Times of following (RFC 8445, 14.3 and 7675 have no faster ones; these are ours).
const (
	// proofTime is how long a new path has to prove itself.
	proofTime = time.Second
	// shunTime is how long a source is left alone that did not.
	shunTime = 10 * time.Second
	// firstAsk is between the first question and the second; each further wait is
	// twice as long.
	firstAsk = 100 * time.Millisecond
	// mostShunned bounds how many sources are tried in vain within shunTime.
	// Whoever takes packets off the path and sends them from many places gets no
	// more than so many seconds of ciphertext in ten.
	mostShunned = 4
)

// A follower decides where the peer is. It is a value without a clock or a
// socket: home is where the peer is known to be, since signalling or its row said
// so or a path has proved itself, and trial is where its newest packet came from.
type follower struct {
	home    netip.AddrPort
	trial   netip.AddrPort // zero: none
	began   time.Time      // the trial
	asked   int            // questions sent in the trial
	shunned [mostShunned]shunned
}

type shunned struct {
	source netip.AddrPort
	until  time.Time
}

// remote is where to send; zero: not known.
func (f *follower) remote() netip.AddrPort {
	if f.trial.IsValid() {
		return f.trial
	}
	return f.home
}

// told: the peer is at addr, as its description or its row says.
func (f *follower) told(addr netip.AddrPort) {
	f.home, f.trial = addr, netip.AddrPort{}
	for i := range f.shunned {
		if f.shunned[i].source == addr {
			f.shunned[i] = shunned{}
		}
	}
}

// heard: a packet that the peer has authenticated, and newer than all before, came
// from source. It reports whether a trial begins, whose first question is to be sent.
func (f *follower) heard(source netip.AddrPort, now time.Time) bool {
	switch {
	case source == f.home:
		// The peer sends from there again, or always did, and somebody else sent
		// a packet of its on.
		f.giveUp(now)
		return false
	case source == f.trial:
		return false
	}
	inVain := 0
	for _, s := range f.shunned {
		if now.Before(s.until) {
			if s.source == source {
				return false
			}
			inVain++
		}
	}
	if f.trial.IsValid() { // and will be given up
		inVain++
	}
	if inVain >= mostShunned {
		return false
	}
	f.giveUp(now)
	f.trial, f.began, f.asked = source, now, 1
	return true
}

// proved: source has answered the question that this trial asked.
func (f *follower) proved(source netip.AddrPort) {
	if f.trial.IsValid() && source == f.trial {
		f.home, f.trial = f.trial, netip.AddrPort{}
	}
}

// giveUp ends a trial without proof.
func (f *follower) giveUp(now time.Time) {
	if !f.trial.IsValid() {
		return
	}
	oldest := 0
	for i, s := range f.shunned {
		if s.until.Before(f.shunned[oldest].until) {
			oldest = i
		}
	}
	f.shunned[oldest] = shunned{f.trial, now.Add(shunTime)}
	f.trial = netip.AddrPort{}
}

// due is when tick is to be called next; zero: not at all.
func (f *follower) due() time.Time {
	if !f.trial.IsValid() {
		return time.Time{}
	}
	if next := f.began.Add(firstAsk<<f.asked - firstAsk); next.Before(f.began.Add(proofTime)) {
		return next
	}
	return f.began.Add(proofTime)
}

// tick does what is due. It reports whether the question is to be sent once more.
func (f *follower) tick(now time.Time) (ask bool) {
	switch due := f.due(); {
	case due.IsZero() || now.Before(due):
		return false
	case !now.Before(f.began.Add(proofTime)):
		f.giveUp(now)
		return false
	}
	f.asked++
	return true
}
