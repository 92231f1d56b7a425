// Package wire is a long way between hosts: packets that enter it come out later,
// and not all of them, or not in their order, or twice, where that is asked for.
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
	"slices"
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
	// Run is of how many packets to one address each loss is, none of which the one
	// behind it escapes; 0: of one.
	Run int
	// In the last Stall of each Every, nothing comes out; Every 0: never.
	Stall, Every time.Duration
	Repeated     float64 // the share that comes out once more, 10 ms later, 0 to 1
	Overtaken    float64 // the share that is 30 ms late, so that others overtake it, 0 to 1
	// Drift is how much later a packet is for each second that the way has been so, in
	// parts of a million: to who hears, the clock of who speaks is so much too slow.
	Drift float64
	Most  int // bytes on the way at once; what is more is lost. 0: Most
}

const (
	again = 10 * time.Millisecond // after a packet it comes once more
	held  = 30 * time.Millisecond // is one that others overtake
)

// A Line is the pure half of a Wire: packets that are on their way, and when they
// come out. Time is passed in, and does not go back.
type Line struct {
	config Config
	random *rand.Rand
	flying []packet // by when they are due
	bytes  int
	last   time.Time       // when the one that entered last is due, but for those that are overtaken
	since  time.Time       // the first entered this kind of way
	left   map[[4]byte]int // of runs of losses, by address
}

type packet struct {
	due  time.Time
	data []byte
}

// NewLine returns an empty line. The same seed loses and delays the same packets.
func NewLine(c Config, seed uint64) *Line {
	return &Line{config: c, random: rand.New(rand.NewPCG(seed, 0)), left: make(map[[4]byte]int)}
}

// Set makes it another kind of way, for packets that enter from now on.
func (l *Line) Set(c Config) {
	l.config, l.since = c, time.Time{}
	clear(l.left)
}

// Enter puts a packet, which the line keeps, on its way. It reports false where the
// packet is lost.
func (l *Line) Enter(now time.Time, data []byte) bool {
	c := &l.config
	if l.since.IsZero() {
		l.since = now
	}
	most := c.Most
	if most == 0 {
		most = Most
	}
	if l.bytes+len(data) > most || l.lose(data) {
		return false
	}
	due := now.Add(c.Delay + time.Duration(float64(now.Sub(l.since))*c.Drift/1e6))
	if c.Jitter > 0 {
		due = due.Add(time.Duration(l.random.Int64N(int64(c.Jitter) + 1)))
	}
	if c.Every > 0 {
		if left := c.Every - due.Sub(l.since)%c.Every; left <= c.Stall {
			due = due.Add(left)
		}
	}
	if l.happens(c.Overtaken) {
		l.fly(packet{due.Add(held), data})
		return true
	}
	if due.Before(l.last) { // none overtakes another
		due = l.last
	}
	l.last = due
	l.fly(packet{due, data})
	if l.happens(c.Repeated) {
		l.fly(packet{due.Add(again), data})
	}
	return true
}

// happens is true of a share of all cases.
func (l *Line) happens(share float64) bool { return share > 0 && l.random.Float64() < share }

// lose decides whether a packet is lost.
func (l *Line) lose(data []byte) bool {
	var to [4]byte
	if len(data) >= 20 {
		copy(to[:], data[16:]) // of IPv4
	}
	if l.left[to] > 0 {
		l.left[to]--
		return true
	}
	run := float64(max(l.config.Run, 1))
	// Of a row of packets that arrive, and runs that do not, this part are beginnings.
	if !l.happens(l.config.Loss / (run - (run-1)*l.config.Loss)) {
		return false
	}
	l.left[to] = int(run) - 1
	return true
}

// fly puts a packet behind those that are due before it, or with it.
func (l *Line) fly(p packet) {
	i := len(l.flying)
	for i > 0 && l.flying[i-1].due.After(p.due) {
		i--
	}
	l.flying = slices.Insert(l.flying, i, p)
	l.bytes += len(p.data)
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
