// Package jitter is the playout buffer: packets go in as the network brings
// them, sound comes out in order, a tick at a time.
//
// It knows timestamps (RFC 3550, section 5.1) and how much sound is waiting. Each
// packet brings its decoder, since a peer may change the codec in mid-stream; the
// buffer has no clock other than its ticks. It does not know sockets, sources,
// payload types or statistics of the network.
//
// # How it plays
//
// Playing begins a fixed time after the first packet. What is missing when its
// time comes is lost: it is taken from what the packet behind it repeats, where
// that is there and its codec does so, or else concealed, and time goes on. Only
// when it does come, late and with nothing played of what followed, time goes
// back to it, so that the delay grows by as much as was needed; loss adds none.
// After a tenth of a second of nothing it begins afresh with the next packet.
// When more than needed waits for a whole second, be it
// from a burst, from an earlier growth or because the sender's clock is faster
// than ours, one tick is blended into its neighbour. So the delay follows a
// slow sender upwards and never grows with a fast one.
//
// Where the peer says that it is silent (RFC 3389), time goes on without sound.
// Another clock of timestamps, which comes with another codec, is a beginning
// (RFC 7160): what waited of the old one is left out, so that nothing piles up.
package jitter

import "time"

// A Decoder turns payloads into sound; audio.Decoder is one.
type Decoder interface {
	Decode(pcm []int16, payload []byte) (int, error)
	Conceal(pcm []int16) error
}

// A Recoverer is a Decoder whose packets repeat what was in the one before.
type Recoverer interface {
	// Recover fills pcm, all that is missing just before the packet next, which is
	// decoded afterwards. What next does not repeat is concealed.
	Recover(pcm []int16, next []byte) error
}

// A Coding is how packets of one codec become sound.
type Coding struct {
	Decoder Decoder
	Clock   int // timestamp units per second
}

const (
	tick = 10 * time.Millisecond
	// target is the sound that waits when playing begins: two packets of 20 ms
	// may be late or in disorder.
	target = 40 * time.Millisecond
	// surplus above target is normal: a packet comes whole, and is played in
	// ticks.
	surplus = 30 * time.Millisecond
	// window is how long a surplus lasts before a tick of it is taken away. A
	// tick a second follows a clock that is wrong by 1 %, far worse than any.
	window = 100 // ticks
	// most is what may ever wait; beyond it sound is cut at once.
	most = 300 * time.Millisecond
	// patience is how long nothing may come before a pause is taken for one.
	patience = 10 // ticks
	// concealed is how long a decoder may invent sound.
	concealed = 6 // ticks
	// longest is the longest packet: maxSize of G.711. Those of Opus end at 120 ms
	// (RFC 7587, section 4.2).
	longest = maxSize * time.Second / 8000
	// jump is the step of timestamps that is taken for a new beginning.
	jump = time.Second

	slots   = 64
	maxSize = 1300 // bytes of payload; longer ones are not put
)

type slot struct {
	seen      bool    // a packet of this sequence was here
	full      bool    // and waits
	coding    *Coding // nil: the peer falls silent here
	sequence  uint16
	timestamp uint32
	size      int
	data      [maxSize]byte
}

// A Buffer orders one source's packets and plays them. It belongs to one
// goroutine. It does not allocate.
type Buffer struct {
	rate   int     // samples per second out
	coding *Coding // of the newest packet; all that wait have its clock
	dec    *Coding // of what was played last

	slots   [slots]slot
	waiting int // full slots

	playing bool
	waited  int    // ticks since the first packet, before playing begins
	at      uint32 // timestamp of the sound behind that in pcm
	played  uint16 // sequence of what was played last
	newest  uint32 // largest timestamp
	last    uint16 // sequence of that with the largest timestamp
	length  uint32 // of the last packet, in timestamp units
	silent  bool   // the peer said so
	starved int    // ticks in a row with nothing there
	since   uint32 // timestamp of the first of them
	missing int    // ticks concealed in a row

	pcm  []int16 // decoded, not yet played
	have int     // of pcm

	least time.Duration // depth, in this window
	age   int           // ticks of this window

	late uint64
}

// New returns an empty buffer that plays at rate samples per second.
func New(rate int) *Buffer {
	return &Buffer{rate: rate, pcm: make([]int16, samples(longest+4*tick, rate))}
}

