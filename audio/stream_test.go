package audio_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"

	"flexphone/audio"
	"flexphone/audio/audiotest"
	"flexphone/audio/opus"
	"flexphone/audio/rtp"
	"flexphone/audio/udp"
)

func TestDigitsBothWaysInSpiteOfLoss(t *testing.T) {
	for _, f := range formats() {
		t.Run(f.Codec().Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const rate = 16000
				n := newNetwork()
				pa, pb := newPhone(n, hostA, newCard(rate, nil)), newPhone(n, hostB, newCard(rate, nil))
				count := 0
				n.way = func(from, to netip.AddrPort, b []byte) []time.Duration {
					if count++; count%3 == 0 {
						return nil
					}
					return []time.Duration{time.Duration(count%2) * 15 * time.Millisecond}
				}
				if err := pa.SendDigit('1'); !errors.Is(err, audio.ErrNoDTMF) {
					t.Errorf("before a session: %v", err)
				}
				pa.talkTo(t, pb.addr, f.Codec(), 0)
				pb.talkTo(t, pa.addr, f.Codec(), 0)
				const keysA, keysB = "1122*0#9", "3334567890ABCD"
				for _, k := range keysA {
					if err := pa.SendDigit(k); err != nil {
						t.Fatal(err)
					}
				}
				for _, k := range keysB {
					if err := pb.SendDigit(k); err != nil {
						t.Fatal(err)
					}
				}
				if err := pa.SendDigit('x'); err == nil {
					t.Error("x was taken for a key")
				}
				run(t, 5*time.Second, pa, pb)
				pa.Close()
				pb.Close()
				if got := all(pb.Digits()); got != keysA {
					t.Errorf("b got %q, want %q", got, keysA)
				}
				if got := all(pa.Digits()); got != keysB {
					t.Errorf("a got %q, want %q", got, keysB)
				}
				time.Sleep(time.Second) // simulated: let the last datagrams land
			})
		})
	}
}

func all(digits <-chan rune) string {
	var s string
	for d := range digits {
		s += string(d)
	}
	return s
}

func TestReportsSayWhatWasHeardAndHowFarThePeerIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, away = 8000, 30 * time.Millisecond
		n := newNetwork()
		pa, pb := newPhone(n, hostA, newCard(rate, nil)), newPhone(n, hostB, newCard(rate, nil))
		var toB []rtcp.Packet
		count := 0
		n.way = func(from, to netip.AddrPort, b []byte) []time.Duration {
			switch to.Port() {
			case pb.addr.Port() + 1:
				if to.Addr() == pb.addr.Addr() {
					packets, err := rtcp.Unmarshal(b)
					if err != nil {
						t.Errorf("report: %v", err)
					}
					toB = append(toB, packets...)
				}
			case pa.addr.Port():
				if to == pa.addr {
					if count++; count%10 == 5 {
						return nil
					}
				}
			}
			return []time.Duration{away}
		}
		codec := formats()[2].Codec()
		pa.talkTo(t, pb.addr, codec, 0)
		pb.talkTo(t, pa.addr, codec, 0)
		run(t, 30*time.Second, pa, pb)
		for _, p := range []*phone{pa, pb} {
			if trip := p.Stats().RoundTrip; trip < 2*away-time.Millisecond || trip > 2*away+time.Millisecond {
				t.Errorf("%v: round trip %v, want %v", p.addr, trip, 2*away)
			}
		}
		ssrc, sent := pa.SSRC(), pa.Stats().PacketsSent
		pa.Close()
		pb.Close()
		time.Sleep(time.Second)

		var reports, names, bytes int
		var last *rtcp.SenderReport
		gone := false
		for _, p := range toB {
			switch p := p.(type) {
			case *rtcp.SenderReport:
				reports++
				last = p
				if p.SSRC != ssrc || len(p.Reports) != 1 {
					t.Errorf("report %+v", p)
				}
			case *rtcp.SourceDescription:
				names++
				if len(p.Chunks) != 1 || p.Chunks[0].Items[0].Type != rtcp.SDESCNAME || len(p.Chunks[0].Items[0].Text) < 16 {
					t.Errorf("description %+v", p)
				}
			case *rtcp.Goodbye:
				gone = len(p.Sources) == 1 && p.Sources[0] == ssrc
			default:
				bytes++
			}
		}
		// 5 s on average, between 2.5 and 7.5 each, and one at the end.
		if reports < 4 || reports > 13 || names != reports || bytes != 0 || !gone {
			t.Fatalf("%d reports, %d descriptions, %d others, goodbye %v", reports, names, bytes, gone)
		}
		if last.PacketCount != uint32(sent) || last.OctetCount != uint32(sent)*160 {
			t.Errorf("%d packets sent: %+v", sent, last)
		}
		b := last.Reports[0]
		if lost := float64(b.TotalLost) / float64(sent); lost < 0.09 || lost > 0.11 {
			t.Errorf("one in ten was lost: %+v", b)
		}
		if b.LastSenderReport == 0 || b.Delay == 0 {
			t.Errorf("%+v", b)
		}
	})
}

