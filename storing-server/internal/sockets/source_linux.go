package sockets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Source is the address of this host that a datagram was sent to, in the form in which the
// kernel is told to answer from there. nil leaves it to the kernel, which takes the one that
// it prefers for the way back: on a host with several that may be another, whose answers a
// NAT in front of who asked does not let in.
type Source struct {
	at      netip.Addr
	control []byte
}

// Control returns what goes with a datagram that is to leave from s (sendmsg(2)).
func (s *Source) Control() []byte {
	if s == nil {
		return nil
	}
	return s.control
}

// Addr returns the address; the zero one where it is left to the kernel, and where it is good
// on one link alone.
func (s *Source) Addr() netip.Addr {
	if s == nil {
		return netip.Addr{}
	}
	return s.at
}

// ControlRoom is how many bytes a datagram's control messages need where it is received.
var ControlRoom = unix.CmsgSpace(unix.SizeofInet6Pktinfo)

// sourcesMost is how many addresses are kept ready. Few hosts have ten; one that answers for
// a whole prefix makes what it needs of the others for each datagram.
const sourcesMost = 1024

// Sources knows by which addresses of this host a socket is spoken to. It is safe for
// concurrent use.
type Sources struct {
	six bool // the socket is of IPv6, or of both families

	mu    sync.Mutex // to write
	known atomic.Pointer[map[source]*Source]
}

// A source is what a Source is found by.
type source struct {
	addr [16]byte
	link uint32 // interface of an address that is good on it alone
}

// SourcesOf has the kernel say with each datagram of c to which address it came. A socket
// that is bound to one needs that not: there it returns nil, of which each Source is nil.
func SourcesOf(c *net.UDPConn) (*Sources, error) {
	own := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	if !own.IsUnspecified() {
		return nil, nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("sockets: ask for the addresses that are spoken to: %w", err)
	}
	s := newSources(own.Is6())
	level, option := unix.IPPROTO_IP, unix.IP_PKTINFO
	if s.six { // RFC 3542, section 6.1; the kernel gives those of IPv4 in it, too
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, option, 1) })
	if err = errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("sockets: ask for the addresses that are spoken to: %w", err)
	}
	return s, nil
}

func newSources(six bool) *Sources {
	s := &Sources{six: six}
	s.known.Store(&map[source]*Source{})
	return s
}

// Of returns by which address a datagram came with these control messages. It allocates for
// the first of an address alone.
func (s *Sources) Of(control []byte) *Source {
	if s == nil {
		return nil
	}
	for len(control) >= unix.SizeofCmsghdr {
		head, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return nil
		}
		switch {
		case s.six && head.Level == unix.IPPROTO_IPV6 && head.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return s.at(netip.AddrFrom16([16]byte(data)), binary.NativeEndian.Uint32(data[16:]))
		case !s.six && head.Level == unix.IPPROTO_IP && head.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// ipi_spec_dst of ip(7): of a broadcast the address that it came to.
			return s.at(netip.AddrFrom4([4]byte(data[4:])), 0)
		}
		control = rest
	}
	return nil
}

// At returns the Source of an address, as Addr has said it once.
func (s *Sources) At(a netip.Addr) *Source {
	if s == nil || !a.IsValid() || !s.six && !a.Is4() {
		return nil
	}
	return s.at(a, 0)
}

func (s *Sources) at(a netip.Addr, link uint32) *Source {
	a = a.Unmap()
	if a.IsUnspecified() || a.IsMulticast() {
		return nil // nobody speaks from there
	}
	if !a.IsLinkLocalUnicast() || a.Is4() {
		link = 0 // the way back is the routes' business
	}
	key := source{a.As16(), link}
	if known := (*s.known.Load())[key]; known != nil {
		return known
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := *s.known.Load()
	if again := known[key]; again != nil {
		return again
	}
	made := s.make(a, link)
	if len(known) < sourcesMost {
		more := maps.Clone(known)
		more[key] = made
		s.known.Store(&more)
	}
	return made
}

// make writes the control message of an address.
func (s *Sources) make(a netip.Addr, link uint32) *Source {
	made := &Source{}
	if link == 0 {
		made.at = a
	}
	if s.six {
		head, data := message(made, unix.SizeofInet6Pktinfo)
		head.Level, head.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
		*(*unix.Inet6Pktinfo)(data) = unix.Inet6Pktinfo{Addr: a.As16(), Ifindex: link}
		return made
	}
	head, data := message(made, unix.SizeofInet4Pktinfo)
	head.Level, head.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
	*(*unix.Inet4Pktinfo)(data) = unix.Inet4Pktinfo{Spec_dst: a.As4()}
	return made
}

// message makes room for a control message of n bytes.
func message(of *Source, n int) (*unix.Cmsghdr, unsafe.Pointer) {
	of.control = make([]byte, unix.CmsgSpace(n))
	head := (*unix.Cmsghdr)(unsafe.Pointer(&of.control[0]))
	head.SetLen(unix.CmsgLen(n))
	return head, unsafe.Pointer(&of.control[unix.CmsgLen(0)])
}

// Answer sends b to to, from by. Where the kernel does not do that, as when this host has the
// address no longer, it chooses itself.
func Answer(c *net.UDPConn, b []byte, to netip.AddrPort, by *Source) error {
	_, _, err := c.WriteMsgUDPAddrPort(b, by.Control(), to)
	if by != nil && err != nil {
		_, err = c.WriteToUDPAddrPort(b, to)
	}
	return err
}
