package audio_test

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"flexphone/audio"
	"flexphone/audio/limit"
	"flexphone/audio/rtp"
)

// FuzzPackets: whatever the peer sends, as RTP or as RTCP, ticks go on.
func FuzzPackets(f *testing.F) {
	packet := func(p rtp.Packet) []byte {
		b := make([]byte, rtp.HeaderSize+len(p.Payload))
		copy(b[rtp.HeaderSize:], p.Payload)
		if err := p.PutHeader(b); err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(uint8(0), packet(rtp.Packet{PayloadType: 111, Payload: []byte{0x48, 1, 2, 3, 4}}))
	f.Add(uint8(1), packet(rtp.Packet{PayloadType: 8, Payload: make([]byte, 160)}))
	f.Add(uint8(2), packet(rtp.Packet{PayloadType: 101, Payload: []byte{5, 0x80, 3, 0x20}}))
	f.Add(uint8(2), []byte{0x81, 201, 0, 7, 0, 0, 0, 1})
	peer := netip.MustParseAddrPort("192.0.2.1:20000")
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		p := newPhone(newNetwork(), hostB, newCard(8000, nil))
		defer p.Close()
		var ours []audio.Codec
		for _, f := range formats() {
			ours = append(ours, f.Codec())
		}
		p.agree(t, peer, audio.Session{
			Codec: ours[int(which)%len(ours)], DTMF: 101, Receive: append(ours, event(110, 48000)), Send: true, Recv: true,
		})
		r := audio.NewReader(p.Stream)
		play, captured := make([]int16, 80), make([]int16, 80)
		// The packet again and again with its numbers moved on, so that it
		// gets past those who wait for order.
		now := time.Unix(0, 0)
		for i := range 12 {
			b := append([]byte(nil), b...)
			if len(b) > 7 {
				b[3] += byte(i)
				b[6] += byte(i)
				if i%3 == 2 { // another format, in the midst of it
					b[1] = []byte{0, 8, 9, 13, 101, 110, 111}[(int(which)+i)%7]
				}
			}
			r.Take(audio.Datagram{Protocol: audio.RTP, Bytes: b, At: now, NewPeer: i == 0})
			r.Take(audio.Datagram{Protocol: audio.RTCP, Bytes: b, At: now})
			p.engine.Tick(play, captured, now)
			now = now.Add(audio.TickDuration)
		}
		if s := p.Stats(); s.Delay < 0 || s.RoundTrip < 0 || s.Jitter < 0 {
			t.Fatalf("%+v", s)
		}
	})
}

// FuzzShock: whatever is in the packets of whichever codec, and whatever is made up
// in place of those that are missing, a tone beside it, never hurts an ear.
func FuzzShock(f *testing.F) {
	noise := make([]byte, 400)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for which := range formats() {
		f.Add(uint8(which), uint64(0), uint8(160), noise)
		f.Add(uint8(which), uint64(0xf0f2), uint8(60), noise)
		f.Add(uint8(which), uint64(0xaaaaaaaa), uint8(20), []byte{0x80, 0, 0x2a, 0xff})
	}
	f.Fuzz(func(t *testing.T, which uint8, missing uint64, size uint8, b []byte) {
		const rate = 16000
		p := newPhone(newNetwork(), hostB, newCard(rate, nil))
		defer p.Close()
		codec := formats()[int(which)%len(formats())].Codec()
		p.agree(t, netip.MustParseAddrPort("192.0.2.1:20000"), audio.Session{Codec: codec, Recv: true})
		p.engine.Play(audio.Germany().Dial)
		in := audio.NewReader(p.Stream)
		play, captured := make([]int16, rate/100), make([]int16, rate/100)
		mean, now := 0.0, time.Unix(0, 0)
		for i := range 64 {
			if missing>>i&1 == 0 && len(b) > 0 {
				payload := make([]byte, size)
				for k := range payload {
					payload[k] = b[(i*int(size)+k)%len(b)]
				}
				packet := rtp.Packet{PayloadType: codec.PayloadType, Sequence: uint16(i), Timestamp: uint32(i * codec.ClockRate / 50), SSRC: 7, Payload: payload}
				raw := append(make([]byte, rtp.HeaderSize), payload...)
				if err := packet.PutHeader(raw); err != nil {
					t.Fatal(err)
				}
				in.Take(audio.Datagram{Protocol: audio.RTP, Bytes: raw, At: now, NewPeer: i == 0})
			}
			for range 2 {
				p.engine.Tick(play, captured, now)
				now = now.Add(audio.TickDuration)
				if l, h := slices.Min(play), slices.Max(play); l < -limit.Peak || h > limit.Peak {
					t.Fatalf("from %d to %d is played", l, h)
				}
				sum := 0.0
				for _, v := range play {
					sum += float64(v) * float64(v)
				}
				mean = mean*9/10 + sum/float64(len(play))/10
			}
			if level := math.Sqrt(mean); i >= 10 && level > 1.3*limit.Level {
				t.Fatalf("a level of %.0f", level)
			}
		}
	})
}
