package netlink

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What this package needs of capabilities(7).
const (
	capRaw   = "CAP_NET_RAW"          // packet sockets
	capAdmin = "CAP_NET_ADMIN"        // links, addresses and routes
	capPorts = "CAP_NET_BIND_SERVICE" // the ports of DHCP clients, 68 and 546
)

// needs names the capability for the lack of which the kernel refused something; an
// error of another kind stays as it is.
func needs(capability string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w (needs %s)", err, capability)
	}
	return err
}
