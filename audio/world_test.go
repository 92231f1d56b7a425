package audio_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"flexphone/audio"
	"flexphone/audio/g711"
	"flexphone/audio/opus"
)

func formats() []audio.Format {
	return []audio.Format{opus.Format{}, g711.PCMA(), g711.PCMU()}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// A network carries datagrams between its sockets in simulated time.
type network struct {
	mu      sync.Mutex
	sockets map[netip.AddrPort]*socket
	// way says when each copy of a datagram arrives; none: it is lost. nil: at
	// once. It is called for one datagram at a time.
	way func(from, to netip.AddrPort, b []byte) []time.Duration
}

func newNetwork() *network { return &network{sockets: make(map[netip.AddrPort]*socket)} }

type datagram struct {
	from netip.AddrPort
	b    []byte
}

type socket struct {
	net    *network
	addr   netip.AddrPort
	in     chan datagram
	closed chan struct{}
	once   sync.Once
}

func (n *network) listen(addr netip.AddrPort) *socket {
	s := &socket{net: n, addr: addr, in: make(chan datagram, 1000), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sockets[addr] = s
	return s
}

func (s *socket) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-s.in:
		return copy(b, d.b), d.from, nil
	case <-s.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (s *socket) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	select {
	case <-s.closed:
		return 0, net.ErrClosed
	default:
	}
	s.net.send(s.addr, to, b)
	return len(b), nil
}

func (s *socket) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (n *network) send(from, to netip.AddrPort, b []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.sockets[to]
	if s == nil {
		return
	}
	d := datagram{from, append([]byte(nil), b...)}
	deliver := func() {
		select {
		case s.in <- d:
		default:
		}
	}
	if n.way == nil {
		deliver()
		return
	}
	for _, after := range n.way(from, to, b) {
		time.AfterFunc(after, deliver)
	}
}

// A card is a sound card whose microphone hears what it is given, once, and
// whose ear-piece remembers everything.
type card struct {
	rate  int
	tick  time.Duration
	mic   []int16
	ear   []int16
	due   time.Time
	timer *time.Timer
}

func newCard(rate int, mic []int16) *card {
	return &card{rate: rate, tick: audio.TickDuration, mic: mic}
}

func (c *card) Rate() int    { return c.rate }
func (c *card) Close() error { return nil }
func (c *card) Rest() error  { c.timer = nil; return nil }

func (c *card) Exchange(ctx context.Context, play, captured []int16) error {
	if c.timer == nil {
		c.timer, c.due = time.NewTimer(c.tick), time.Now().Add(c.tick)
	} else {
		c.due = c.due.Add(c.tick)
		c.timer.Reset(time.Until(c.due))
	}
	select {
	case <-c.timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	c.ear = append(c.ear, play...)
	n := copy(captured, c.mic)
	clear(captured[n:])
	c.mic = c.mic[n:]
	return nil
}

// A phone is an engine with a stream.
type phone struct {
	*audio.Stream
	engine *audio.Engine
	card   *card
	addr   netip.AddrPort
}

func newPhone(n *network, host string, c *card) *phone {
	addr := netip.MustParseAddrPort(host + ":20000")
	e := audio.On(c, formats(), quiet())
	s := e.OpenOn(n.listen(addr), n.listen(netip.AddrPortFrom(addr.Addr(), addr.Port()+1)), addr.Port())
	return &phone{s, e, c, addr}
}

func (p *phone) talkTo(t testing.TB, remote netip.AddrPort, codec audio.Codec, packet time.Duration) {
	t.Helper()
	err := p.Start(audio.Session{
		Remote: remote, Codec: codec, DTMF: 101, PacketTime: packet, Send: true, Recv: true,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// run lets phones run for a while, then stops their engines. Streams stay open.
func run(t testing.TB, d time.Duration, phones ...*phone) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var wg sync.WaitGroup
	for _, p := range phones {
		wg.Go(func() {
			if err := p.engine.Run(ctx, func(err error) { t.Errorf("sound device: %v", err) }); err != context.DeadlineExceeded {
				t.Errorf("engine ended: %v", err)
			}
		})
	}
	wg.Wait()
}

func length(pcm []int16, rate int) time.Duration {
	return time.Duration(len(pcm)) * time.Second / time.Duration(rate)
}
