package audio

import (
	"sync/atomic"
	"time"

	"flexphone/audio/jitter"
	"flexphone/audio/rtp"
)

// inboxSize is more than a second of packets of 20 ms.
const inboxSize = 64

// An arrival is a packet on its way from a stream's reader to the engine.
type arrival struct {
	ear       *ear           // that of the time when it came
	coding    *jitter.Coding // nil: the peer falls silent
	restart   bool           // of another source than the one before
	at        time.Time
	sequence  uint16
	timestamp uint32
	size      int
	payload   [rtp.MaxPayload]byte
}

// An inbox is a ring of arrivals with one writer and one reader, neither of
// whom ever waits.
type inbox struct {
	written, read atomic.Uint32 // counts
	ring          [inboxSize]arrival
}

// put adds a packet, or returns false if the ring is full.
func (q *inbox) put(e *ear, c *jitter.Coding, p *rtp.Packet, at time.Time, restart bool) bool {
	w := q.written.Load()
	if w-q.read.Load() == inboxSize {
		return false
	}
	a := &q.ring[w%inboxSize]
	a.ear, a.coding, a.restart = e, c, restart
	a.at, a.sequence, a.timestamp = at, p.Sequence, p.Timestamp
	a.size = copy(a.payload[:], p.Payload)
	q.written.Store(w + 1)
	return true
}

// next returns the oldest packet, or nil; it stays valid until done is called.
func (q *inbox) next() *arrival {
	r := q.read.Load()
	if r == q.written.Load() {
		return nil
	}
	return &q.ring[r%inboxSize]
}

func (q *inbox) done() { q.read.Add(1) }