func TestPeerThatStartsAnewIsHeardAgain(t *testing.T) {
	const rate = 16000
	spoken := speech(t, speechA, rate)
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		pb := newPhone(n, hostB, newCard(rate, nil))
		codec := formats()[1].Codec()
		for range 2 {
			pa := newPhone(n, hostA, newCard(rate, spoken))
			pa.talkTo(t, pb.addr, codec, 0)
			pb.talkTo(t, pa.addr, codec, 0)
			pb.card.ear, pb.card.timer = nil, nil
			run(t, length(spoken, rate)+time.Second, pa, pb)
			pa.Close()
			heard(t, pb, spoken, 0.98, 0.95, 150*time.Millisecond)
		}
		pb.Close()
	})
}

func TestStraysAreNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		pb := newPhone(n, hostB, newCard(8000, nil))
		codec := formats()[2].Codec()
		peer := netip.MustParseAddrPort(hostA + ":20000")
		packet := func(p rtp.Packet) []byte {
			b := make([]byte, rtp.HeaderSize+len(p.Payload))
			copy(b[rtp.HeaderSize:], p.Payload)
			if err := p.PutHeader(b); err != nil {
				t.Fatal(err)
			}
			return b
		}
		sound := rtp.Packet{PayloadType: 0, SSRC: 7, Sequence: 1, Payload: make([]byte, 160)}
		other := sound
		other.PayloadType = 18
		say := func(b []byte) {
			t.Helper()
			n.send(peer, pb.addr, b)
			synctest.Wait()
		}
		pb.wire.lead(peer)
		say(packet(sound)) // nothing is agreed yet
		pb.talkTo(t, peer, codec, 0)
		say(packet(other))
		say([]byte("not a packet"))
		say(nil)
		if s := pb.Stats(); s.Refused != 4 || s.PacketsReceived != 0 {
			t.Errorf("%+v", s)
		}
		// The first source is believed at once, a second one of the same peer when it
		// goes on.
		say(packet(sound))
		stray := sound
		stray.SSRC = 8
		say(packet(stray))
		if s := pb.Stats(); s.Refused != 5 || s.PacketsReceived != 1 {
			t.Errorf("%+v", s)
		}
		stray.Sequence++
		say(packet(stray))
		if s := pb.Stats(); s.Refused != 5 || s.PacketsReceived != 2 {
			t.Errorf("%+v", s)
		}
		// Another peer is believed at once.
		other = sound
		other.SSRC = 9
		peer = netip.MustParseAddrPort("198.51.100.9:20000")
		say(packet(other)) // it is none yet
		pb.talkTo(t, peer, codec, 0)
		say(packet(other))
		if s := pb.Stats(); s.Refused != 5 || s.PacketsReceived != 3 {
			t.Errorf("%+v", s)
		}
		pb.Close()
	})
}

// Packets that come faster than anybody takes them are counted, and so is sound
// that stands in for what did not come.
func TestWhatIsDroppedIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPhone(newNetwork(), hostB, newCard(8000, nil))
		p.talkTo(t, netip.MustParseAddrPort(hostA+":20000"), formats()[2].Codec(), 0)
		in := audio.NewReader(p.Stream)
		say := func(i int) {
			packet := rtp.Packet{SSRC: 7, Sequence: uint16(i), Timestamp: uint32(160 * i), Payload: make([]byte, 160)}
			b := append(make([]byte, rtp.HeaderSize), packet.Payload...)
			if err := packet.PutHeader(b); err != nil {
				t.Fatal(err)
			}
			in.Take(arrived(b))
		}
		for i := range 100 {
			say(i)
		}
		if s := p.Stats(); s.Crowded != 36 || s.PacketsReceived != 100 || s.Concealed != 0 {
			t.Errorf("%+v", s)
		}
		play, captured := make([]int16, 80), make([]int16, 80)
		for i := 100; i < 200; i++ {
			if i != 150 {
				say(i)
			}
			for range 2 {
				time.Sleep(audio.TickDuration)
				p.engine.Tick(play, captured, time.Now())
			}
		}
		if s := p.Stats(); s.Crowded != 37 || s.Concealed < 20*time.Millisecond || s.Concealed > 110*time.Millisecond {
			t.Errorf("%+v", s)
		}
		p.Close()
	})
}

