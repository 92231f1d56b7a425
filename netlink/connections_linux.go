package netlink

import (
	"net"
	"net/netip"

	rtnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// endConnections ends the TCP connections of this host that leave from a, an IPv4
// address that it no longer has: whoever waits for an answer on one learns now
// that none can come, and connects again, from the new address. A kernel that
// cannot (CONFIG_INET_DIAG_DESTROY) leaves them to their time-outs, and so does
// one that ends a connection before we do.
func endConnections(a netip.Addr) error {
	const listening = 10 // TCP_LISTEN
	list, err := again(func() ([]*rtnl.Socket, error) { return rtnl.SocketDiagTCP(unix.AF_INET) })
	if err != nil {
		return err
	}
	for _, s := range list {
		if addrFrom(s.ID.Source) != a || s.State == listening {
			continue
		}
		from, to := &net.TCPAddr{IP: s.ID.Source, Port: int(s.ID.SourcePort)}, &net.TCPAddr{IP: s.ID.Destination, Port: int(s.ID.DestinationPort)}
		if destroyErr := rtnl.SocketDestroy(from, to); destroyErr != nil {
			err = destroyErr
		}
	}
	return err
}
