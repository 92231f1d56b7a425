package udp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
)

// expedited is the differentiated services code point of voice, EF, in its
// place in the header (RFC 3246, RFC 4594).
const expedited = 46 << 2

// A PortRange is where pairs of ports are taken from, both ends included. The
// zero PortRange is 16384-32767.
type PortRange struct{ First, Last uint16 }

var usualPorts = PortRange{16384, 32767}

// ErrPorts is the error of Open when no pair of ports is free.
var ErrPorts = errors.New("no pair of ports is free")

// listenPair binds an even port for RTP and the next one for RTCP (RFC 3550,
// section 11).
func listenPair(ctx context.Context, local netip.Addr, ports PortRange) (rtp, rtcp *Conn, port uint16, err error) {
	err = search(ports, func(p uint16) error {
		var err error
		if rtp, err = listen(ctx, local, p); err != nil {
			return err
		}
		if rtcp, err = listen(ctx, local, p+1); err != nil {
			rtp.Close()
			return err
		}
		port = p
		return nil
	})
	return rtp, rtcp, port, err
}

// Bind binds one socket, which is marked as those of a path are, on all addresses:
// at an even port out of ports, whose next one no path binds then. Without a
// free one the error is ErrPorts; ctx is for the binding alone.
func Bind(ctx context.Context, ports PortRange) (c *Conn, err error) {
	err = search(ports, func(p uint16) error {
		var err error
		c, err = listen(ctx, netip.Addr{}, p)
		return err
	})
	return c, err
}

// search has bind try even ports from a random place on, so that a packet of an
// old call rarely meets a new one.
func search(ports PortRange, bind func(port uint16) error) error {
	if ports == (PortRange{}) {
		ports = usualPorts
	}
	first, last := int(ports.First)+int(ports.First)%2, int(ports.Last)
	pairs := (last - first + 1) / 2
	if pairs <= 0 {
		return fmt.Errorf("udp: bind ports %d-%d: %w", ports.First, ports.Last, ErrPorts)
	}
	start := rand.IntN(pairs)
	for i := range pairs {
		err := bind(uint16(first + (start+i)%pairs*2))
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("udp: bind port: %w", err)
		}
	}
	return fmt.Errorf("udp: bind ports %d-%d: %w", ports.First, ports.Last, ErrPorts)
}

func listen(ctx context.Context, local netip.Addr, port uint16) (*Conn, error) {
	both := !local.IsValid()
	if both {
		local = netip.IPv6Unspecified()
	}
	c, err := listenOn(ctx, local, port, both)
	if both && errors.Is(err, syscall.EAFNOSUPPORT) { // a kernel without IPv6
		return listenOn(ctx, netip.IPv4Unspecified(), port, false)
	}
	return c, err
}

// listenOn asks for the family by name. Left to itself Go takes IPv4's alone for all
// addresses if it could not bind 127.0.0.1 when it first looked, as on a machine that
// has an address and whose loopback interface is down.
func listenOn(ctx context.Context, local netip.Addr, port uint16, both bool) (*Conn, error) {
	network := "udp6"
	if local.Is4() {
		network = "udp4"
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return prepare(c, local.Is6(), both) }}
	c, err := lc.ListenPacket(ctx, network, netip.AddrPortFrom(local, port).String())
	if err != nil {
		return nil, err
	}
	return newConn(c.(*net.UDPConn), local.Is4())
}

// prepare sets the code point on a socket before it is bound, and whether one of
// IPv6 carries IPv4 as well.
func prepare(c syscall.RawConn, six, both bool) error {
	var err error
	ctl := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TOS, expedited)
		if six {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_TCLASS, expedited) // it need not take IPv4's option
		}
		if both && err == nil {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 0)
		}
	})
	return errors.Join(ctl, err)
}
