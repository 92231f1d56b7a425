package audio_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"

	"flexphone/audio"
	"flexphone/audio/audiotest"
	"flexphone/audio/opus"
	"flexphone/audio/rtp"
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
	spoken := audiotest.Speech(t, speechA, rate)
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

func TestStrangersAreNotHeard(t *testing.T) {
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
		n.send(peer, pb.addr, packet(sound)) // nothing is agreed yet
		synctest.Wait()
		pb.talkTo(t, peer, codec, 0)
		n.send(netip.MustParseAddrPort("198.51.100.9:20000"), pb.addr, packet(sound))
		n.send(peer, pb.addr, packet(other))
		n.send(peer, pb.addr, []byte("not a packet"))
		n.send(peer, pb.addr, nil)
		synctest.Wait()
		if s := pb.Stats(); s.Refused != 5 || s.PacketsReceived != 0 {
			t.Errorf("%+v", s)
		}
		// Another port of the peer is the peer.
		n.send(netip.AddrPortFrom(peer.Addr(), 33333), pb.addr, packet(sound))
		synctest.Wait()
		if s := pb.Stats(); s.Refused != 5 || s.PacketsReceived != 1 {
			t.Errorf("%+v", s)
		}
		pb.Close()
	})
}

func TestHoldCodecChangeAndMute(t *testing.T) {
	const rate = 16000
	spoken := audiotest.Speech(t, speechA, rate)
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
		hold := audio.Session{Remote: pb.addr, Codec: opus, DTMF: 101}
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
		if err := pa.Start(audio.Session{Remote: pb.addr, Codec: audio.Codec{Name: "G729", PayloadType: 18, ClockRate: 8000}}); !errors.Is(err, audio.ErrCodec) {
			t.Errorf("G.729: %v", err)
		}
		pa.Close()
		pb.Close()
		if err := pa.Start(hold); !errors.Is(err, audio.ErrClosed) {
			t.Errorf("after closing: %v", err)
		}
	})
}

// A stepped socket tells when a packet that it gave has been dealt with.
type stepped struct {
	*net.UDPConn
	done  chan struct{}
	given bool
}

func (s *stepped) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	if s.given {
		s.done <- struct{}{}
	}
	n, from, err := s.UDPConn.ReadFromUDPAddrPort(b)
	s.given = err == nil
	return n, from, err
}

// TestSpeechOverRealSockets goes through the kernel, one packet at a time.
func TestSpeechOverRealSockets(t *testing.T) {
	const rate = 16000
	spoken := audiotest.Speech(t, speechA, rate)
	for _, host := range []string{"127.0.0.1", "::1"} {
		for _, f := range formats() {
			t.Run(host+"/"+f.Codec().Name, func(t *testing.T) {
				local := netip.MustParseAddr(host)
				end := func() (*audio.Engine, *audio.Stream, *stepped) {
					e := audio.On(newCard(rate, nil), formats(), quiet())
					r, c, port, err := audio.ListenPair(t.Context(), local, e.Ports)
					if err != nil {
						t.Skipf("no loopback: %v", err)
					}
					if port%2 != 0 || port < 16384 || port > 32767 {
						t.Errorf("port %d", port)
					}
					s := &stepped{UDPConn: r, done: make(chan struct{}, 1)}
					return e, e.OpenOn(s, c, port), s
				}
				ea, sa, _ := end()
				eb, sb, socket := end()
				start := func(s *audio.Stream, peer *audio.Stream, send bool) {
					err := s.Start(audio.Session{Remote: netip.AddrPortFrom(local, peer.Port()), Codec: f.Codec(), Send: send, Recv: true})
					if err != nil {
						t.Fatal(err)
					}
				}
				start(sa, sb, true)
				start(sb, sa, false)
				play, silent := make([]int16, rate/100), make([]int16, rate/100)
				var ear []int16
				said := append(append([]int16{}, spoken...), make([]int16, rate/2)...)
				var sent uint64
				for len(said) >= rate/100 {
					ea.Tick(play, said[:rate/100])
					said = said[rate/100:]
					if now := sa.Stats().PacketsSent; now > sent {
						sent = now
						<-socket.done
					}
					eb.Tick(play, silent)
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

func TestOpenBindsAMarkedPairAndGivesItBack(t *testing.T) {
	e := audio.On(newCard(8000, nil), formats(), quiet())
	r, c, port, err := audio.ListenPair(t.Context(), netip.Addr{}, e.Ports)
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range []*net.UDPConn{r, c} {
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			if tos, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TOS); err != nil || tos != 0xb8 {
				t.Errorf("IPv4: %#x, %v", tos, err)
			}
			if class, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_TCLASS); err == nil && class != 0xb8 {
				t.Errorf("IPv6: %#x", class)
			}
		})
	}
	e.Ports = audio.PortRange{First: port, Last: port + 1}
	if _, err := e.Open(t.Context(), netip.Addr{}); !errors.Is(err, audio.ErrPorts) {
		t.Errorf("a pair that is taken: %v", err)
	}
	r.Close()
	c.Close()
	for range 3 {
		s, err := e.Open(t.Context(), netip.MustParseAddr("127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		if s.Port() != port {
			t.Errorf("port %d, want %d", s.Port(), port)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("closed twice: %v", err)
		}
	}
}

// A still card gives ticks as fast as they are taken.
type still int

func (r still) Rate() int                                      { return int(r) }
func (still) Rest() error                                      { return nil }
func (still) Close() error                                     { return nil }
func (still) Exchange(ctx context.Context, _, _ []int16) error { return ctx.Err() }

// talking returns an engine in a call with itself over loopback.
func talking(t testing.TB, f audio.Format, rate int) *audio.Engine {
	t.Helper()
	e := audio.On(still(rate), formats(), quiet())
	s, err := e.Open(t.Context(), netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	err = s.Start(audio.Session{
		Remote: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.Port()),
		Codec:  f.Codec(), DTMF: 101, Send: true, Recv: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Play(audio.Germany().Ringing)
	s.SendDigit('5')
	return e
}

func TestTicksDoNotAllocate(t *testing.T) {
	for _, f := range formats() {
		for _, rate := range []int{8000, 16000, 48000} {
			e := talking(t, f, rate)
			play, captured := make([]int16, rate/100), make([]int16, rate/100)
			if a := testing.AllocsPerRun(300, func() { e.Tick(play, captured) }); a != 0 {
				t.Errorf("%s at %d Hz: %v allocations a tick", f.Codec().Name, rate, a)
			}
			if e.Progress() < 300 {
				t.Errorf("progress %d", e.Progress())
			}
		}
	}
}

func BenchmarkTick(b *testing.B) {
	for _, f := range formats() {
		b.Run(f.Codec().Name, func(b *testing.B) {
			const rate = 16000
			e := talking(b, f, rate)
			play, captured := make([]int16, rate/100), make([]int16, rate/100)
			b.ReportAllocs()
			for b.Loop() {
				e.Tick(play, captured)
			}
		})
	}
}

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
	s, err := e.Open(t.Context(), netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, params := range []string{"cbr=1", "cbr=1", "maxplaybackrate=8000", ""} {
		if err := s.Start(audio.Session{
			Remote: netip.MustParseAddrPort("127.0.0.1:9"), Codec: opus.Format{}.Codec(), Params: params, Send: true,
		}); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"cbr=1", "maxplaybackrate=8000", ""}; !slices.Equal(heard, want) {
		t.Errorf("encoders for %q, want %q", heard, want)
	}
}