// A path without a peer is nobody's fault: nothing is counted, and whoever comes
// hears a stream from its beginning, and all digits.
func TestNobodyIsThereYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 8000
		n := newNetwork()
		pa, pb := newPhone(n, hostA, newCard(rate, nil)), newPhone(n, hostB, newCard(rate, nil))
		var first []rtp.Packet
		n.way = func(from, to netip.AddrPort, b []byte) []time.Duration {
			if to == pb.addr {
				var r rtp.Parser
				var p rtp.Packet
				if err := r.Parse(&p, b); err != nil {
					t.Error(err)
				}
				first = append(first, p)
			}
			return []time.Duration{0}
		}
		codec := formats()[2].Codec()
		pb.talkTo(t, pa.addr, codec, 0)
		if err := pa.Start(audio.Session{Codec: codec, DTMF: 101, Send: true, Recv: true}); err != nil {
			t.Fatal(err)
		}
		for _, k := range "12" {
			if err := pa.SendDigit(k); err != nil {
				t.Fatal(err)
			}
		}
		run(t, 10*time.Second, pa, pb)
		if s := pa.Stats(); s.PacketsSent != 0 || s.Unsent != 0 {
			t.Errorf("to nobody: %+v", s)
		}
		pa.card.timer, pb.card.timer = nil, nil
		pa.wire.lead(pb.addr)
		run(t, 2*time.Second, pa, pb)
		if s := pa.Stats(); s.PacketsSent < 95 || s.Unsent != 0 {
			t.Errorf("%+v", s)
		}
		if s := pb.Stats(); s.PacketsLost != 0 || s.Refused != 0 {
			t.Errorf("%+v", s)
		}
		pa.Close()
		pb.Close()
		if got := all(pb.Digits()); got != "12" {
			t.Errorf("digits %q", got)
		}
		for i, p := range first[1:] {
			if p.Sequence != first[i].Sequence+1 {
				t.Fatalf("after packet %d comes %d", first[i].Sequence, p.Sequence)
			}
		}
		if !first[0].Marker {
			t.Error("the first packet is not marked")
		}
	})
}

func TestHoldCodecChangeAndMute(t *testing.T) {
	const rate = 16000
	spoken := speech(t, speechA, rate)
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		pa, pb := newPhone(n, hostA, newCard(rate, nil)), newPhone(n, hostB, newCard(rate, nil))
		say := func(change func()) int {
			pa.card.mic, pa.card.timer = spoken, nil
			pb.card.ear, pb.card.timer = nil, nil
			change()
			before := pa.Stats().PacketsSent
			run(t, length(spoken, rate)+time.Second, pa, pb)
			return int(pa.Stats().PacketsSent - before)
		}
		opus, mu := formats()[0].Codec(), formats()[2].Codec()
		say(func() { pa.talkTo(t, pb.addr, mu, 0); pb.talkTo(t, pa.addr, mu, 0) })
		heard(t, pb, spoken, 0.98, 0.97, 120*time.Millisecond)
		say(func() { pa.talkTo(t, pb.addr, opus, 0); pb.talkTo(t, pa.addr, opus, 0) })
		heard(t, pb, spoken, 0.9, 0.95, 150*time.Millisecond)
		hold := audio.Session{Codec: opus, DTMF: 101}
		if sent := say(func() {
			if err := pa.Start(hold); err != nil {
				t.Fatal(err)
			}
		}); sent != 0 {
			t.Errorf("on hold %d packets were sent", sent)
		}
		if r := audiotest.Compare(spoken, pb.card.ear, rate); r.Arrived > 0 {
			t.Errorf("on hold: %+v", r)
		}
		if err := pa.SendDigit('1'); !errors.Is(err, audio.ErrNoDTMF) {
			t.Errorf("a digit on hold: %v", err)
		}
		say(func() { pa.talkTo(t, pb.addr, opus, 0) })
		heard(t, pb, spoken, 0.9, 0.95, 150*time.Millisecond)
		if sent := say(func() { pa.Mute(true) }); sent == 0 {
			t.Error("muted, nothing was sent at all")
		}
		if r := audiotest.Compare(spoken, pb.card.ear, rate); r.Arrived > 0 {
			t.Errorf("muted: %+v", r)
		}
		if err := pa.Start(audio.Session{Codec: audio.Codec{Name: "G729", PayloadType: 18, ClockRate: 8000}}); !errors.Is(err, audio.ErrCodec) {
			t.Errorf("G.729: %v", err)
		}
		pa.Close()
		pb.Close()
		if err := pa.Start(hold); !errors.Is(err, audio.ErrClosed) {
			t.Errorf("after closing: %v", err)
		}
	})
}

