package sip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// askForICMP makes the kernel report ICMP errors on a socket that is not
// connected (ip(7), IP_RECVERR): that nothing listens at an address is then
// known in a round trip instead of after 32 s of silence.
func askForICMP(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("sip: ask for ICMP errors: %w", err)
	}
	var opt error
	err = raw.Control(func(fd uintptr) {
		v4 := unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1)
		v6 := unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
		if v4 != nil && v6 != nil { // an IPv4 socket takes the one, an IPv6 socket both
			opt = v4
		}
	})
	if err = errors.Join(err, opt); err != nil {
		return fmt.Errorf("sip: ask for ICMP errors: %w", err)
	}
	return nil
}

// isICMP tells errors that an ICMP message or a failed ARP left on the socket.
func isICMP(err error) bool {
	for _, e := range []error{unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// A loss is a packet of ours that came to nothing: to whom it was, and as much of it
// as the message about that quotes, from its beginning (RFC 1812, 4.3.2.3). Anybody
// can write such a message; only who has seen the packet can quote it.
type loss struct {
	to     netip.AddrPort
	quoted []byte
}

// drainICMP empties the socket's error queue.
func drainICMP(c *net.UDPConn) []loss {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	var gone []loss
	_ = raw.Control(func(fd uintptr) { // the socket may just have been closed: then nobody waits
		var oob, packet [512]byte
		for {
			quoted, n, _, to, err := unix.Recvmsg(int(fd), packet[:], oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			if !dead(oob[:n]) {
				continue
			}
			l := loss{quoted: bytes.Clone(packet[:quoted])}
			switch to := to.(type) {
			case *unix.SockaddrInet4:
				l.to = netip.AddrPortFrom(netip.AddrFrom4(to.Addr), uint16(to.Port))
			case *unix.SockaddrInet6:
				l.to = netip.AddrPortFrom(netip.AddrFrom16(to.Addr).Unmap(), uint16(to.Port))
			}
			gone = append(gone, l)
		}
	})
	return gone
}

// dead tells an error that ends hope (refused, no such host) from one that
// does not (a packet that was too long for the path).
func dead(oob []byte) bool {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return false
	}
	for _, m := range msgs {
		// struct sock_extended_err begins with the errno, in host order.
		if len(m.Data) < 4 {
			continue
		}
		recvErr := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR ||
			m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		if !recvErr {
			continue
		}
		return isICMP(unix.Errno(nativeUint32(m.Data)))
	}
	return false
}

func nativeUint32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }
