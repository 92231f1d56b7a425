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
type port struct {
	conn    *net.UDPConn
	out     *outbox
	cookies *cookies
	drop    func(why string, from netip.AddrPort)
	most    int // unfinished handshakes
	// hurry is sent to when one must wait for a place among those: who only
	// waits for the client's proof takes it as given.
	hurry chan struct{}

	mu     sync.Mutex
	heirs  map[connectionID]*session
	byID   map[connectionID]*line // that shake hands
	byAddr map[netip.AddrPort]*line
	half   map[netip.Prefix]int // unfinished handshakes by source
	halves int
}

func openPort(ctx context.Context, address string, most int, drop func(string, netip.AddrPort)) (*port, error) {
	conn, err := (&net.ListenConfig{Control: enlarge}).ListenPacket(ctx, "udp", address)
	if err != nil {
		return nil, err
	}
	udp := conn.(*net.UDPConn)
	return &port{
		conn: udp, out: newOutbox(udp), cookies: newCookies(), drop: drop, most: most, hurry: make(chan struct{}),
		heirs: map[connectionID]*session{}, byID: map[connectionID]*line{}, byAddr: map[netip.AddrPort]*line{}, half: map[netip.Prefix]int{},
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

// read routes what comes until the socket is closed. begin takes a line whose
// hello was verified.
func (p *port) read(begin func(*line)) error {
	batch := ipv6.NewPacketConn(p.conn) // the calls are the same for IPv4
	var in [atOnce]ipv6.Message
	for i := range in {
		in[i].Buffers = [][]byte{make([]byte, maxDatagram+1)}
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
				p.receive(m.Buffers[0][:m.N], from.AddrPort(), begin)
			}
		}
	}
}

// receive routes one datagram.
func (p *port) receive(data []byte, from netip.AddrPort, begin func(*line)) {
	switch {
	case len(data) > maxDatagram:
		p.drop("oversized", from)
		return
	case len(data) < recordHeader, data[1] != 0xfe, data[2] != 0xfd && data[2] != 0xff:
		p.drop("malformed", from)
		return
	}
	var l *line
	switch data[0] {
	case typeConnectionID:
		if len(data) < recordHeader+len(connectionID{}) {
			p.drop("malformed", from)
			return
		}
		id := connectionID(data[11:])
		p.mu.Lock()
		x := p.heirs[id]
		if x == nil {
			l = p.byID[id]
		}
		p.mu.Unlock()
		switch {
		case x != nil:
			x.receive(data, from)
			return
		case l != nil:
			if !l.sealed(datagram{append([]byte(nil), data...), from}) {
				p.drop("overrun", from)
			}
			return
		}
	case typeHandshake:
		if h, ok := parseHello(data); ok {
			p.hello(data, h, from, begin)
			return
		}
		fallthrough
	case typeChangeCipherSpec, typeAlert:
		p.mu.Lock()
		l = p.byAddr[from]
		p.mu.Unlock()
	default:
		p.drop("malformed", from)
		return
	}
	if l == nil {
		p.drop("unknown session", from)
		return
	}
	p.give(l, data, from)
}

func (p *port) give(l *line, data []byte, from netip.AddrPort) {
	if !l.give(datagram{append([]byte(nil), data...), from}) {
		p.drop("overrun", from)
	}
}

// hello answers a ClientHello without a good cookie with one, and lets one with
// it begin a session.
func (p *port) hello(data []byte, h hello, from netip.AddrPort, begin func(*line)) {
	now := time.Now()
	if !p.cookies.valid(from, h, now) {
		_, _ = p.conn.WriteToUDPAddrPort(p.cookies.request(from, h, now), from) // lost like any datagram may be
		return
	}
	source := source(from)
	p.mu.Lock()
	old := p.byAddr[from]
	if old != nil && old.random == h.random() {
		p.mu.Unlock()
		p.give(old, data, from) // it comes again
		return
	}
	// No one source may take all there are.
	if p.halves >= p.most || p.half[source] >= (p.most+1)/2 {
		p.mu.Unlock()
		select {
		case p.hurry <- struct{}{}: // there is a place for it when it comes again
		default:
		}
		p.drop("hello", from)
		return
	}
	// A client that starts anew from the same address (RFC 6347, section
	// 4.2.8) has shown that it is there; the old session lives on by its
	// connection ID, until it has been silent for too long.
	var id connectionID
	for p.byID[id] != nil || p.heirs[id] != nil || id == (connectionID{}) {
		rand.Read(id[:]) // never fails
	}
	l := newLine(p, id, data, h, from)
	p.byAddr[from], p.byID[id] = l, l
	p.halves++
	p.half[source]++
	p.mu.Unlock()
	begin(l)
}

// source is what counts as one source of hellos: an IPv4 address, or the
// network that an IPv6 host may choose any address of.
func source(from netip.AddrPort) netip.Prefix {
	a := from.Addr().Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	prefix, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

// inherit lets x have what is sent to l.
func (p *port) inherit(l *line, x *session) {
	p.mu.Lock()
	p.heirs[l.id] = x
	p.mu.Unlock()
	p.remove(l)
	l.bequeath(x)
}

// dismiss sends nothing to x any more.
func (p *port) dismiss(x *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.heirs, x.id)
}

// settled is called once for each line, when it has an heir or has failed.
func (p *port) settled(l *line) {
	source := source(l.first)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.halves--
	if p.half[source]--; p.half[source] == 0 {
		delete(p.half, source)
	}
}

func (p *port) remove(l *line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byAddr[l.first] == l {
		delete(p.byAddr, l.first)
	}
	delete(p.byID, l.id)
}

// close sends what waits to be sent, and then closes the socket.
func (p *port) close() {
	p.out.close()
	p.conn.Close()
}
