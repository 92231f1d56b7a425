package audio_test

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/audio"
	"flexphone/audio/rtp"
)

func event(payloadType uint8, clock int) audio.Codec {
	return audio.Codec{Name: "telephone-event", PayloadType: payloadType, ClockRate: clock}
}

// whistle is a tone of 500 Hz, and whistled tells how much of a piece of sound is
// one: a codec that is taken for another makes noise of it.
func whistle(rate int, d time.Duration) []int16 {
	pcm := make([]int16, rate/100*int(d/audio.TickDuration))
	for i := range pcm {
		pcm[i] = int16(8000 * math.Sin(2*math.Pi*500*float64(i)/float64(rate)))
	}
	return pcm
}

func whistled(pcm []int16, rate int) time.Duration {
	ticks := 0
	for tick := range slices.Chunk(pcm, rate/100) {
		crossings, least, most := 0, tick[0], tick[0]
		for i := range tick[1:] {
			if tick[i] < 0 != (tick[i+1] < 0) {
				crossings++
			}
			least, most = min(least, tick[i]), max(most, tick[i])
		}
		if crossings >= 9 && crossings <= 11 && most > 5000 && most < 11000 && least < -5000 && least > -11000 {
			ticks++
		}
	}
	return time.Duration(ticks) * audio.TickDuration
}

// whistledTo asserts that p heard all but a syllable of a whistle.
func whistledTo(t *testing.T, p *phone, whistle []int16) {
	t.Helper()
	got, want := whistled(p.card.ear, p.card.rate), length(whistle, p.card.rate)
	if got < want-80*time.Millisecond || got > want+20*time.Millisecond {
		t.Errorf("%v of %v were heard; %+v", got, want, p.Stats())
	}
}

func under(payloadType uint8, c audio.Codec) audio.Codec {
	c.PayloadType = payloadType
	return c
}

// A wish is never refused: what is sent is the next shorter duration that the
// codec can do, evenly, and all of it is heard.
func TestPacketTimeIsAWish(t *testing.T) {
	const rate = 16000
	spoken := whistle(rate, time.Second)
	for _, c := range []struct {
		wish       time.Duration
		opus, g711 time.Duration // in ms
	}{
		{0, 20, 20}, {-20 * time.Millisecond, 20, 20}, {1, 10, 10}, {2500 * time.Microsecond, 10, 10}, {5 * time.Millisecond, 10, 10},
		{10 * time.Millisecond, 10, 10}, {15 * time.Millisecond, 10, 10}, {25 * time.Millisecond, 20, 20},
		{29_999_999, 20, 20}, {30 * time.Millisecond, 20, 30}, {50 * time.Millisecond, 40, 50},
		{60 * time.Millisecond, 60, 60}, {70 * time.Millisecond, 60, 60}, {80 * time.Millisecond, 60, 60},
		{120 * time.Millisecond, 60, 60}, {time.Hour, 60, 60},
	} {
		for _, f := range formats() {
			t.Run(fmt.Sprintf("%s/%v", f.Codec().Name, c.wish), func(t *testing.T) {
				t.Parallel()
				want := c.g711 * time.Millisecond
				switch f.Codec().Name {
				case "opus":
					want = c.opus * time.Millisecond
				case "L16":
					want = min(want, 40*time.Millisecond)
				}
				synctest.Test(t, func(t *testing.T) {
					n := newNetwork()
					pa, pb := newPhone(n, hostA, newCard(rate, spoken)), newPhone(n, hostB, newCard(rate, nil))
					var stamps []uint32
					n.way = func(from, to netip.AddrPort, b []byte) []time.Duration {
						var r rtp.Parser
						var p rtp.Packet
						if to == pb.addr && r.Parse(&p, b) == nil {
							stamps = append(stamps, p.Timestamp)
						}
						return []time.Duration{0}
					}
					pa.talkTo(t, pb.addr, f.Codec(), c.wish)
					pb.talkTo(t, pa.addr, f.Codec(), c.wish)
					run(t, length(spoken, rate)+time.Second, pa, pb)
					whistledTo(t, pb, spoken)
					for i, s := range stamps[1:] {
						if got := time.Duration(s-stamps[i]) * time.Second / time.Duration(f.Codec().ClockRate); got != want {
							t.Fatalf("packet %d has %v, want %v", i, got, want)
						}
					}
					pa.Close()
					pb.Close()
					time.Sleep(time.Second) // simulated: let the last datagrams land
				})
			})
		}
	}
}

