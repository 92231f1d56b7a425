package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// A scene is one call, who makes it, what befalls it, and how it ends.
type scene struct {
	caller int // which of the two; of a call with the other make it is the one of ours
	with   other
	befall []mishap // while they talk, one after the other
	end    ending
}

// An other is who is at the other end.
type other string

const (
	ours  other = "the other of ours"
	fixed other = "another make, which is called"
	calls other = "another make, which calls"
)

// An ending is how a call ends.
type ending string

// The endings. Those below the line are of calls that are never answered.
const (
	callerHangsUp ending = "the caller hangs up"
	calledHangsUp ending = "the called hangs up"
	switchedOff   ending = "the called is switched off"
	powerCut      ending = "the called loses its power"
	cutForGood    ending = "the called loses its network for good"

	givenUp  ending = "the caller gives up"
	declined ending = "the called declines"
	engaged  ending = "the called is engaged"
	isOff    ending = "the called is switched off before"
	nobody   ending = "nobody has that number"
)

// A reason is what `ended` has to say at the caller and at the called; empty: there is
// no such event, for want of a call or of a phone.
type reason struct{ caller, called string }

// reasons is the oracle: whatever befalls a call, its end alone decides what it is
// called.
var reasons = map[ending]reason{
	callerHangsUp: {"hangup", "hangup"},
	calledHangsUp: {"hangup", "hangup"},
	switchedOff:   {"hangup", ""},
	powerCut:      {"connection lost", ""},
	cutForGood:    {"connection lost", "network down"},
	givenUp:       {"hangup", "cancelled"},
	declined:      {"declined", "hangup"},
	engaged:       {"busy", ""},
	isOff:         {"not connected", ""},
	nobody:        {"unknown number", ""},
}

// answered reports whether there is a talk before the end.
func (e ending) answered() bool {
	return slices.Contains([]ending{callerHangsUp, calledHangsUp, switchedOff, powerCut, cutForGood}, e)
}

// A mishap is what befalls a call.
type mishap struct {
	what mishapKind
	who  []int         // of the two phones; nobody: it befalls the server
	out  time.Duration // how long cable or server is out
}

type mishapKind string

const (
	moves       mishapKind = "has another address"
	cut         mishapKind = "has no cable"
	serverStops mishapKind = "the server is restarted"
	serverDies  mishapKind = "the server is killed"
	held        mishapKind = "is put on hold" // by the other make
)

func (m mishap) String() string {
	s := string(m.what)
	for _, w := range m.who {
		s += fmt.Sprintf(" %d", 101+w)
	}
	return fmt.Sprintf("%s for %v", s, m.out.Round(time.Millisecond))
}

func (s scene) String() string {
	return fmt.Sprintf("%d and %s: %v; %s", 101+s.caller, s.with, s.befall, s.end)
}

// forGoodEvery is how many scenes there are for each in which a phone waits in vain for
// a network, which takes most of a minute.
const forGoodEvery = 50

// draw returns the n-th scene of a life. A phone whose power is cut is another process
// afterwards, so that happens at the beginning, before anything is compared.
func draw(r *rand.Rand, n int) scene {
	s := scene{caller: r.IntN(2), with: ours}
	switch {
	case n == 0:
		s.end = powerCut
		return s
	case n == 1:
		s.end = switchedOff
		return s
	case n == 2:
		s.end = isOff
		return s
	case n%forGoodEvery == 10:
		s.end = cutForGood
		return s
	case r.IntN(5) == 0:
		s.with = []other{fixed, calls}[r.IntN(2)]
	}
	s.end = []ending{callerHangsUp, calledHangsUp}[r.IntN(2)]
	if s.with == ours && r.IntN(4) == 0 {
		s.end = []ending{givenUp, declined, engaged, nobody}[r.IntN(4)]
		return s
	}
	for range r.IntN(4) {
		s.befall = append(s.befall, mishapOf(r, s))
	}
	return s
}

func mishapOf(r *rand.Rand, s scene) mishap {
	m := mishap{out: time.Duration(r.ExpFloat64() * float64(500*time.Millisecond))}
	m.out = min(m.out, 5*time.Second)
	kinds := []mishapKind{moves, moves, cut, cut, serverStops, serverDies}
	if s.with != ours {
		kinds = []mishapKind{moves, cut, held, held, held}
	}
	m.what = kinds[r.IntN(len(kinds))]
	switch {
	case m.what == serverStops || m.what == serverDies:
	case s.with != ours:
		m.who = []int{s.caller}
	default:
		m.who = [][]int{{0}, {1}, {0, 1}}[r.IntN(3)]
	}
	return m
}
