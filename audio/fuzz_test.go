package audio_test

import (
	"net/netip"
	"testing"
	"time"

	"flexphone/audio"
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
