// Package nat is a network address translator in user space, of any of the kinds that
// stand in homes and at providers (RFC 4787, RFC 5382).
//
// It knows IPv4 with UDP and TCP, which ports it has given out, and whom it lets in. It
// refuses to know how packets come to it and leave: Run carries them from and to a TUN
// device. What it cannot translate, ICMP and fragments among that, it drops.
//
// # Why in user space
//
// Linux translates with nftables, which many kernels are built without. And what is
// tried here are the odd kinds, which are not to be had there.
package nat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"
)

// A Filter says who may send to a port that was given out (RFC 4787, section 5).
type Filter int

// The filters.
const (
	Anybody Filter = iota // a full cone
	Host                  // those hosts to which something was sent from behind it
	Port                  // those ports of them
)

// A Config says what kind of NAT it is.
type Config struct {
	Inside  netip.Prefix // who is behind it
	Outside netip.Addr   // as what all of them are seen
	// Symmetric: each destination sees another port (RFC 4787, section 4.1,
	// address and port-dependent mapping). Else a port is kept where it is free,
	// unless Arbitrary (section 4.2.1, no port preservation).
	Symmetric bool
	Arbitrary bool
	Filter    Filter
	Forget    time.Duration // of what is silent for so long; 0: never
}

// The protocols that are translated.
const (
	TCP = 6
	UDP = 17
)

// A key finds what was given out to an inner port.
type key struct {
	protocol byte
	inner    netip.AddrPort
	to       netip.AddrPort // Symmetric
}

type outer struct {
	protocol byte
	port     uint16
}

type mapping struct {
	key
	port  uint16
	at    time.Time
	fixed bool // asked for, and open to anybody
	peers map[netip.AddrPort]bool
	hosts map[netip.Addr]bool
}

// A NAT translates packets. It is safe for concurrent use.
type NAT struct {
	config Config

	mu    sync.Mutex
	byKey map[key]*mapping
	byOut map[outer]*mapping
	next  uint16
}

// New returns a NAT that has given out nothing.
func New(c Config) *NAT {
	n := &NAT{config: c, next: firstPort}
	n.Restart()
	return n
}

// firstPort is the first of those that are given out where none is kept.
const firstPort = 40000

// Restart forgets everything, as a router does that was without power. What is given out
// afterwards is none of the ports of before, where it is not kept.
func (n *NAT) Restart() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.byKey, n.byOut = map[key]*mapping{}, map[outer]*mapping{}
}

// Open gives a port to an inner one for good, and lets anybody in there: port itself if
// it is free. It returns which one, as a router does that is asked by PCP or NAT-PMP.
func (n *NAT) Open(protocol byte, inner netip.AddrPort, port uint16) uint16 {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.byOut {
		if m.fixed && m.protocol == protocol && m.inner == inner {
			return m.port
		}
	}
	m := &mapping{key: key{protocol: protocol, inner: inner}, fixed: true, port: n.free(protocol, port)}
	n.byOut[outer{protocol, m.port}] = m
	if !n.config.Symmetric {
		n.byKey[m.key] = m
	}
	return m.port
}

// Shut takes back what Open gave out.
func (n *NAT) Shut(protocol byte, inner netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.byOut {
		if m.fixed && m.protocol == protocol && m.inner == inner {
			n.drop(m)
		}
	}
}

// Grants reports whether that port is given out by Open.
func (n *NAT) Grants(protocol byte, port uint16) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.byOut[outer{protocol, port}]
	return m != nil && m.fixed
}

func (n *NAT) drop(m *mapping) {
	delete(n.byOut, outer{m.protocol, m.port})
	if n.byKey[m.key] == m {
		delete(n.byKey, m.key)
	}
}

// free is a port that is not given out, wanted if that is one; n.mu is held.
func (n *NAT) free(protocol byte, wanted uint16) uint16 {
	if wanted != 0 && n.byOut[outer{protocol, wanted}] == nil {
		return wanted
	}
	for {
		if n.next++; n.next < firstPort {
			n.next = firstPort
		}
		if n.byOut[outer{protocol, n.next}] == nil {
			return n.next
		}
	}
}

