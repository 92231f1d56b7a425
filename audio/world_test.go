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
	"flexphone/audio/g722"
	"flexphone/audio/l16"
	"flexphone/audio/opus"
	"flexphone/audio/pathtest"
)

func formats() []audio.Format {
	return []audio.Format{opus.Format{}, g711.PCMA(), g711.PCMU(), g722.Format{}, l16.Format{}}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// A network carries datagrams between its wires in simulated time.
type network struct {
	mu    sync.Mutex
	wires map[netip.AddrPort]*wire // by both ports of each
	// way says when each copy of a datagram arrives; none: it is lost. nil: at
	// once. It is called for one datagram at a time.
	way func(from, to netip.AddrPort, b []byte) []time.Duration
}

func newNetwork() *network { return &network{wires: make(map[netip.AddrPort]*wire)} }

type datagram struct {
	from netip.AddrPort
	what audio.Protocol
	size int
	b    [1500]byte
}

// A wire is a path on the network: two ports and a peer, as udp.Path is one.
type wire struct {
	net    *network
	addr   netip.AddrPort
	in     chan datagram
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	peer  netip.AddrPort
	fresh bool
}

func nextPort(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), a.Port()+1) }

func (n *network) wire(addr netip.AddrPort) *wire {
	w := &wire{net: n, addr: addr, in: make(chan datagram, 100), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wires[addr], n.wires[nextPort(addr)] = w, w
	return w
}

// lead makes whoever is at an address the peer.
func (w *wire) lead(to netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fresh = w.fresh || w.peer.Addr() != to.Addr()
	w.peer = to
}

func (w *wire) Receive(take func(audio.Datagram)) error {
	var d datagram
	for {
		select {
		case <-w.closed:
			return nil
		default:
		}
		select {
		case d = <-w.in:
			w.mu.Lock()
			ours := d.from.Addr() == w.peer.Addr()
			fresh := ours && w.fresh && d.what == audio.RTP
			w.fresh = w.fresh && !fresh
			w.mu.Unlock()
			if ours {
				take(audio.Datagram{Protocol: d.what, Bytes: d.b[:d.size], At: time.Now(), NewPeer: fresh})
			}
		case <-w.closed:
			return nil
		}
	}
}

func (w *wire) Send(what audio.Protocol, b []byte) error {
	select {
	case <-w.closed:
		return net.ErrClosed
	default:
	}
	w.mu.Lock()
	from, to := w.addr, w.peer
	w.mu.Unlock()
	if !to.IsValid() {
		return audio.ErrNoPeer
	}
	if what == audio.RTCP {
		from, to = nextPort(from), nextPort(to)
	}
	w.net.send(from, to, b)
	return nil
}

func (w *wire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

func (n *network) send(from, to netip.AddrPort, b []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.wires[to]
	if w == nil {
		return
	}
	d := datagram{from: from, what: audio.RTP}
	if to != w.addr {
		d.what = audio.RTCP
	}
	d.size = copy(d.b[:], b)
	if n.way == nil {
		w.deliver(&d)
		return
	}
	for _, after := range n.way(from, to, b) {
		late := d
		time.AfterFunc(after, func() { w.deliver(&late) })
	}
}

func (w *wire) deliver(d *datagram) {
	select {
	case w.in <- *d:
	default:
	}
}

func TestWireIsAPath(t *testing.T) {
	pathtest.Path(t, func(*testing.T) (audio.Path, audio.Path) {
		n := newNetwork()
		a, b := n.wire(netip.MustParseAddrPort(hostA+":20000")), n.wire(netip.MustParseAddrPort(hostB+":20000"))
		a.lead(b.addr)
		b.lead(a.addr)
		return a, b
	})
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
	wire   *wire
	addr   netip.AddrPort
}

func newPhone(n *network, host string, c *card) *phone {
	e := audio.On(c, formats(), quiet())
	w := n.wire(netip.MustParseAddrPort(host + ":20000"))
	return &phone{e.Open(w), e, c, w, w.addr}
}

func (p *phone) talkTo(t testing.TB, remote netip.AddrPort, codec audio.Codec, packet time.Duration) {
	t.Helper()
	p.agree(t, remote, audio.Session{Codec: codec, DTMF: 101, PacketTime: packet, Send: true, Recv: true})
}

// agree starts the stream with whoever is at an address.
func (p *phone) agree(t testing.TB, remote netip.AddrPort, s audio.Session) {
	t.Helper()
	p.wire.lead(remote)
	if err := p.Start(s); err != nil {
		t.Fatal(err)
	}
}

// arrived is a packet of sound that has just come.
func arrived(b []byte) audio.Datagram {
	return audio.Datagram{Protocol: audio.RTP, Bytes: b, At: time.Now()}
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
