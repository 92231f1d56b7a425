package udp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
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
// section 11), searching ports from a random place on, so that a packet of an
// old call rarely meets a new one.
func listenPair(ctx context.Context, local netip.Addr, ports PortRange) (rtp, rtcp *net.UDPConn, port uint16, err error) {
	if ports == (PortRange{}) {
		ports = usualPorts
	}
	first, last := int(ports.First)+int(ports.First)%2, int(ports.Last)
	pairs := (last - first + 1) / 2
	if pairs <= 0 {
		return nil, nil, 0, fmt.Errorf("udp: bind ports %d-%d: %w", ports.First, ports.Last, ErrPorts)
	}
	start := rand.IntN(pairs)
	for i := range pairs {
		p := first + (start+i)%pairs*2
		if rtp, err = listen(ctx, local, p); err == nil {
			if rtcp, err = listen(ctx, local, p+1); err == nil {
				return rtp, rtcp, uint16(p), nil
			}
			rtp.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, nil, 0, fmt.Errorf("udp: bind port: %w", err)
		}
	}
	return nil, nil, 0, fmt.Errorf("udp: bind ports %d-%d: %w", ports.First, ports.Last, ErrPorts)
}

func listen(ctx context.Context, local netip.Addr, port int) (*net.UDPConn, error) {
	network, host := "udp", ""
	if local.IsValid() {
		host = local.String()
		network = "udp6"
		if local.Is4() {
			network = "udp4"
		}
	}
	lc := net.ListenConfig{Control: mark}
	c, err := lc.ListenPacket(ctx, network, net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// mark sets the code point on a socket before it is bound. IPv6 sockets may
// carry IPv4 as well.
func mark(network, _ string, c syscall.RawConn) error {
	var err error
	ctl := c.Control(func(fd uintptr) {
		err = os4(int(fd))
		if network == "udp6" {
			if e := os6(int(fd)); e != nil || err != nil {
				err = e // an IPv6 socket need not take IPv4's option
			}
		}
	})
	return errors.Join(ctl, err)
}

func os4(fd int) error {
	return syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, syscall.IP_TOS, expedited)
}

func os6(fd int) error {
	return syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_TCLASS, expedited)
}