// Pass translates a packet in its place, and reports whether it goes on.
func (n *NAT) Pass(now time.Time, packet []byte) bool {
	p, ok := read(packet)
	if !ok {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	src, dst := p.ends()
	if n.config.Inside.Contains(src.Addr()) {
		p.source(netip.AddrPortFrom(n.config.Outside, n.out(now, p.protocol, src, dst)))
		if dst.Addr() != n.config.Outside {
			return true
		}
		src, _ = p.ends() // back to one of those behind it
	} else if dst.Addr() != n.config.Outside {
		return false
	}
	m := n.byOut[outer{p.protocol, dst.Port()}]
	if m == nil || n.stale(now, m) || !n.admits(m, src) {
		return false
	}
	p.destination(m.inner)
	return true
}

// out is the port as which src sends to dst; n.mu is held.
func (n *NAT) out(now time.Time, protocol byte, src, dst netip.AddrPort) uint16 {
	k := key{protocol: protocol, inner: src}
	if n.config.Symmetric {
		k.to = dst
	}
	m := n.byKey[k]
	if m == nil || n.stale(now, m) {
		wanted := src.Port()
		if n.config.Symmetric || n.config.Arbitrary {
			wanted = 0
		}
		if m != nil {
			n.drop(m)
		}
		m = &mapping{key: k, port: n.free(protocol, wanted)}
		n.byKey[k], n.byOut[outer{protocol, m.port}] = m, m
	}
	if m.at = now; m.peers == nil {
		m.peers, m.hosts = map[netip.AddrPort]bool{}, map[netip.Addr]bool{}
	}
	m.peers[dst], m.hosts[dst.Addr()] = true, true
	return m.port
}

func (n *NAT) stale(now time.Time, m *mapping) bool {
	return n.config.Forget > 0 && !m.fixed && now.Sub(m.at) >= n.config.Forget
}

func (n *NAT) admits(m *mapping, src netip.AddrPort) bool {
	switch {
	case m.fixed, n.config.Filter == Anybody:
		return true
	case n.config.Filter == Host:
		return m.hosts[src.Addr()]
	}
	return m.peers[src]
}

// Run translates what comes from device, which reads and writes a packet at a time,
// until that is closed.
func (n *NAT) Run(device io.ReadWriter) error {
	packet := make([]byte, 1<<16)
	for {
		size, err := device.Read(packet)
		switch {
		case errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("nat: read packet: %w", err)
		}
		if n.Pass(time.Now(), packet[:size]) {
			_, _ = device.Write(packet[:size]) // what the kernel does not take is lost
		}
	}
}

// A view is a packet of IPv4 with UDP or TCP.
type view struct {
	packet   []byte
	header   int
	protocol byte
}

// read looks whether packet is one that can be translated.
func read(packet []byte) (view, bool) {
	if len(packet) < 20 || packet[0]>>4 != 4 {
		return view{}, false
	}
	v := view{packet, int(packet[0]&15) * 4, packet[9]}
	least := 8
	if v.protocol == TCP {
		least = 20
	}
	fragment := binary.BigEndian.Uint16(packet[6:])&0x3fff != 0
	return v, (v.protocol == TCP || v.protocol == UDP) && !fragment && v.header >= 20 && len(packet) >= v.header+least
}

func (v view) ends() (src, dst netip.AddrPort) {
	at := func(addr, port int) netip.AddrPort {
		a := netip.AddrFrom4([4]byte(v.packet[addr:]))
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(v.packet[v.header+port:]))
	}
	return at(12, 0), at(16, 2)
}

func (v view) source(to netip.AddrPort)      { v.set(12, 0, to) }
func (v view) destination(to netip.AddrPort) { v.set(16, 2, to) }

// set writes an end, and what it changes of the checksums (RFC 1624).
func (v view) set(addr, port int, to netip.AddrPort) {
	sum := v.packet[v.header+6:]
	if v.protocol == TCP {
		sum = v.packet[v.header+16:]
	}
	a := to.Addr().As4()
	var p [2]byte
	binary.BigEndian.PutUint16(p[:], to.Port())
	without := v.protocol == UDP && sum[0] == 0 && sum[1] == 0 // it has none
	for i := 0; i < 4; i += 2 {
		adjust(v.packet[10:], v.packet[addr+i:], a[i:])
		if !without {
			adjust(sum, v.packet[addr+i:], a[i:])
		}
	}
	if !without {
		adjust(sum, v.packet[v.header+port:], p[:])
	}
	copy(v.packet[addr:], a[:])
	copy(v.packet[v.header+port:], p[:])
}

// adjust changes a checksum for two bytes that become others: HC' = ~(~HC + ~m + m').
func adjust(sum, was, is []byte) {
	s := uint32(^binary.BigEndian.Uint16(sum)) + uint32(^binary.BigEndian.Uint16(was)) + uint32(binary.BigEndian.Uint16(is))
	s = s&0xffff + s>>16
	s = s&0xffff + s>>16
	binary.BigEndian.PutUint16(sum, ^uint16(s))
}
