// Package audio carries a call's sound between a sound card and a peer: the
// engine, which ticks with the card, and the streams that it feeds.
//
// It knows ticks of PCM, RTP and RTCP sessions (RFC 3550, 3551), digits in them
// (RFC 4733), and the tones that a phone plays by itself (ITU-T E.180). It
// refuses to know what a call is, how a session was negotiated, where the peer is
// and how packets get there, or which sound card and codecs there are: paths,
// devices and formats are handed in.
//
// # One goroutine ticks
//
// One goroutine at a time touches sound: that of the device, which blocks in its
// Exchange and ticks between two of them, so that a tick costs one wake; or
// Engine.Run, by the system's clock, while there is no device. It meets the
// others at four points, none of which can make it wait: a ring of arrived
// packets for each stream, an atomic pointer to what was negotiated, another to
// the tone that plays, and the streams' paths.
//
// # A tick has two halves
//
// First every stream brings what its peer said; then that is mixed for each end,
// and sent: the device hears all peers and the tones, a peer hears what was
// captured and all other peers. Between the halves a Processor sees what was
// captured and what will be played, and a limiter whatever is played after that:
// no payload of a peer, and nothing that was made up in place of one, hurts an ear.
// Who is not to hear whom is not asked here: a
// call that waits has a session that neither sends nor receives.
//
// # What may fail
//
// A device that fails, or that stands still in Exchange, is given up, and
// opened again with growing pauses; calls go on in silence meanwhile. The call
// into a driver that hangs may never end: it is left behind, a few times at
// most. A panic in a tick ends the stream or the tone in which it happened, and
// nothing else; one in the Processor ends processing.
//
// While there is nothing to hear and nobody to say it to, nothing ticks, and
// the device rests.
//
// # Who rings
//
// The one device, or another that is opened in its place for as long as it rings, and
// closed when somebody answers: one at a time has the clock. Where that one cannot be
// opened, or fails, the first rings.
//
// # Whom a stream hears
//
// Whoever the path takes for the peer. Another call of the same host is told apart
// by its source identifier, which must send two packets in order before it
// replaces the one that is heard (RFC 3550, appendix A.1).
//
// # Which formats a stream hears
//
// Whoever names a format must be ready for it at any time (RFC 3264, sections
// 5.1, 6.1 and 7): a peer that answers with two codecs may send the second, and
// change in mid-stream. So every format of our own description has its decoder
// from the start, and each packet is decoded by its payload type. The numbers
// are those that we gave. But some peers send under the numbers that they gave
// themselves: these are understood as well, where we gave them to nothing else.
// Comfort noise (RFC 3389) has its number from RFC 3551, and is heard whether it was
// agreed or not.
//
// # How good it is
//
// It is told by one figure, R of the E-model, from what was lost or late and from the
// delay. Each report tells the peer, if it asked for that, how it is heard (RFC 3611),
// and the encoder goes by the loss that the peer's reports tell of.
//
// # From mouth to ear
//
// What is said is heard later by what follows, in ms, between two phones of one network
// that are on time. Of the card's own periods each end has one more.
//
//	a packet is gathered, as it is captured       10, or 20 on other networks
//	it waits for the tick that is 3 after it came 8 (3 to 13, as the ticks of both lie)
//	it waits for the card, once made              0 (portaudio: or what was too little once)
//	G.711 at 48 kHz: two filters of 8 kHz         3 (at 8 kHz: 0; Opus itself: 6.5)
//	the canceller at 48 kHz: two of 16 kHz        0.2 (at 16 kHz: 0; hands-free: 12 more)
//	concealment, limiter, side tone, volume       0
//	together, of G.711 and of Opus                21 and 25
//
// The first two and the filters are held by TestDelayIsWhereItIsSaidToBe, in simulated time.
// In real calls on a machine whose two processors were wanted by thirty others the median was
// 23 and 27.6 where all threads of the phone come before those (internal/realtime), and 39 and
// 56 where they do not: each ms by which they wait for a processor is one of jitter.
package audio

import (
	"context"
	"time"

	"flexphone/audio/rtp"
)

// TickDuration is the engine's clock: one frame of capture and of playback.
const TickDuration = 10 * time.Millisecond

const ticksPerSecond = int(time.Second / TickDuration)

// A Device is a sound card, or what stands for one: mono 16-bit PCM at Rate,
// both ways on one clock.
type Device interface {
	Rate() int // frames per second: 8000, 16000 or 48000
	// Exchange plays one tick of sound and captures one. Both slices hold
	// Rate/100 samples. It blocks until the device's clock has moved by a
	// tick; it does not allocate. It returns ctx's error once ctx is done.
	// After an error it is not called again.
	Exchange(ctx context.Context, play, captured []int16) error
	// Rest stops the clock until the next Exchange, which may take longer. What
	// was played last may be cut off.
	Rest() error
	// Close may be called while Exchange or Rest hangs, and makes them return if
	// it can.
	Close() error
}

// A Patient device may let Exchange block for longer than others before it
// counts as dead.
type Patient interface {
	Patience() time.Duration
}

// A Counting device knows how often it had nothing to play when it should have, and
// how often its clock came more than a period late.
type Counting interface {
	Underruns() uint64
	Late() uint64
}

// A Codec names how sound is carried in RTP, as SDP does (RFC 8866, RFC 3551).
// So it does for digits, "telephone-event" (RFC 4733), and for silence, "CN"
// (RFC 3389).
type Codec struct {
	Name        string // "PCMU", "PCMA", "opus"
	PayloadType uint8  // 0 to 127
	ClockRate   int    // of the RTP timestamp
}

// A Session says how sound is exchanged with a peer, as negotiated.
type Session struct {
	Codec     Codec  // of what we send, under the peer's number
	Params    string // what the peer asks of it, as a=fmtp does (RFC 8866, section 6.15)
	DTMF      uint8  // the peer's payload type of telephone-event (RFC 4733); 0: not agreed
	DTMFClock int    // its clock rate; 0: that of the codec
	// Noise is the peer's payload type of comfort noise (RFC 3389), by which it is
	// told of silence instead of being sent it; 0: not agreed.
	Noise uint8
	// Receive is what the peer may send, under the numbers of our own
	// description: sound, telephone-event and CN. A codec that the engine does
	// not have is passed over. See "Which formats a stream hears".
	Receive []Codec
	// PacketTime is the peer's wish for what we send (RFC 8866, section 6.4; 0:
	// none), from which the next shorter duration that the codec can do is made.
	PacketTime time.Duration
	Send, Recv bool // SDP's direction (RFC 3264)
	// Metrics: the peer wants to be told how it is heard (RFC 3611, section 5).
	Metrics bool
}

// Stats are the figures of one stream.
type Stats struct {
	Codec           string
	PacketsSent     uint64
	PacketsReceived uint64
	ReportsReceived uint64        // RTCP packets of the peer: it is there even when it says nothing
	PacketsLost     uint64        // by sequence numbers
	Late            uint64        // came after their time to play
	Jitter          time.Duration // interarrival (RFC 3550, appendix A.8)
	RoundTrip       time.Duration // by RTCP; 0 until known
	Delay           time.Duration // playout buffer, now
	Refused         uint64        // packets that are malformed, of a stray source or of no agreed type
	Crowded         uint64        // packets that came when more waited for a tick than can
	Unsent          uint64        // packets that the path did not take, though it has a peer
	Concealed       time.Duration // sound that was made up for what was lost or late
	Told            bool          // the peer has said how it hears us, which is Peer
	Peer            rtp.Metrics
}
