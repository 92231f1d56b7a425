package link

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What an address agent needs of capabilities(7).
const (
	CapRaw   = "CAP_NET_RAW"          // packet sockets
	CapAdmin = "CAP_NET_ADMIN"        // links, addresses and routes
	CapPorts = "CAP_NET_BIND_SERVICE" // the ports of DHCP clients, 68 and 546
)

// Needs names the capability for the lack of which the kernel refused something; an
// error of another kind stays as it is.
func Needs(capability string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w (needs %s)", err, capability)
	}
	return err
}