// A stream is ready for every format of our own description, under our numbers
// and, where nothing else has them, under those of the peer.
func TestEveryFormatOfOurOwnIsHeard(t *testing.T) {
	const rate = 16000
	spoken := whistle(rate, time.Second)
	opus, alaw, mulaw := formats()[0].Codec(), formats()[1].Codec(), formats()[2].Codec()
	ours := []audio.Codec{opus, alaw, mulaw, event(110, 48000), event(101, 8000)}
	for name, c := range map[string]struct {
		agreed  audio.Codec // as the peer wrote it
		digits  uint8
		ours    []audio.Codec
		sends   audio.Codec // what the peer does
		sending uint8       // its digits
	}{
		"our number":                    {under(116, opus), 101, ours, opus, 110},
		"the peer's number":             {under(116, opus), 101, ours, under(116, opus), 101},
		"the second of two":             {alaw, 101, ours, mulaw, 101},
		"the third of three":            {alaw, 101, ours, opus, 110},
		"a narrow one beside a wide":    {opus, 110, ours, alaw, 101},
		"nothing but what was agreed":   {alaw, 101, nil, alaw, 101},
		"numbers of the peer's offer":   {under(96, opus), 97, []audio.Codec{under(96, opus), under(9, alaw), event(97, 48000)}, under(96, opus), 97},
		"events under both numbers":     {alaw, 99, ours, alaw, 99},
		"formats that nobody here has":  {alaw, 101, append([]audio.Codec{{Name: "G729", PayloadType: 18, ClockRate: 8000}}, ours...), mulaw, 101},
		"numbers that are none":         {alaw, 101, append([]audio.Codec{under(128, opus), under(255, mulaw)}, ours...), mulaw, 101},
		"a static number that was lent": {under(98, opus), 101, append([]audio.Codec{under(0, alaw)}, ours...), under(0, alaw), 101},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork()
				pa, pb := newPhone(n, hostA, newCard(rate, spoken)), newPhone(n, hostB, newCard(rate, nil))
				pa.agree(t, pb.addr, audio.Session{Codec: c.sends, DTMF: c.sending, Send: true, Recv: true})
				pb.agree(t, pa.addr, audio.Session{
					Codec: c.agreed, DTMF: c.digits, Receive: c.ours, Send: true, Recv: true,
				})
				run(t, length(spoken, rate)+time.Second, pa, pb)
				whistledTo(t, pb, spoken)
				for _, k := range "12#" {
					if err := pa.SendDigit(k); err != nil {
						t.Fatal(err)
					}
				}
				run(t, time.Second, pa, pb)
				if s := pb.Stats(); s.Refused != 0 {
					t.Errorf("%+v", s)
				}
				pa.Close()
				pb.Close()
				if got := all(pb.Digits()); got != "12#" {
					t.Errorf("digits %q", got)
				}
			})
		})
	}
}

// A number that we gave to one format is not taken for the peer's name of
// another.
func TestOurNumberIsNotThePeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		pb := newPhone(n, hostB, newCard(8000, nil))
		peer := netip.MustParseAddrPort(hostA + ":20000")
		opus, alaw := formats()[0].Codec(), formats()[1].Codec()
		pb.agree(t, peer, audio.Session{
			Codec: under(101, opus), DTMF: 8, Receive: []audio.Codec{opus, alaw, event(101, 8000)}, Send: true, Recv: true,
		})
		r := audio.NewReader(pb.Stream)
		r.Take(arrived(packet(t, rtp.Packet{PayloadType: 101, SSRC: 1, Sequence: 1, Payload: []byte{5, 0x80, 3, 0x20}})))
		r.Take(arrived(packet(t, rtp.Packet{PayloadType: 8, SSRC: 1, Sequence: 2, Payload: make([]byte, 80)})))
		if s := pb.Stats(); s.PacketsReceived != 2 || s.Refused != 0 {
			t.Errorf("%+v", s)
		}
		pb.Close()
		if got := all(pb.Digits()); got != "5" {
			t.Errorf("digits %q", got)
		}
	})
}