func samples(d time.Duration, rate int) int { return int(d * time.Duration(rate) / time.Second) }

// units and duration are of the clock of what waits; there is one once a packet
// was put.
func (b *Buffer) units(d time.Duration) uint32 { return uint32(samples(d, b.coding.Clock)) }

func (b *Buffer) duration(units int32) time.Duration {
	return time.Duration(units) * time.Second / time.Duration(b.coding.Clock)
}

// Reset empties the buffer: another source begins.
func (b *Buffer) Reset() {
	for i := range b.slots {
		b.slots[i].seen, b.slots[i].full = false, false
	}
	b.waiting, b.playing, b.waited, b.starved, b.missing, b.have, b.silent = 0, false, 0, 0, 0, 0, false
	b.startWindow()
}

// Late returns how many packets came after their time to play.
func (b *Buffer) Late() uint64 { return b.late }

// Delay returns how much sound is waiting.
func (b *Buffer) Delay() time.Duration {
	d := time.Duration(b.have) * time.Second / time.Duration(b.rate)
	if b.waiting > 0 {
		d += b.duration(int32(b.newest + b.length - b.at))
	}
	return max(d, 0)
}

// Put takes a packet. The payload is copied; the coding is used until the last
// of its packets is played.
func (b *Buffer) Put(c *Coding, sequence uint16, timestamp uint32, payload []byte) {
	if len(payload) > maxSize || !b.adopt(c, sequence) {
		return
	}
	b.put(c, sequence, timestamp, payload)
}

// PutSilence takes a packet by which the peer says that nothing follows for a
// while (RFC 3389). It is not put before the first packet of sound.
func (b *Buffer) PutSilence(sequence uint16, timestamp uint32) {
	if b.playing || b.waiting > 0 {
		b.put(nil, sequence, timestamp, nil)
	}
}

// adopt makes c the coding of what comes. It returns false for a packet of the
// time before another clock began.
func (b *Buffer) adopt(c *Coding, sequence uint16) bool {
	switch {
	case b.coding == nil:
		b.length = uint32(c.Clock / 50)
	case b.coding.Clock != c.Clock:
		if d := int16(sequence - b.last); (b.playing || b.waiting > 0) && d < 0 && d > -slots {
			b.late++
			return false
		}
		b.length = uint32(int64(b.length) * int64(c.Clock) / int64(b.coding.Clock))
		b.Reset()
	}
	b.coding = c
	return true
}

func (b *Buffer) put(c *Coding, sequence uint16, timestamp uint32, payload []byte) {
	s := &b.slots[sequence%slots]
	if s.seen && s.sequence == sequence {
		return // a duplicate
	}
	if b.playing || b.waiting > 0 {
		ahead := b.duration(int32(timestamp - b.at))
		switch {
		case ahead > jump || ahead < -jump:
			b.Reset()
		case b.silent && (ahead < 0 || ahead > most):
			b.Reset() // its clock stood still in the silence, or ours went wrong
		case b.playing && ahead < 0:
			b.late++
			if b.starved == 0 || int32(timestamp-b.since) < 0 {
				return
			}
			b.at = timestamp // nothing was played in its place but what was made up
		}
	}
	if b.waiting == 0 && !b.playing {
		b.at, b.newest, b.last = timestamp, timestamp, sequence
	}
	if !b.playing && int32(timestamp-b.at) < 0 {
		b.at = timestamp // overtaken by the packet that came first
	}
	if int32(timestamp-b.newest) > 0 {
		b.newest, b.last = timestamp, sequence
	}
	if !s.full {
		b.waiting++
	}
	s.seen, s.full, s.coding, s.sequence, s.timestamp = true, true, c, sequence, timestamp
	s.size = copy(s.data[:], payload)
}

// Play fills pcm with the next tick.
func (b *Buffer) Play(pcm []int16) {
	if !b.playing {
		if b.waiting == 0 || b.wait() {
			clear(pcm)
			return
		}
		b.playing, b.waited, b.have = true, 0, 0
		b.startWindow()
	}
	n := len(pcm)
	depth := b.Delay()
	if depth > most {
		b.cut()
	}
	b.least = min(b.least, depth)
	if b.age++; b.age == window {
		shrink := b.least > target+surplus
		b.startWindow()
		if shrink {
			b.fill(2 * n)
			blend(pcm, b.pcm[:n], b.pcm[n:2*n])
			b.drop(2 * n)
			return
		}
	}
	b.fill(n)
	copy(pcm, b.pcm[:n])
	b.drop(n)
}

