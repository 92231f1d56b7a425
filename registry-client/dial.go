package registry

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/protocol/alert"
)

const (
	// handshakeMost bounds one handshake: four flights of a second each, with room
	// for two losses.
	handshakeMost = 10 * time.Second
	// fullRetry is for how long a server is left alone that has no room for
	// another session.
	fullRetry = 30 * time.Second
)

// dial shakes hands with the server at t, from one of locals.
func (c *Client) dial(ctx context.Context, t target, locals []netip.Addr) (*session, error) {
	local := localFor(t.addr, locals)
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
	association, err := dtls.ClientWithOptions(sock, net.UDPAddrFromAddrPort(t.addr),
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
			pinErr = c.cfg.Pins.Check(t.server, FingerprintOf(cert))
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
	c.log.Debug("session made", "server", t.server, "at", t.addr, "session", id)
	if c.cfg.Tap != nil {
		return newSession(id, t, sock, c.cfg.Tap(association), c.cfg.AckTimeout, c.take), nil
	}
	return newSession(id, t, sock, association, c.cfg.AckTimeout, c.take), nil
}

// turnedAway reports whether a handshake failed by the alert user_canceled, by
// which a server says that it has no room. pion/dtls exports no type of it.
func turnedAway(err error) bool {
	return strings.Contains(err.Error(), alert.UserCanceled.String())
}

// localFor returns which of locals to send to remote from: what the kernel would
// take, if that is one of them, or else the first of the same family. The zero Addr
// leaves it to the kernel.
func localFor(remote netip.AddrPort, locals []netip.Addr) netip.Addr {
	if len(locals) == 0 {
		return netip.Addr{}
	}
	if own := sourceTo(remote); slices.Contains(locals, own) {
		return own
	}
	for _, l := range locals {
		if l.Is4() == remote.Addr().Is4() {
			return l
		}
	}
	return netip.Addr{}
}

// sourceTo returns the address that the kernel would reach remote from (RFC 6724,
// section 5), the zero Addr when it has no way there. It sends nothing.
func sourceTo(remote netip.AddrPort) netip.Addr {
	d, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(remote))
	if err != nil {
		return netip.Addr{}
	}
	defer d.Close()
	return d.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// bestFirst returns addrs with own, if it is one of them, before the others of its kind:
// IPv4, global or unique local IPv6. Of several prefixes it is the one that the kernel
// believes in; the kinds stay as they are, since who calls has its own order of them.
func bestFirst(addrs []netip.Addr, own netip.Addr) []netip.Addr {
	at := slices.Index(addrs, own)
	first := slices.IndexFunc(addrs, func(a netip.Addr) bool {
		return a.Is4() == own.Is4() && a.IsPrivate() == own.IsPrivate()
	})
	if at <= first {
		return addrs
	}
	return slices.Insert(slices.Delete(slices.Clone(addrs), at, at+1), first, own)
}
