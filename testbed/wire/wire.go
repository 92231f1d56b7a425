// Package wire is a long way between hosts: packets that enter it come out later,
// in their order, and not all of them, where that is asked for.
//
// It knows time, queues and the two calls by which a TUN device gives packets to a
// program (Linux, Documentation/networking/tuntap). It refuses to know whose packets
// they are; only Voice looks into one, for those who watch a call from the way
// between its ends.
//
// # Why in user space
//
// Linux has netem for this, which many kernels are built without. A program that
// reads packets, waits and writes them is as exact as its timers, some tenths of a
// millisecond, and its queue can be tried in simulated time.
package wire

import (
	"math/rand/v2"
	"time"
)

// Most is how many bytes are on the way at once at most, unless a Config says
// otherwise: a second of 32 Mbit/s.
const Most = 4 << 20

// A Config says what kind of way it is. The zero Config is short and loses nothing.
type Config struct {
	Delay  time.Duration // of each packet, one way
	Jitter time.Duration // how much later than that it may be, evenly distributed
	Loss   float64       // the share that is lost, 0 to 1
	Most   int           // bytes on the way at once; what is more is lost. 0: Most
}

// A Line is the pure half of a Wire: packets that are on their way, and when they
// come out. Time is passed in, and does not go back.
type Line struct {
	config Config
	random *rand.Rand
	flying []packet // by when they are due, which is the order in which they entered
	bytes  int
	last   time.Time // when the one that entered last is due
}

type packet struct {
	due  time.Time
	data []byte
}

// NewLine returns an empty line. The same seed loses and delays the same packets.
func NewLine(c Config, seed uint64) *Line {
	return &Line{config: c, random: rand.New(rand.NewPCG(seed, 0))}
}

// Set makes it another kind of way, for packets that enter from now on.
func (l *Line) Set(c Config) { l.config = c }

// Enter puts a packet, which the line keeps, on its way. It reports false where the
// packet is lost.
func (l *Line) Enter(now time.Time, data []byte) bool {
	most := l.config.Most
	if most == 0 {
		most = Most
	}
	if l.bytes+len(data) > most || l.config.Loss > 0 && l.random.Float64() < l.config.Loss {
		return false
	}
	due := now.Add(l.config.Delay)
	if l.config.Jitter > 0 {
		due = due.Add(time.Duration(l.random.Int64N(int64(l.config.Jitter) + 1)))
	}
	if due.Before(l.last) { // none overtakes another
		due = l.last
	}
	l.last = due
	l.flying = append(l.flying, packet{due, data})
	l.bytes += len(data)
	return true
}

// Leave returns the next packet that is due; false: none is.
func (l *Line) Leave(now time.Time) ([]byte, bool) {
	if len(l.flying) == 0 || l.flying[0].due.After(now) {
		return nil, false
	}
	data := l.flying[0].data
	l.flying[0].data = nil
	l.flying = l.flying[1:]
	l.bytes -= len(data)
	return data, true
}

// Due returns when the next packet comes out; false: none is on its way.
func (l *Line) Due() (time.Time, bool) {
	if len(l.flying) == 0 {
		return time.Time{}, false
	}
	return l.flying[0].due, true
}
