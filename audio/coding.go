package audio

import "time"

// A Format makes the coders of one codec. Packages g711 and opus have them.
type Format interface {
	Codec() Codec // as offered; a session's payload type may be another
	// Packet returns the longest duration of packets that the codec can do and
	// that is not above the wish; its shortest if there is none.
	Packet(wish time.Duration) time.Duration
	// NewEncoder returns an encoder of packets of a duration that Packet
	// returned, at a device's rate. What whoever hears it has asked for, in the
	// words of a=fmtp, is done where the codec knows it and can do it.
	NewEncoder(rate int, packet time.Duration, params string) (Encoder, error)
	// NewDecoder returns a decoder to a device's rate.
	NewDecoder(rate int) (Decoder, error)
}

// An Encoder turns sound into payloads. It belongs to one goroutine and does
// not allocate.
type Encoder interface {
	// Encode writes the payload of one packet of sound to b and returns its
	// length; 0: whoever decodes it needs no packet to hear this silence.
	Encode(b []byte, pcm []int16) (int, error)
}

// An Adapter is an Encoder that goes by what becomes of its packets.
type Adapter interface {
	// Adapt is called with each of the peer's reports, once in about 5 s, and does not
	// allocate.
	Adapt(Reported) error
}

// Reported is what a report says of our packets.
type Reported struct {
	Lost      float64       // part of them, from 0 to 1, since the report before
	RoundTrip time.Duration // 0: not known
}

// A Decoder turns payloads into sound. It belongs to one goroutine and does
// not allocate.
type Decoder interface {
	// Decode writes a payload's sound to pcm and returns how many samples it
	// is. A payload that is longer than pcm is an error.
	Decode(pcm []int16, payload []byte) (int, error)
	// Conceal fills pcm, of a whole number of 10 ms, with what may stand in
	// for sound that did not arrive.
	Conceal(pcm []int16) error
	// One that can take what is missing from the packet behind it is a
	// jitter.Recoverer as well.
}
