package netlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/netlink/internal/link"
)

// dialServer opens the socket that sends unicast messages from a leased
// address. What comes back is read from the tap; the socket only keeps the
// kernel from answering it with "port unreachable".
func dialServer(ctx context.Context, ifname string, from, to netip.Addr) (*net.UDPConn, error) {
	d := net.Dialer{
		LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, portClient)),
		Control: func(_, _ string, c syscall.RawConn) error {
			var inner error
			err := c.Control(func(fd uintptr) {
				inner = errors.Join(
					unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
					unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, dscpCS6),
					unix.BindToDevice(int(fd), ifname))
			})
			return errors.Join(err, inner)
		},
	}
	conn, err := d.DialContext(ctx, "udp4", netip.AddrPortFrom(to, portServer).String())
	if err != nil {
		return nil, fmt.Errorf("netlink: dial DHCP server: %w", link.Needs(link.CapPorts, err))
	}
	return conn.(*net.UDPConn), nil
}

// flush waits until what was written has left the host, at most patience: a
// datagram may wait for its next hop's hardware address, and must not lose its
// source address meanwhile.
func flush(conn *net.UDPConn, patience time.Duration) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		queued := 0
		err := raw.Control(func(fd uintptr) { queued, _ = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) })
		if err != nil || queued == 0 {
			return
		}
	}
}
