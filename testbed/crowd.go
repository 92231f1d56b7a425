package testbed

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// A Crowd is a host of nobody's that sends what it likes, from as many
// addresses as it likes.
type Crowd struct {
	Addrs []netip.Addr
	host  *host
}

// AddCrowd makes a crowd of n addresses.
func (b *Bed) AddCrowd(n int) (*Crowd, error) {
	h, addr, err := b.addFixed()
	if err != nil {
		return nil, err
	}
	c := &Crowd{Addrs: []netip.Addr{addr}, host: h}
	for len(c.Addrs) < n {
		addr = addr.Next()
		b.fixed++
		if err := h.address("eth0", netip.PrefixFrom(addr, fixedPhones.Bits()), netip.Addr{}); err != nil {
			return nil, err
		}
		c.Addrs = append(c.Addrs, addr)
	}
	return c, nil
}

// Listen opens a UDP socket at one of its addresses.
func (c *Crowd) Listen(at netip.AddrPort) (conn *net.UDPConn, err error) {
	err = c.host.within(func() error {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("testbed: listen at %v: %w", at, err)
	}
	return conn, nil
}

// Dial connects by TCP from one of its addresses.
func (c *Crowd) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (conn net.Conn, err error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	err = c.host.within(func() error {
		conn, err = d.DialContext(ctx, "tcp4", to.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("testbed: connect to %v: %w", to, err)
	}
	return conn, nil
}