// A stepped path tells when a packet of sound that it gave has been dealt with. Its
// clock is that of the test.
type stepped struct {
	audio.Path
	now  *atomic.Int64 // ns
	done chan struct{}
}

func (s stepped) Receive(take func(audio.Datagram)) error {
	return s.Path.Receive(func(d audio.Datagram) {
		d.At = time.Unix(0, s.now.Load())
		take(d)
		if d.Protocol == audio.RTP {
			s.done <- struct{}{}
		}
	})
}

// TestSpeechOverRealSockets goes through the kernel, one packet at a time.
func TestSpeechOverRealSockets(t *testing.T) {
	const rate = 16000
	spoken := speech(t, speechA, rate)
	for _, host := range []string{"127.0.0.1", "::1"} {
		for i, f := range formats() {
			if host == "::1" && i > 0 {
				continue // what is in packets is no business of their family
			}
			t.Run(host+"/"+f.Codec().Name, func(t *testing.T) {
				local := netip.MustParseAddr(host)
				bind := func() *udp.Path {
					p, err := udp.Open(t.Context(), local, udp.PortRange{})
					if err != nil {
						t.Skipf("no loopback: %v", err)
					}
					return p
				}
				pa, pb := bind(), bind()
				pa.SetPeer(netip.AddrPortFrom(local, pb.Port()), netip.AddrPort{})
				pb.SetPeer(netip.AddrPortFrom(local, pa.Port()), netip.AddrPort{})
				taken := make(chan struct{}, 1)
				var now atomic.Int64
				end := func(p audio.Path, send bool) (*audio.Engine, *audio.Stream) {
					e := audio.On(newCard(rate, nil), formats(), quiet())
					s := e.Open(p)
					if err := s.Start(audio.Session{Codec: f.Codec(), Send: send, Recv: true}); err != nil {
						t.Fatal(err)
					}
					return e, s
				}
				ea, sa := end(pa, true)
				eb, sb := end(stepped{pb, &now, taken}, false)
				play, silent := make([]int16, rate/100), make([]int16, rate/100)
				var ear []int16
				said := append(append([]int16{}, spoken...), make([]int16, rate/2)...)
				var sent uint64
				for len(said) >= rate/100 {
					now.Add(int64(audio.TickDuration))
					ea.Tick(play, said[:rate/100], time.Unix(0, now.Load()))
					said = said[rate/100:]
					if now := sa.Stats().PacketsSent; now > sent {
						sent = now
						<-taken
					}
					eb.Tick(play, silent, time.Unix(0, now.Load()))
					ear = append(ear, play...)
				}
				r := audiotest.Compare(spoken, ear, rate)
				correlation, delay := quality(f.Codec())
				if r.Correlation < correlation || r.Arrived < 0.97 || r.Delay > delay {
					t.Errorf("%+v; %+v", r, sb.Stats())
				}
				sa.Close()
				sb.Close()
			})
		}
	}
}

// A still card gives ticks as fast as they are taken.
type still int

func (r still) Rate() int                                      { return int(r) }
func (still) Rest() error                                      { return nil }
func (still) Close() error                                     { return nil }
func (still) Exchange(ctx context.Context, _, _ []int16) error { return ctx.Err() }

// asking is a format that notes what its encoders are asked for.
type asking struct {
	audio.Format
	params *[]string
}

func (a asking) NewEncoder(rate int, packet time.Duration, params string) (audio.Encoder, error) {
	*a.params = append(*a.params, params)
	return a.Format.NewEncoder(rate, packet, params)
}

// What the peer asks of a codec reaches the encoder, and again when that changes.
func TestTheEncoderHearsWhatThePeerAsksFor(t *testing.T) {
	var heard []string
	e := audio.NewEngine(audio.Config{Formats: []audio.Format{asking{opus.Format{}, &heard}}, Log: quiet()})
	s := e.Open(newNetwork().wire(netip.MustParseAddrPort(hostA + ":20000")))
	defer s.Close()
	for _, params := range []string{"cbr=1", "cbr=1", "maxplaybackrate=8000", ""} {
		if err := s.Start(audio.Session{
			Codec: opus.Format{}.Codec(), Params: params, Send: true,
		}); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"cbr=1", "maxplaybackrate=8000", ""}; !slices.Equal(heard, want) {
		t.Errorf("encoders for %q, want %q", heard, want)
	}
}
