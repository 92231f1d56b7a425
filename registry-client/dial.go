package registry

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/protocol/alert"

	"flexphone/registry-client/wire"
)

const (
	// handshakeMost bounds one handshake: four flights of a second each, with
	// room for two losses. Where there is another server to try, it gets
	// handshakeEach.
	handshakeMost = 10 * time.Second
	handshakeEach = 3 * time.Second
	// fullRetry is for how long a server is left alone that has no room for
	// another session.
	fullRetry = 30 * time.Second
)

// withPort adds the port to a host, a bare IPv6 address too.
func withPort(server string) (string, error) {
	if a, err := netip.ParseAddr(server); err == nil {
		return net.JoinHostPort(a.String(), strconv.Itoa(wire.DefaultPort)), nil
	}
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		host, port = server, strconv.Itoa(wire.DefaultPort)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" || len(host) > 253 {
		return "", fmt.Errorf("%q is not a host or host:port", server)
	}
	for _, r := range host {
		if r <= ' ' || r == '/' || r == 0x7f {
			return "", fmt.Errorf("%q is not a host or host:port", server)
		}
	}
	return net.JoinHostPort(host, port), nil
}

// pass gives the turn to the server after tried, which did not answer. It
// reports whether there is another, or may be another address of the same.
func (c *Client) pass(tried string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == tried {
		c.turn++
		at := slices.Index(c.servers, tried)
		c.server = c.servers[(at+1)%len(c.servers)]
	}
	return len(c.servers) > 1
}

// dialAny shakes hands with the server whose turn it is, or else with the next
// that answers, and returns which that is.
func (c *Client) dialAny(ctx context.Context, local netip.Addr) (s *session, server string, err error) {
	c.mu.Lock()
	n := len(c.servers)
	c.mu.Unlock()
	most := handshakeMost
	if n > 1 {
		most = handshakeEach
	}
	for range n {
		server = c.Server()
		if s, err = c.dial(ctx, server, local, most); err == nil || ctx.Err() != nil || !c.pass(server) {
			break
		}
		c.log.Debug("server does not answer", "server", server, "err", err)
	}
	return s, server, err
}

// dial shakes hands with server, for no longer than most.
func (c *Client) dial(ctx context.Context, server string, local netip.Addr, most time.Duration) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	remote, err := c.lookup(ctx, server, local)
	if err != nil {
		return nil, unreachable(err)
	}
	conn, err := c.cfg.Listen(ctx, local)
	if err != nil && local.IsValid() {
		// The address is gone already: let the kernel choose another.
		conn, err = c.cfg.Listen(ctx, netip.Addr{})
	}
	if err != nil {
		return nil, unreachable(err)
	}
	sock := newSocket(conn)
	var pinErr error
	association, err := dtls.ClientWithOptions(sock, net.UDPAddrFromAddrPort(remote),
		dtls.WithCertificates(c.cfg.Identity.Certificate),
		dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()),
		dtls.WithFlightInterval(c.cfg.AckTimeout),
		dtls.WithInsecureSkipVerify(true), // pinned below, no authority is trusted
		dtls.WithVerifyPeerCertificate(func(raw [][]byte, _ [][]*x509.Certificate) error {
			if len(raw) == 0 {
				pinErr = fmt.Errorf("server shows no certificate: %w", ErrServerKey)
				return pinErr
			}
			cert, err := x509.ParseCertificate(raw[0])
			if err != nil {
				return err
			}
			pinErr = c.cfg.Pins.Check(server, FingerprintOf(cert))
			return pinErr
		}),
	)
	if err != nil {
		sock.Close()
		return nil, fmt.Errorf("set up DTLS: %w", err)
	}
	if err := association.HandshakeContext(ctx); err != nil {
		association.Close()
		sock.Close()
		if pinErr != nil {
			return nil, pinErr
		}
		if turnedAway(err) {
			return nil, &BusyError{After: fullRetry}
		}
		return nil, unreachable(err)
	}
	c.mu.Lock()
	c.sessions++
	id := c.sessions
	c.mu.Unlock()
	c.log.Debug("session made", "server", server, "session", id)
	return newSession(id, server, sock, association, c.cfg.AckTimeout), nil
}

// turnedAway reports whether a handshake failed by the alert user_canceled, by
// which a server says that it has no room. pion/dtls exports no type of it.
func turnedAway(err error) bool {
	return strings.Contains(err.Error(), alert.UserCanceled.String())
}

// lookup returns an address of the server's of local's family: the first, and
// after each failure the next.
func (c *Client) lookup(ctx context.Context, server string, local netip.Addr) (netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(server)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return netip.AddrPortFrom(a.Unmap(), uint16(port)), nil
	}
	network := "ip"
	switch {
	case local.Is4():
		network = "ip4"
	case local.Is6():
		network = "ip6"
	}
	addrs, err := c.cfg.Resolver.LookupNetIP(ctx, network, host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(addrs) == 0 {
		return netip.AddrPort{}, fmt.Errorf("%s has no address", host)
	}
	c.mu.Lock()
	turn := c.turn
	c.mu.Unlock()
	return netip.AddrPortFrom(addrs[turn%len(addrs)].Unmap(), uint16(port)), nil
}
