// Package jitter is the playout buffer: packets go in as the network brings
// them, sound comes out in order, a tick at a time.
//
// It knows timestamps (RFC 3550, section 5.1), when packets came, and how much
// sound is waiting. Each packet brings its decoder, since a peer may change the
// codec in mid-stream. Time is handed in. It does not know sockets, sources,
// payload types or what was lost.
//
// # How long it waits
//
// Each packet's transit is measured against that of the fastest of the last 500.
// A histogram of these relative delays says what each delay would cost: itself, and
// those packets that come too late for it. The cheapest is the target. It grows at once
// and shrinks slowly.
//
// It begins as if packets overtook each other, until the first few have shown that they do
// not: then nobody speaks yet, or little of it is made shorter, and neither a network that
// is uneven from its beginning nor one that is even costs a call its first words.
//
// # How it plays
//
// Playing begins when the first packet has waited for the target. What is missing
// when its time comes is concealed, whether anything came after it or not, and time
// goes on: loss adds no delay. If the packet does come, and nothing behind it was
// played, time goes back to it: lateness takes no sound away, and adds delay.
//
// Where each packet repeats the one before, a lost one is taken from the next. It
// counts as one that came with that, so that it is waited for if it is worth that.
//
// # How delay goes
//
// Where sound waits for longer or shorter than the target, one period of the voice
// is left out or played again, joined where it is like itself (WSOLA). In pauses
// that is free. In speech little is left as it is, and much, as after a burst, goes
// at once. More than any network is worth is cut.
//
// Where the peer says that it is silent (RFC 3389), time goes on with the noise that
// it describes, until it speaks again. One that sends nothing and numbers nothing
// meanwhile, as Opus does, is silent as well, and a decoder that was quiet before
// goes on with that for longer than it may invent a voice.
// Another clock of timestamps, which comes with another codec, is a beginning
// (RFC 7160): what waited of the old one is left out, so that nothing piles up.
package jitter

import (
	"time"

	"flexphone/audio/noise"
)

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

// Most is how much sound may ever wait; beyond it it is cut at once.
const Most = 300 * time.Millisecond

const (
	tick = 10 * time.Millisecond
	most = Most
	// short is by how little the delay may fall short of the target.
	short = time.Millisecond
	// concealed is how long a decoder may invent sound.
	concealed = 6 // ticks
	// hush is how long it may invent what is as quiet as what was heard last, if that
	// took for so many ticks: longer than Opus is silent without a packet, which begins
	// after 200 ms.
	hush, hushAfter = 50, 10 // ticks
	// longest is the longest packet: maxSize of G.711. Those of Opus end at 120 ms
	// (RFC 7587, section 4.2).
	longest = maxSize * time.Second / 8000
	// jump is the step of timestamps that is taken for a new beginning, and how long
	// nothing may come before the next packet is one.
	jump = time.Second
	// astray is how far the clock of the ticks may be from the one that it follows
	// before it is set, and follow how many ticks it takes to come nearer: a device
	// that asks unevenly plays evenly all the same. Where all of some ticks were astray
	// by more than slack to one side the device's clock stood still, and will not
	// catch up.
	slack  = 2 * time.Millisecond
	astray = 50 * time.Millisecond
	follow = 32
	some   = 8

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
	at      uint32 // timestamp of the sound behind that in pcm
	done    uint32 // timestamp behind what was decoded last, if anything was
	decoded bool
	played  uint16 // sequence of what was played last
	newest  uint32 // largest timestamp
	last    uint16 // sequence of that with the largest timestamp
	length  uint32 // of the last packet, in timestamp units
	silent  bool   // the peer said so
	missing int    // ticks concealed in a row

	network  network
	epoch    time.Time     // of our clock
	now      time.Duration // of this tick; the first one sets it
	ticks    int           // of some
	least    time.Duration // that the time was behind now in these
	most     time.Duration
	known    bool    // origin is of this clock
	origin   uint32  // the newest timestamp measured
	elapsed  int64   // of origin, in timestamp units without a wrap
	rest     int     // ticks before a piece is played twice again
	pause    int     // ticks in which nobody spoke
	loudness float64 // of the voice, as the mean square of a sample

	pcm  []int16 // decoded, not yet played
	have int     // of pcm

	late     uint64
	invented int // samples, in all
	gap      int // of these, samples since something was decoded

	noise *noise.Source
	noisy bool // the peer described what is heard while it is silent
}