// wait counts a tick before playing begins, and tells whether to wait on.
func (b *Buffer) wait() bool {
	b.waited++
	return b.waited <= int(target/tick) && b.Delay() < target+surplus
}

func (b *Buffer) startWindow() { b.age, b.least = 0, most }

// blend fades from one piece of sound into another of the same length.
func blend(out, from, to []int16) {
	n := len(out)
	for i := range out {
		out[i] = int16((int(from[i])*(n-i) + int(to[i])*i) / n)
	}
}

func (b *Buffer) drop(n int) {
	copy(b.pcm, b.pcm[n:b.have])
	b.have -= n
}

// fill decodes until n samples are there.
func (b *Buffer) fill(n int) {
	for b.have < n {
		b.more()
	}
}

// more adds at least one tick, or one packet, to pcm, or learns that the peer is
// silent.
func (b *Buffer) more() {
	s := b.earliest()
	if s == nil && !b.silent {
		b.starve()
		return
	}
	b.starved = 0
	if s == nil || int32(s.timestamp-b.at) >= int32(b.units(tick)) {
		if s == nil || !b.recover(s) {
			b.conceal() // lost, or not sent
			b.at += b.units(tick)
		}
		return
	}
	s.full = false
	b.waiting--
	b.played = s.sequence
	if b.silent = s.coding == nil; b.silent {
		b.at = s.timestamp
		return
	}
	b.dec = s.coding
	n, err := b.dec.Decoder.Decode(b.pcm[b.have:], s.data[:s.size])
	if err != nil || n <= 0 {
		b.conceal()
		b.at = s.timestamp + b.units(tick)
		return
	}
	b.have += n
	b.missing = 0
	b.length = uint32(int64(n) * int64(b.coding.Clock) / int64(b.rate))
	b.at = s.timestamp + b.length
}

// recover adds what is missing before s, if that is no more than the packet before
// it, which was lost, and s can tell.
func (b *Buffer) recover(s *slot) bool {
	gap := s.timestamp - b.at
	if b.silent || s.coding == nil || s.coding != b.dec || int16(s.sequence-b.played) < 2 || gap > b.length {
		return false
	}
	r, ok := s.coding.Decoder.(Recoverer)
	if !ok {
		return false
	}
	n := samples(b.duration(int32(gap)), b.rate)
	if r.Recover(b.pcm[b.have:b.have+n], s.data[:s.size]) != nil {
		return false
	}
	b.have += n
	b.missing = 0
	b.at = s.timestamp
	return true
}

// starve adds a tick when nothing is there.
func (b *Buffer) starve() {
	if b.starved == 0 {
		b.since = b.at
	}
	b.conceal()
	b.at += b.units(tick)
	if b.starved++; b.starved > patience {
		have := b.have
		b.Reset() // it was a pause
		b.have = have
	}
}

// conceal adds a tick of invented sound, or of silence where that would last
// too long.
func (b *Buffer) conceal() {
	gap := b.pcm[b.have : b.have+samples(tick, b.rate)]
	if b.missing++; b.silent || b.missing > concealed || b.dec == nil || b.dec.Decoder.Conceal(gap) != nil {
		clear(gap)
	}
	b.have += len(gap)
}

func (b *Buffer) earliest() *slot {
	if b.waiting == 0 {
		return nil
	}
	var first *slot
	for i := range b.slots {
		s := &b.slots[i]
		if s.full && (first == nil || int32(s.timestamp-first.timestamp) < 0) {
			first = s
		}
	}
	return first
}

// cut throws away what waits beyond target.
func (b *Buffer) cut() {
	keep := b.newest + b.length - b.units(target)
	for s := b.earliest(); s != nil && int32(s.timestamp-keep) < 0; s = b.earliest() {
		s.full = false
		b.waiting--
	}
	if s := b.earliest(); s != nil {
		b.at = s.timestamp
	}
}
