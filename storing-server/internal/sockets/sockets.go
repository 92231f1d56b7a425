// Package sockets opens the ports of services that are spoken over UDP and TCP
// alike (SIP: RFC 3261 section 18.2.1; DNS: RFC 7766), and has datagrams answered from
// that address of this host that they came to (RFC 1122, section 4.1.3.5). It does not
// know what is spoken there.
package sockets

import (
	"context"
	"fmt"
	"net"
	"strings"
)

// Both opens TCP and UDP on the same port of address, which is host:port. Port 0
// is any port that is free for both.
func Both(ctx context.Context, address string) (net.Listener, *net.UDPConn, error) {
	const tries = 16 // the port that the kernel chose for TCP may be taken for UDP
	var lc net.ListenConfig
	for try := 1; ; try++ {
		tcp, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			return nil, nil, fmt.Errorf("listen on TCP %s: %w", address, err)
		}
		udp, err := lc.ListenPacket(ctx, "udp", tcp.Addr().String())
		if err == nil {
			return tcp, udp.(*net.UDPConn), nil
		}
		tcp.Close()
		if !strings.HasSuffix(address, ":0") || try == tries {
			return nil, nil, fmt.Errorf("listen on UDP %s: %w", address, err)
		}
	}
}