// New returns an empty buffer that plays at rate samples per second.
func New(rate int) *Buffer {
	return &Buffer{rate: rate, network: newNetwork(), now: -time.Hour, pcm: make([]int16, samples(longest+8*tick, rate)), noise: noise.NewSource(rate)}
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
	b.stop()
	b.known, b.noisy = false, false
	b.network.restart()
}

// stop makes the next packet a beginning.
func (b *Buffer) stop() {
	for i := range b.slots {
		b.slots[i].seen, b.slots[i].full = false, false
	}
	b.waiting, b.playing, b.decoded, b.missing, b.have, b.silent = 0, false, false, 0, 0, false
}

// Late returns how many packets came after their time to play.
func (b *Buffer) Late() uint64 { return b.late }

// Concealed returns how much sound was made up for what was lost or late.
func (b *Buffer) Concealed() time.Duration {
	return time.Duration(b.invented) * time.Second / time.Duration(b.rate)
}

// Delay returns how much sound is waiting.
func (b *Buffer) Delay() time.Duration {
	d := time.Duration(b.have) * time.Second / time.Duration(b.rate)
	if b.waiting > 0 {
		d += b.duration(int32(b.newest + b.length - b.at))
	}
	return max(d, 0)
}

// Put takes a packet that arrived at a time. The payload is copied; the coding is
// used until the last of its packets is played.
func (b *Buffer) Put(c *Coding, sequence uint16, timestamp uint32, arrived time.Time, payload []byte) {
	if len(payload) > maxSize || !b.adopt(c, sequence) {
		return
	}
	if !b.put(c, sequence, timestamp, payload) {
		return
	}
	transit := b.since(arrived) - b.made(timestamp)
	if late := transit - b.network.base(); late > jump || late < -jump {
		b.network.restart() // the sender's clock stood still, or another one began
	}
	length := b.duration(int32(b.length))
	b.network.arrive(transit, length)
	// What was lost before a packet that repeats it has come with that.
	before := &b.slots[(sequence-1)%slots]
	if _, ok := c.Decoder.(Recoverer); ok && b.playing && !(before.seen && before.sequence == sequence-1) {
		b.network.arrive(transit+length, length)
	}
}

// since is a time by our clock.
func (b *Buffer) since(t time.Time) time.Duration {
	if b.epoch.IsZero() {
		b.epoch = t
	}
	return t.Sub(b.epoch)
}

// made is when the sound of a timestamp was made, by the sender's clock.
func (b *Buffer) made(timestamp uint32) time.Duration {
	if !b.known {
		b.known, b.origin, b.elapsed = true, timestamp, 0
	}
	ahead := int64(int32(timestamp - b.origin))
	if ahead > 0 {
		b.origin = timestamp
		b.elapsed += ahead
		ahead = 0
	}
	at, clock := b.elapsed+ahead, int64(b.coding.Clock)
	return time.Duration(at/clock)*time.Second + time.Duration(at%clock)*time.Second/time.Duration(clock)
}

