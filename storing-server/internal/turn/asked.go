package turn

import (
	"net"
	"net/netip"
	"sync"

	"flexphone/storing-server/internal/sockets"
)

// askedMost is how many places are remembered at the least, more than may have a port.
const askedMost = 4 * most

// An asked is the port's socket, which answers each client from that address of this host
// that the client has spoken to last: the NAT in front of it lets in no other. pion/turn knows
// of a client where it is and nothing else, so that this is remembered here.
type asked struct {
	*net.UDPConn
	sources *sockets.Sources
	control []byte // of ReadFrom, which one goroutine calls

	mu       sync.Mutex
	now, old map[netip.AddrPort]*sockets.Source // old is forgotten when now is full
}

// answering returns c, or what answers for it, where it listens at more than one address.
func answering(c *net.UDPConn) (net.PacketConn, error) {
	sources, err := sockets.SourcesOf(c)
	if err != nil {
		return nil, err
	}
	if sources == nil {
		return c, nil
	}
	return &asked{UDPConn: c, sources: sources, control: make([]byte, sockets.ControlRoom), now: map[netip.AddrPort]*sockets.Source{}}, nil
}

// ReadFrom implements net.PacketConn.
func (a *asked) ReadFrom(b []byte) (int, net.Addr, error) {
	n, k, _, from, err := a.ReadMsgUDPAddrPort(b, a.control)
	if err != nil {
		return n, nil, err
	}
	a.note(from, a.sources.Of(a.control[:k]))
	return n, net.UDPAddrFromAddrPort(from), nil
}

// note remembers by which address a client has spoken.
func (a *asked) note(from netip.AddrPort, by *sockets.Source) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known, ok := a.now[from]; ok && known == by {
		return
	}
	if len(a.now) >= askedMost {
		a.old, a.now = a.now, map[netip.AddrPort]*sockets.Source{}
	}
	a.now[from] = by
}

// by returns by which address a client has spoken; nil: nobody knows.
func (a *asked) by(to netip.AddrPort) *sockets.Source {
	a.mu.Lock()
	defer a.mu.Unlock()
	if by, ok := a.now[to]; ok {
		return by
	}
	return a.old[to]
}

// WriteTo implements net.PacketConn.
func (a *asked) WriteTo(b []byte, to net.Addr) (int, error) {
	client, ok := to.(*net.UDPAddr)
	if !ok {
		return a.UDPConn.WriteTo(b, to)
	}
	at := client.AddrPort()
	if err := sockets.Answer(a.UDPConn, b, at, a.by(at)); err != nil {
		return 0, err
	}
	return len(b), nil
}
