package audio

import (
	"context"
	"net/netip"
	"time"
)

// TickDuration is the engine's clock: one frame of capture and of playback.
const TickDuration = 10 * time.Millisecond

// A Device is a sound card, or what stands for one: mono 16-bit PCM at Rate,
// both ways on one clock.
type Device interface {
	Rate() int // frames per second: 8000, 16000 or 48000
	// Exchange plays one tick of sound and captures one. Both slices hold
	// Rate/100 samples. It blocks until the device's clock has moved by a
	// tick; it does not allocate. It returns ctx's error once ctx is done.
	Exchange(ctx context.Context, play, captured []int16) error
	Close() error
}

// A Codec names how sound is carried in RTP, as SDP does (RFC 8866, RFC 3551).
type Codec struct {
	Name        string // "PCMU", "PCMA", "opus"
	PayloadType uint8
	ClockRate   int // of the RTP timestamp
}

// A Session says where and how sound is exchanged with a peer, as negotiated.
type Session struct {
	Remote     netip.AddrPort // RTP; RTCP is at the next port (RFC 3550)
	Codec      Codec
	DTMF       uint8         // payload type of telephone-event (RFC 4733); 0: not agreed
	PacketTime time.Duration // of what we send: 10 to 60 ms; 0: 20 ms
	Send, Recv bool          // SDP's direction (RFC 3264)
}

// Stats are the figures of one stream.
type Stats struct {
	Codec           string
	PacketsSent     uint64
	PacketsReceived uint64
	PacketsLost     uint64        // by sequence numbers
	Late            uint64        // came after their time to play
	Jitter          time.Duration // interarrival (RFC 3550, appendix A.8)
	RoundTrip       time.Duration // by RTCP; 0 until known
	Delay           time.Duration // playout buffer, now
}
