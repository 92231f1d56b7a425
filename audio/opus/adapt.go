package opus

import (
	"math"
	"time"

	"flexphone/audio"
)

// A plan is what an encoder does for now.
type plan struct {
	lost       int // percent that the redundancy is made for; 0: there is none
	bitrate    int
	complexity int
}

const (
	// lowest is the least bit rate that maxaveragebitrate may ask for (RFC 7587, section
	// 6.1).
	lowest = 6000
	// leastRoom is what we send at least, if more is allowed: .92 of speech is understood.
	leastRoom = 16000
	// highest is what we send at most: that of G.711.
	highest = 64000
)

// steps are the bit rates that a link is tried with.
var steps = []int{leastRoom, 24000, 32000, 40000, 48000, highest}

// Complexities of libopus, whose costs are about 1 to 2 to 4.
const (
	sparing = 2
	usual   = 5
	careful = 8
)

// against is the plan for a part of packets lost, from 0 to 1, by a link that has room for
// so many bits per second and with a processor of some pace.
func (w wishes) against(lost float64, packet time.Duration, room int, p pace) plan {
	made := plan{bitrate: min(w.usual(packet), max(room, leastRoom))}
	most := min(w.most, room)
	if lost >= 0.01 && w.fec && (most >= 40000 || packet >= 20*time.Millisecond) {
		wish := 32000
		switch {
		case lost >= 0.2:
			wish = highest
		case lost >= 0.1:
			wish = 48000
		case lost >= 0.03, packet < 20*time.Millisecond:
			wish = 40000
		}
		made.lost, made.bitrate = int(math.Ceil(100*lost)), min(wish, most)
	}
	switch {
	case p.slow || made.lost == 0 && made.bitrate >= 40000:
		made.complexity = sparing
	case p.fast && made.bitrate <= leastRoom:
		made.complexity = careful
	default:
		made.complexity = usual
	}
	return made
}

// A link is what is known of the way to the peer from its reports.
type link struct {
	lost  float64 // lately
	room  int     // bits per second that it has for us
	waits int     // reports before more is tried

	moved  int     // by how many bits per second more was sent since the last report
	before float64 // lost then
	// The least round trip of the last reports, in two halves, so that a call that has
	// moved is not measured by where it was.
	least, newer time.Duration
	reports      int
	late         int // reports in a row whose round trip was longer by queued
}

const (
	// queued is by how much longer than at least a round trip takes where packets wait
	// for ours, and worse the loss that is more than chance once more was sent.
	queued = 100 * time.Millisecond
	worse  = 0.03
	// halfMinute is in reports, of which one comes in about 5 s.
	halfMinute = 6
	// again is for how many reports a link that was full is spared.
	again = halfMinute
)

// hear takes a report on packets of a bit rate. Loss comes in bursts: it is believed at
// once, and forgotten slowly. Where it became more with what was sent, or less with less, or
// packets queue, the link is full: more redundancy would lose more.
func (l *link) hear(r audio.Reported, bitrate int) {
	if l.reports++; l.reports == halfMinute {
		l.least, l.newer, l.reports = l.newer, 0, 0
	}
	full := l.moved > 0 && r.Lost > l.before+worse || l.moved < 0 && worse < r.Lost && r.Lost < l.before-worse
	if trip := r.RoundTrip; trip > 0 {
		for _, least := range []*time.Duration{&l.least, &l.newer} {
			if *least == 0 || trip < *least {
				*least = trip
			}
		}
		if l.late++; trip <= l.least+queued {
			l.late = 0
		}
		full = full || l.late >= 2 // one may be a radio that slept
	}
	l.lost = max(r.Lost, l.lost+(r.Lost-l.lost)/4)
	l.before = r.Lost
	switch {
	case full:
		l.room, l.waits = below(min(bitrate, l.room)), again
	case l.waits > 0:
		l.waits--
	default:
		l.room = above(l.room)
	}
}

func below(bitrate int) int {
	for i := len(steps) - 1; i >= 0; i-- {
		if steps[i] < bitrate {
			return steps[i]
		}
	}
	return leastRoom
}

func above(bitrate int) int {
	for _, s := range steps {
		if s > bitrate {
			return s
		}
	}
	return highest
}

// A pace is how much of the time encoding takes here. It is judged by the quickest packet
// of some: the others were interrupted.
type pace struct {
	slow, fast bool
	quickest   time.Duration
	packets    int
}

const (
	paced     = 50 // packets
	slowShare = 12 // one of so many of the time, beyond which quality is given up
	fastShare = 40 // and below which there is some to spare
)

// took takes how long a packet took, at a complexity, and reports whether there is
// something new.
func (p *pace) took(d, packet time.Duration, complexity int) bool {
	if p.quickest == 0 || d < p.quickest {
		p.quickest = max(d, 1)
	}
	if p.packets++; p.packets < paced {
		return false
	}
	quickest, was := p.quickest, *p
	p.quickest, p.packets = 0, 0
	switch {
	case quickest > packet/slowShare:
		p.fast, p.slow = false, complexity <= usual // careful was too much, which says nothing of usual
	case quickest < packet/fastShare:
		p.fast, p.slow = complexity >= usual || p.fast, false
	}
	return p.slow != was.slow || p.fast != was.fast
}
