// Package udp is the plain path of a stream: RTP and RTCP as they are, on two
// ports that follow each other (RFC 3550, section 11), or, with a peer that wants
// that, both on the first (RFC 5761).
//
// It knows sockets, that voice is marked as expedited (RFC 3246), and from which
// address packets are taken. It refuses to know what is in them.
//
// # Whom it hears
//
// Packets are taken from the peer's address only: another host cannot speak into a
// call. RFC 4961 asks peers to send from the port where they receive, and we do, but
// it is no more than best practice: gateways and some phones use two. So of several
// ports of that address one is heard: the first that speaks, and another one only
// when that has been silent for two seconds, as where the peer began anew. The port that the
// peer has named is itself at any time. What is sent goes there always.
package udp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"flexphone/audio"
)

const (
	// maxPacket is more than any link carries in one piece.
	maxPacket = 2048
	// givenUp is after how long a port that says nothing is no more the peer: longer
	// than a network stalls, and shorter than anybody says "hello?".
	givenUp = 2 * time.Second
)

// A Path is two sockets and a peer. It is an audio.Path.
type Path struct {
	rtp, rtcp *Conn
	port      uint16
	peer      atomic.Pointer[peer]
	strangers atomic.Uint64
	reports   sync.Mutex // of taking RTCP, which comes to either port while a peer changes its mind
}

// A peer is where packets go and from where they are taken; but for fresh it
// never changes.
type peer struct {
	rtp, rtcp netip.AddrPort // equal: both go one way
	host      netip.Addr     // of rtp, as it can be compared
	fresh     atomic.Bool    // nothing was heard of this host
}

// Open binds a path's two sockets: on local, or on all addresses if local is the
// zero Addr, at an even port and the next one, out of ports. Without a free pair
// the error is ErrPorts. It has no peer until SetPeer; ctx is for the binding
// alone.
func Open(ctx context.Context, local netip.Addr, ports PortRange) (*Path, error) {
	rtp, rtcp, port, err := listenPair(ctx, local, ports)
	if err != nil {
		return nil, err
	}
	return &Path{rtp: rtp, rtcp: rtcp, port: port}, nil
}

// Port returns the port of RTP, which is even; RTCP is at the next one.
func (p *Path) Port() uint16 { return p.port }

// SetPeer says where RTP and RTCP go from now on. It is called by one goroutine at
// a time. A zero rtcp is RTP's next port
// (RFC 3550, section 11), and one that is rtp says that both come and go by the port
// of RTP (RFC 5761). An invalid or unspecified address is nobody's: nothing
// is sent there.
func (p *Path) SetPeer(rtp, rtcp netip.AddrPort) {
	if rtcp == (netip.AddrPort{}) && rtp.Port() < 65535 {
		rtcp = netip.AddrPortFrom(rtp.Addr(), rtp.Port()+1)
	}
	next := &peer{rtp: rtp, rtcp: rtcp, host: plain(rtp.Addr())}
	before := p.peer.Load()
	next.fresh.Store(before == nil || before.host != next.host || before.fresh.Load())
	p.peer.Store(next)
}

// plain returns an address as it can be compared: IPv4 as IPv4, without a zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// Strangers returns how many datagrams came from another address than the peer's, or
// another port than the one that is heard.
func (p *Path) Strangers() uint64 { return p.strangers.Load() }

// Receive implements audio.Path.
func (p *Path) Receive(take func(audio.Datagram)) error {
	var reports sync.WaitGroup
	var err error
	reports.Go(func() { err = p.receive(p.rtcp, audio.RTCP, take) })
	heard := p.receive(p.rtp, audio.RTP, take)
	reports.Wait()
	return errors.Join(heard, err)
}

// receive takes what comes to one of the sockets, until that is closed.
func (p *Path) receive(c *Conn, what audio.Protocol, take func(audio.Datagram)) error {
	b := make([]byte, maxPacket)
	var heard source
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("udp: receive: %w", err)
		}
		now := time.Now()
		of := p.peer.Load()
		if of == nil || plain(from.Addr()) != of.host {
			p.strangers.Add(1)
			continue
		}
		named := of.rtp
		if what == audio.RTCP {
			named = of.rtcp
		}
		if what == audio.RTCP && of.both() || !heard.take(from, named, now) {
			p.strangers.Add(1)
			continue
		}
		d := audio.Datagram{Protocol: what, Bytes: b[:n], At: now}
		if of.both() && isRTCP(d.Bytes) {
			d.Protocol = audio.RTCP
		}
		if d.Protocol == audio.RTCP {
			p.reports.Lock()
			take(d)
			p.reports.Unlock()
			continue
		}
		d.NewPeer = of.fresh.Swap(false)
		take(d)
	}
}

// both reports whether RTP and RTCP go one way.
func (p *peer) both() bool { return p.rtp == p.rtcp }

// isRTCP tells RTCP from RTP by its second byte: that is no payload type, with or
// without a marker, where both go one way (RFC 5761, section 4).
func isRTCP(b []byte) bool { return len(b) > 1 && b[1] >= 192 && b[1] <= 223 }

// A source is the port of the peer that is heard.
type source struct {
	named netip.AddrPort // by the peer, when it was chosen
	port  uint16
	at    time.Time // when it was heard last
}

// take says whether a datagram of the peer's host is of the source, which it may
// become.
func (s *source) take(from, named netip.AddrPort, now time.Time) bool {
	known := !s.at.IsZero() && named == s.named
	if known && from.Port() != s.port && from.Port() != named.Port() && now.Sub(s.at) < givenUp {
		return false
	}
	*s = source{named: named, port: from.Port(), at: now}
	return true
}

// Send implements audio.Path.
func (p *Path) Send(what audio.Protocol, b []byte) error {
	to := p.peer.Load()
	if to == nil {
		return audio.ErrNoPeer
	}
	c, addr := p.rtp, to.rtp
	if what == audio.RTCP && !to.both() {
		c, addr = p.rtcp, to.rtcp
	}
	if !addr.IsValid() || addr.Addr().IsUnspecified() {
		return audio.ErrNoPeer
	}
	if _, err := c.WriteToUDPAddrPort(b, addr); err != nil {
		return fmt.Errorf("udp: send: %w", err)
	}
	return nil
}

// Close implements audio.Path: it gives the ports back.
func (p *Path) Close() error {
	var failed error
	for _, c := range []*Conn{p.rtp, p.rtcp} {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			failed = errors.Join(failed, fmt.Errorf("udp: close: %w", err))
		}
	}
	return failed
}