// PutSilence takes a packet by which the peer says that nothing follows for a
// while, and describes its noise (RFC 3389). It is not put before the first packet of
// sound.
func (b *Buffer) PutSilence(sequence uint16, timestamp uint32, payload []byte) {
	if b.playing || b.waiting > 0 {
		b.put(nil, sequence, timestamp, payload)
	} else if b.noisy {
		b.noise.Describe(payload)
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

// put returns false for a packet that was here, or that it has no place for.
func (b *Buffer) put(c *Coding, sequence uint16, timestamp uint32, payload []byte) bool {
	s := &b.slots[sequence%slots]
	if s.seen && s.sequence == sequence {
		return false // a duplicate
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
			if !s.full {
				s.seen, s.sequence = true, sequence
			}
			if b.decoded && int32(timestamp-b.done) < 0 {
				return true // what is behind it was played
			}
			b.at = timestamp // what was concealed is played all the same
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
	return true
}

// Play fills pcm with the next tick, which begins now.
func (b *Buffer) Play(pcm []int16, now time.Time) {
	b.follow(b.since(now))
	if !b.playing {
		if b.waiting == 0 || b.delay(b.at) < b.network.wanted() && b.Delay() < most {
			b.wait(pcm)
			return
		}
		b.playing = true
	}
	if b.Delay() > most {
		b.cut()
	}
	if b.silent && b.delay(b.at) > b.network.wanted()+tick {
		b.at += b.units(tick) // nobody hears it
	}
	n := len(pcm)
	for b.have < n {
		b.more()
	}
	if b.missing == 0 && !b.silent {
		b.adapt(n)
	}
	copy(pcm, b.pcm[:n])
	b.drop(n)
	if b.waiting == 0 && b.duration(int32(b.at-b.newest)) > jump {
		b.stop()
	}
}

// wait fills pcm with what is heard before something is played.
func (b *Buffer) wait(pcm []int16) {
	if b.noisy {
		b.noise.Fill(pcm)
		return
	}
	clear(pcm)
}

// follow moves the clock of the ticks on by one, and nearer to the time.
func (b *Buffer) follow(now time.Duration) {
	b.now += tick
	off := now - b.now
	if off > astray || off < -astray {
		b.now, b.ticks = now, 0
		return
	}
	if b.ticks == 0 {
		b.least, b.most = off, off
	}
	b.least, b.most = min(b.least, off), max(b.most, off)
	move := off / follow
	if b.ticks++; b.ticks == some {
		if b.least > slack {
			move = b.least
		} else if b.most < -slack {
			move = b.most
		}
		b.ticks = 0
	}
	b.now += move
}

// delay is how long after the fastest packet the sound of a timestamp is decoded, if
// that is now.
func (b *Buffer) delay(timestamp uint32) time.Duration {
	return b.now - b.made(timestamp) - b.network.base()
}

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

// more adds a packet to pcm, or at most a tick of what stands in for one that is not
// there, or learns that the peer is silent.
func (b *Buffer) more() {
	s := b.earliest()
	if gap := b.hole(s); gap > 0 {
		if s == nil || !b.recover(s) {
			b.conceal(gap)
			b.at += uint32(int64(gap) * int64(b.coding.Clock) / int64(b.rate))
		}
		return
	}
	s.full = false
	b.waiting--
	if s.sequence == b.played+1 {
		b.invented -= b.gap // it had sent nothing
	}
	b.gap = 0
	b.played = s.sequence
	if b.silent = s.coding == nil; b.silent {
		b.at = s.timestamp
		b.noise.Describe(s.data[:s.size])
		b.noisy = true
		return
	}
	b.noisy = false
	b.dec = s.coding
	n, err := b.dec.Decoder.Decode(b.pcm[b.have:], s.data[:s.size])
	if err != nil || n <= 0 {
		n = samples(tick, b.rate)
		b.conceal(n)
	} else {
		b.have += n
		b.missing = 0
		b.length = uint32(int64(n) * int64(b.coding.Clock) / int64(b.rate))
	}
	b.at = s.timestamp + uint32(int64(n)*int64(b.coding.Clock)/int64(b.rate))
	b.done, b.decoded = b.at, true
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
	b.missing, b.gap = 0, 0
	b.at = s.timestamp
	b.done, b.decoded = b.at, true
	return true
}

// hole is how many samples are missing before a packet, a tick at most.
func (b *Buffer) hole(s *slot) int {
	most := samples(tick, b.rate)
	if s == nil {
		return most
	}
	return int(min(int64(int32(s.timestamp-b.at))*int64(b.rate)/int64(b.coding.Clock), int64(most)))
}

// conceal adds so many samples of invented sound, a tick at most, or of silence
// where that would last too long, or of the noise that the peer described.
func (b *Buffer) conceal(n int) {
	gap := b.pcm[b.have : b.have+samples(tick, b.rate)]
	most := concealed
	if b.pause >= hushAfter {
		most = hush
	}
	b.missing++
	switch {
	case b.silent:
		b.noise.Fill(gap)
	case b.missing > most || b.dec == nil || b.dec.Decoder.Conceal(gap) != nil:
		clear(gap)
	default:
		b.invented += n
		b.gap += n
	}
	b.have += n
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

// cut throws away what waits beyond the target.
func (b *Buffer) cut() {
	keep := b.newest + b.length - max(b.units(b.network.target), b.length)
	for s := b.earliest(); s != nil && int32(s.timestamp-keep) < 0; s = b.earliest() {
		s.full = false
		b.waiting--
	}
	if s := b.earliest(); s != nil {
		b.at = s.timestamp
		b.done, b.decoded = b.at, true // what was cut is not gone back to
	}
}
