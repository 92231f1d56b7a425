package nat

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
)

// GrantPort is where hosts behind it ask a NAT for a port (RFC 6887, section 19.1).
const GrantPort = 5351

// Grant answers those behind the NAT who ask for a port, on a socket at GrantPort, until
// that is closed: in NAT-PMP (RFC 6886), and if pcp in the Port Control Protocol (RFC
// 6887). What was granted stays until it is given back.
func (n *NAT) Grant(c net.PacketConn, pcp bool) error {
	b := make([]byte, 1100)
	for {
		size, from, err := c.ReadFrom(b)
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		host := from.(*net.UDPAddr).AddrPort().Addr().Unmap()
		if answer := n.granted(b[:size], host, pcp); answer != nil {
			_, _ = c.WriteTo(answer, from) // it asks again
		}
	}
}

// granted is the answer to a question of host's; nil: there is none.
func (n *NAT) granted(q []byte, host netip.Addr, pcp bool) []byte {
	outside := n.config.Outside.As4()
	switch {
	case len(q) == 60 && q[0] == 2 && q[1] == 1 && pcp:
		a := append([]byte(nil), q...)
		a[1] = 0x81
		clear(a[8:24])
		binary.BigEndian.PutUint16(a[42:], n.grant(q[36], host, q[40:], q[42:], q[4:]))
		copy(a[44:], []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff})
		copy(a[56:], outside[:])
		return a
	case len(q) >= 2 && q[0] != 0:
		return []byte{0, q[1] | 0x80, 0, 1, 0, 0, 0, 1} // another version
	case len(q) == 2 && q[1] == 0:
		return append([]byte{0, 0x80, 0, 0, 0, 0, 0, 1}, outside[:]...)
	case len(q) == 12 && (q[1] == 1 || q[1] == 2):
		protocol := map[byte]byte{1: UDP, 2: TCP}[q[1]]
		a := append([]byte{0, 0x80 | q[1], 0, 0, 0, 0, 0, 1}, q[4:]...)
		binary.BigEndian.PutUint16(a[10:], n.grant(protocol, host, q[4:], q[6:], q[8:]))
		return a
	}
	return nil
}

// grant opens the inner port at the one that is wished, or shuts it if lifetime is 0.
func (n *NAT) grant(protocol byte, host netip.Addr, inner, wished, lifetime []byte) uint16 {
	at := netip.AddrPortFrom(host, binary.BigEndian.Uint16(inner))
	if binary.BigEndian.Uint32(lifetime) == 0 {
		n.Shut(protocol, at)
		return 0
	}
	return n.Open(protocol, at, binary.BigEndian.Uint16(wished))
}
