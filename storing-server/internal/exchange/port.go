package exchange

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv6"

	"flexphone/storing-server/internal/sockets"
)

const (
	// receiveBuffer is the socket's, in bytes: the kernel's default loses
	// datagrams when a street comes back from a power cut.
	receiveBuffer = 4 << 20
	// maxDatagram is longer than any that a client has reason to send.
	maxDatagram = 2048
)

// A port is the server's UDP socket. It gives each datagram to the session it
// is for, and lets nobody begin one who has not shown by a cookie that he
// receives what is sent to his address (RFC 6347, section 4.2.1). Until then
// nothing is kept about him.
//
// A session is found by its connection ID, and one without by its address
// alone (RFC 9146, section 3).
type port struct {
	conn    *net.UDPConn
	asked   *sockets.Sources
	out     *outbox
	cookies *cookies
	drop    func(why string, from netip.AddrPort)
	// room says whether another session may begin; who may not is told so at
	// once. It is called without the lock.
	room func() bool
	// spare is sent to when a handshake must give way: one that only waits for
	// the client's proof takes it as given.
	spare chan struct{}

	mu       sync.Mutex
	sessions map[connectionID]*session
	plain    map[netip.AddrPort]*session // without a connection ID
	byID     map[connectionID]*handshake
	byAddr   map[netip.AddrPort]*handshake
	slots    *slots
}

func openPort(ctx context.Context, address string, most int, drop func(string, netip.AddrPort), room func() bool) (*port, error) {
	conn, err := (&net.ListenConfig{Control: enlarge}).ListenPacket(ctx, "udp", address)
	if err != nil {
		return nil, err
	}
	udp := conn.(*net.UDPConn)
	asked, err := sockets.SourcesOf(udp)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &port{
		conn: udp, asked: asked, out: newOutbox(udp), cookies: newCookies(), drop: drop, room: room, spare: make(chan struct{}),
		sessions: map[connectionID]*session{}, plain: map[netip.AddrPort]*session{},
		byID: map[connectionID]*handshake{}, byAddr: map[netip.AddrPort]*handshake{}, slots: newSlots(most),
	}, nil
}

// enlarge asks for a larger receive buffer; a kernel that gives less is no
// error.
func enlarge(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		if syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, receiveBuffer) != nil {
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer)
		}
	})
}

// read routes what comes until the socket is closed. begin takes a handshake whose
// hello was verified.
func (p *port) read(begin func(*handshake)) error {
	batch := ipv6.NewPacketConn(p.conn) // the calls are the same for IPv4
	var in [atOnce]ipv6.Message
	for i := range in {
		in[i].Buffers, in[i].OOB = [][]byte{make([]byte, maxDatagram+1)}, make([]byte, sockets.ControlRoom)
	}
	for {
		n, err := batch.ReadBatch(in[:], 0)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("exchange: read socket: %w", err)
		}
		for _, m := range in[:n] {
			if from, ok := m.Addr.(*net.UDPAddr); ok {
				p.receive(m.Buffers[0][:m.N], place{from.AddrPort(), p.asked.Of(m.OOB[:m.NN])}, begin)
			}
		}
	}
}

// receive routes one datagram.
func (p *port) receive(data []byte, from place, begin func(*handshake)) {
	switch {
	case len(data) > maxDatagram:
		p.drop("oversized", from.peer)
		return
	case len(data) < recordHeader, data[1] != 0xfe, data[2] != 0xfd && data[2] != 0xff:
		p.drop("malformed", from.peer)
		return
	}
	var h *handshake
	var x *session
	switch data[0] {
	case typeConnectionID:
		if len(data) < recordHeader+len(connectionID{}) {
			p.drop("malformed", from.peer)
			return
		}
		id := connectionID(data[11:])
		p.mu.Lock()
		if x = p.sessions[id]; x == nil {
			h = p.byID[id]
		}
		p.mu.Unlock()
	case typeHandshake:
		if hello, ok := parseHello(data); ok {
			p.hello(data, hello, from, begin)
			return
		}
		fallthrough
	case typeChangeCipherSpec, typeAlert, typeApplication:
		p.mu.Lock()
		if h = p.byAddr[from.peer]; h == nil {
			x = p.plain[from.peer]
		}
		p.mu.Unlock()
	default:
		p.drop("malformed", from.peer)
		return
	}
	switch {
	case x != nil:
		x.receive(data, from)
	case h == nil:
		p.drop("unknown session", from.peer)
	case data[0] == typeConnectionID, data[3] != 0 || data[4] != 0: // encrypted
		h.answered.Store(true)
		if !h.sealed(datagram{append([]byte(nil), data...), from}) {
			p.drop("overrun", from.peer)
		}
	default:
		h.answered.Store(true)
		p.give(h, data, from)
	}
}

