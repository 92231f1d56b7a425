package sip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

// What one phone takes from the network. A person makes a call in a dozen
// messages; these bounds are far above that and far below what would hurt.
const (
	maxSources       = 1024 // UDP sources remembered at a time
	packetsPerSecond = 2000 // UDP packets from everybody
	packetsBurst     = 4000
	perSource        = 500 // UDP packets per second from one host
	perSourceBurst   = 1000
)

// listenPlain opens UDP and TCP on the same port. Port 0 is any port that is
// free for both.
func listenPlain(at netip.AddrPort) (*net.UDPConn, *net.TCPListener, error) {
	const tries = 16 // the UDP port that the kernel chose may be taken for TCP
	for try := 0; ; try++ {
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return nil, nil, fmt.Errorf("sip: listen on UDP %v: %w", at, err)
		}
		port := udp.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), port)))
		if err == nil {
			return udp, tcp, nil
		}
		udp.Close()
		if at.Port() != 0 || try == tries {
			return nil, nil, fmt.Errorf("sip: listen on TCP %v: %w", at, err)
		}
	}
}

// A packets is the UDP socket as sipgo sees it: with a bound on what comes in,
// and with ICMP errors given to those who wait for an answer instead of ending
// sipgo's reading.
type packets struct {
	*net.UDPConn
	trace       func(bool, netip.AddrPort, []byte) // as Config says it; nil: none
	unreachable func(loss)                         // called for each packet that ICMP says came to nothing
	serve       func(net.PacketConn) error         // sipgo's reading loop
	readers     sync.WaitGroup

	all   *rate.Limiter // these belong to the present reader
	ports map[netip.AddrPort]struct{}
	hosts map[netip.Prefix]*rate.Limiter
}

func newPackets(c *net.UDPConn, unreachable func(loss)) (*packets, error) {
	p := &packets{
		UDPConn: c, unreachable: unreachable,
		all:   rate.NewLimiter(packetsPerSecond, packetsBurst),
		ports: make(map[netip.AddrPort]struct{}),
		hosts: make(map[netip.Prefix]*rate.Limiter),
	}
	return p, askForICMP(c)
}

// begin starts to read, until the socket is closed, and returns when sipgo can
// send.
func (p *packets) begin() {
	first := &reader{packets: p, begun: make(chan struct{})}
	p.read(first)
	<-first.begun
}

func (p *packets) read(r *reader) { p.readers.Go(func() { _ = p.serve(r) }) } // it ends with the socket, as it should

// A reader is one run of sipgo's reading loop, which keeps every source that it
// has seen for as long as it runs. So after maxSources another one takes over
// and this one ends.
type reader struct {
	*packets
	begun chan struct{}
	began bool
}

var errRelieved = fmt.Errorf("sip: another reader goes on: %w", net.ErrClosed)

// ReadFrom gives sipgo the next packet that is within bounds.
func (r *reader) ReadFrom(b []byte) (int, net.Addr, error) {
	if !r.began {
		r.began = true
		close(r.begun)
	}
	p := r.packets
	if len(p.ports) >= maxSources {
		clear(p.ports)
		clear(p.hosts)
		next := &reader{packets: p, begun: make(chan struct{})}
		p.read(next)
		<-next.begun // sipgo's pool knows the next one before it forgets this one
		return 0, nil, errRelieved
	}
	for {
		n, from, err := p.UDPConn.ReadFromUDPAddrPort(b)
		switch {
		case errors.Is(err, net.ErrClosed):
			return 0, nil, err
		case err != nil: // an ICMP message has come; what it was about is in the error queue
			for _, l := range drainICMP(p.UDPConn) {
				p.unreachable(l)
			}
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if !p.within(from.Addr()) {
			continue
		}
		p.ports[from] = struct{}{}
		return n, net.UDPAddrFromAddrPort(from), nil
	}
}

func (p *packets) within(from netip.Addr) bool {
	host := networkOf(from)
	l := p.hosts[host]
	if l == nil {
		if len(p.hosts) >= maxSources {
			clear(p.hosts)
		}
		l = rate.NewLimiter(perSource, perSourceBurst)
		p.hosts[host] = l
	}
	return l.Allow() && p.all.Allow()
}

// WriteTo sends a packet. An error that an earlier packet left behind is not
// this one's, so it is tried once more.
func (p *packets) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := p.UDPConn.WriteTo(b, to)
	if err != nil && isICMP(err) {
		for _, l := range drainICMP(p.UDPConn) {
			p.unreachable(l)
		}
		n, err = p.UDPConn.WriteTo(b, to)
	}
	if p.trace != nil && err == nil {
		p.trace(true, addrPortOf(to), b)
	}
	return n, err
}

// addrPortOf is the address in a, unmapped; invalid if it holds none.
func addrPortOf(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// sourceOf is where a message came from, as sipgo noted it.
func sourceOf(s string) netip.AddrPort {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// localFor is the address from which the kernel would send to dest now.
// Connecting a UDP socket sends nothing.
func localFor(dest netip.AddrPort) (netip.Addr, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(dest))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("sip: find route to %v: %w", dest.Addr(), err)
	}
	defer c.Close()
	return addrPortOf(c.LocalAddr()).Addr(), nil
}