func packet(t testing.TB, p rtp.Packet) []byte {
	t.Helper()
	b := make([]byte, rtp.HeaderSize+len(p.Payload))
	copy(b[rtp.HeaderSize:], p.Payload)
	if err := p.PutHeader(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// The peer changes what it sends again and again, without a word of it: all of
// it is heard, and the delay is not larger at the end than at the beginning.
func TestPeerChangesTheCodecInMidStream(t *testing.T) {
	const rate = 16000
	spoken := whistle(rate, time.Second)
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		pa, pb := newPhone(n, hostA, newCard(rate, nil)), newPhone(n, hostB, newCard(rate, nil))
		var codecs []audio.Codec
		for _, f := range formats() {
			codecs = append(codecs, f.Codec())
		}
		pb.agree(t, pa.addr, audio.Session{Codec: codecs[0], Receive: codecs, Send: true, Recv: true})
		for i := range 20 {
			c := codecs[i*i%7%len(codecs)]
			pa.talkTo(t, pb.addr, c, time.Duration(10+i%6*10)*time.Millisecond)
			run(t, 300*time.Millisecond, pa, pb)
			pa.card.timer, pb.card.timer = nil, nil
		}
		for _, c := range codecs {
			pa.card.mic, pb.card.ear = slices.Clone(spoken), nil
			pa.talkTo(t, pb.addr, c, 0)
			run(t, length(spoken, rate)+time.Second, pa, pb)
			pa.card.timer, pb.card.timer = nil, nil
			whistledTo(t, pb, spoken)
			if s := pb.Stats(); s.Delay > 70*time.Millisecond {
				t.Errorf("%v of sound is waiting", s.Delay)
			}
		}
		// Another clock is another source, whose first packet is not believed yet.
		if s := pb.Stats(); s.PacketsLost != 0 || s.Refused > 20 || s.Jitter > 20*time.Millisecond {
			t.Errorf("%+v", s)
		}
		pa.Close()
		pb.Close()
	})
}

// Early media from one place, the answer from another, then changes: each start
// is heard.
func TestStreamIsStartedAgainAndAgain(t *testing.T) {
	const rate = 16000
	spoken := whistle(rate, time.Second)
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		early, pa, pb := newPhone(n, "192.0.2.7", newCard(rate, spoken)), newPhone(n, hostA, newCard(rate, spoken)), newPhone(n, hostB, newCard(rate, nil))
		var ours []audio.Codec
		for _, f := range formats() {
			ours = append(ours, f.Codec())
		}
		for i, from := range []*phone{early, pa, early, pa} {
			from.card.mic, from.card.timer = slices.Clone(spoken), nil
			pb.card.ear, pb.card.timer = nil, nil
			c := ours[i%3]
			from.talkTo(t, pb.addr, c, 0)
			pb.agree(t, from.addr, audio.Session{Codec: c, Receive: ours, Send: true, Recv: true})
			run(t, length(spoken, rate)+time.Second, from, pb)
			whistledTo(t, pb, spoken)
		}
		for _, p := range []*phone{early, pa, pb} {
			p.Close()
		}
	})
}

// Comfort noise is heard, whether it was agreed or not, and a sign of life; its pauses
// are no loss.
func TestComfortNoiseIsHeardAndCounts(t *testing.T) {
	for _, ours := range [][]audio.Codec{nil, {{Name: "CN", PayloadType: 13, ClockRate: 8000}}, {{Name: "cn", PayloadType: 98, ClockRate: 8000}}} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork()
			pb := newPhone(n, hostB, newCard(8000, nil))
			peer := netip.MustParseAddrPort(hostA + ":20000")
			pb.agree(t, peer, audio.Session{Codec: formats()[2].Codec(), Receive: ours, Send: true, Recv: true})
			noise := uint8(13)
			if len(ours) > 0 {
				noise = ours[0].PayloadType
			}
			r := audio.NewReader(pb.Stream)
			play, captured := make([]int16, 80), make([]int16, 80)
			loud, sent := 0, 0
			for at := range 500 { // packets of 20 ms: 30 of sound, 20 of silence
				p := rtp.Packet{PayloadType: 0, SSRC: 1, Sequence: uint16(sent), Timestamp: uint32(at * 160), Payload: slices.Repeat([]byte{0x10}, 160)}
				if at%50 >= 30 {
					p.PayloadType, p.Payload = noise, []byte{60}
				}
				if at%50 <= 30 || at%5 == 0 {
					sent++
					r.Take(arrived(packet(t, p)))
				}
				for range 2 {
					pb.engine.Tick(play, captured, time.Now())
					level := power(play)
					if level > -20 {
						loud++
					}
					if at > 55 && level < -80 { // once the gain has come up
						t.Fatalf("packet %d: %.0f dBov", at, level)
					}
					time.Sleep(audio.TickDuration) // simulated
				}
			}
			s := pb.Stats()
			if s.PacketsReceived != uint64(sent) || s.PacketsLost != 0 || s.Late != 0 || s.Refused != 0 || s.Concealed != 0 || s.Delay > 70*time.Millisecond {
				t.Errorf("%d sent: %+v", sent, s)
			}
			if want := 300 * 2; loud < want-15 || loud > want+15 {
				t.Errorf("%d ticks of sound, want %d", loud, want)
			}
			pb.Close()
		})
	}
}