// answer sends one datagram back; it is lost like any may be.
func (p *port) answer(b []byte, to place) { _ = sockets.Answer(p.conn, b, to.peer, to.by) }

func (p *port) give(h *handshake, data []byte, from place) {
	if !h.give(datagram{append([]byte(nil), data...), from}) {
		p.drop("overrun", from.peer)
	}
}

// hello answers a ClientHello without a good cookie with one, and lets one with
// it begin a session, if there is room for that.
func (p *port) hello(data []byte, h hello, from place, begin func(*handshake)) {
	now := time.Now()
	if !p.cookies.valid(from.peer, h, now) {
		p.answer(p.cookies.request(from.peer, h, now), from)
		return
	}
	p.mu.Lock()
	old := p.byAddr[from.peer]
	p.mu.Unlock()
	if old != nil && old.random == h.random() {
		p.give(old, data, from) // it comes again
		return
	}
	if !p.room() {
		p.drop("full", from.peer)
		p.answer(turnedAway(h), from)
		return
	}
	p.mu.Lock()
	if old := p.byAddr[from.peer]; old != nil && old.random == h.random() { // another loop had it as well
		p.mu.Unlock()
		return
	}
	if p.slots.full() && !p.giveWay(from.peer, now) {
		p.mu.Unlock()
		p.drop("hello", from.peer)
		return
	}
	// A client that starts anew from the same address (RFC 6347, section
	// 4.2.8) has shown that it is there; the old session lives on by its
	// connection ID, until it has been silent for too long.
	var id connectionID
	for p.byID[id] != nil || p.sessions[id] != nil || id == (connectionID{}) {
		rand.Read(id[:]) // never fails
	}
	l := newHandshake(p, id, data, h, from)
	p.byAddr[from.peer], p.byID[id] = l, l
	p.slots.add(l)
	p.mu.Unlock()
	begin(l)
}

// giveWay makes a place for a handshake from a source, and reports whether it
// could; p.mu is held.
func (p *port) giveWay(from netip.AddrPort, now time.Time) bool {
	select {
	case p.spare <- struct{}{}:
		return true // one has finished
	default:
	}
	victim := p.slots.victim(from, now)
	if victim == nil {
		return false
	}
	p.slots.remove(victim)
	go victim.Close() // which takes the lock
	p.drop("handshake", victim.first.peer)
	return true
}

// establish lets x have what is sent to h, and returns the session without a
// connection ID that was at its address, which nobody can reach any more.
func (p *port) establish(h *handshake, x *session) (old *session) {
	p.mu.Lock()
	if x.idLength() > 0 {
		p.sessions[h.id] = x
	} else {
		old, p.plain[h.first.peer] = p.plain[h.first.peer], x
	}
	p.mu.Unlock()
	p.remove(h)
	h.handOver(x)
	return old
}

// route gives x what is sent to it.
func (p *port) route(x *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x.idLength() > 0 {
		p.sessions[x.id] = x
	} else {
		p.plain[x.first] = x
	}
}

// unroute sends nothing to x any more.
func (p *port) unroute(x *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x.idLength() > 0 {
		delete(p.sessions, x.id)
	} else if p.plain[x.first] == x {
		delete(p.plain, x.first)
	}
}

// freeSlot is called for each handshake that is a session, or has failed.
func (p *port) freeSlot(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slots.remove(h)
}

func (p *port) remove(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byAddr[h.first.peer] == h {
		delete(p.byAddr, h.first.peer)
	}
	delete(p.byID, h.id)
}

// close sends what waits to be sent, and then closes the socket.
func (p *port) close() {
	p.out.close()
	p.conn.Close()
}
