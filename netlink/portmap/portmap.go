// Package portmap asks a router to let connections in at one of its ports: by the Port
// Control Protocol (RFC 6887), or by NAT-PMP (RFC 6886), which came before it.
//
// It knows the messages of the two that ask for a port of TCP, and how often to ask. It
// refuses to know why a port is wanted, and for how long it is to be kept: an answer
// says when it ends, and who wants it for longer asks again.
//
// # Why both
//
// The two share a port, and a router that speaks the older one alone says so. Of UPnP,
// which many routers speak as well, nothing is here: it is XML over HTTP from any host
// that says it is a router.
package portmap

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// Port is where routers are asked (RFC 6887, section 19.1).
const Port = 5351

// How often a router is asked. RFC 6887 (8.1.1) begins with 3 s and RFC 6886 (3.1) with
// 250 ms; a router is a hop away, and one that has not answered four times in four
// seconds does not.
const (
	askFirst = 250 * time.Millisecond
	askTimes = 4
)

// ErrSilent: the router does not answer.
var ErrSilent = errors.New("the router does not answer")

// A Granted is a port that a router lets connections in at.
type Granted struct {
	External netip.AddrPort
	Lifetime time.Duration // from now on, in whole seconds
}

// Ask has the router at that address let TCP connections in to our port, at one of its
// own: at the same port if it is free, for as long as lifetime, or what the router thinks
// better. own is our address as the router sees it, and nonce the same whenever the
// mapping is asked for again (RFC 6887, 11.2). A lifetime of 0 gives the port back.
func Ask(ctx context.Context, router netip.AddrPort, own netip.Addr, port uint16, lifetime time.Duration, nonce [12]byte) (Granted, error) {
	var d net.Dialer
	d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(own, 0))
	c, err := d.DialContext(ctx, "udp", router.String())
	if err != nil {
		return Granted{}, fmt.Errorf("portmap: ask %v: %w", router, err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	want := Mapping{Nonce: nonce, Internal: port, External: netip.AddrPortFrom(netip.IPv4Unspecified(), port), Lifetime: lifetime}
	got, err := exchange(ctx, c, AppendPCP(nil, want, own), func(b []byte) (Mapping, bool, error) {
		m, err := ParsePCP(b)
		return m, errors.Is(err, ErrVersion) || err != nil && !errors.Is(err, ErrMessage) || err == nil && m.Nonce == nonce && m.Internal == port, err
	})
	if err == nil {
		return granted(got), nil
	}
	var refused *RefusedError
	if errors.As(err, &refused) || ctx.Err() != nil {
		return Granted{}, fmt.Errorf("portmap: ask %v: %w", router, err)
	}
	// It speaks no PCP, or nothing at all.
	outside, err := exchange(ctx, c, AppendPMPAddress(nil), func(b []byte) (Mapping, bool, error) {
		a, err := ParsePMPAddress(b)
		return Mapping{External: netip.AddrPortFrom(a, 0)}, !errors.Is(err, ErrMessage), err
	})
	if err != nil {
		return Granted{}, fmt.Errorf("portmap: ask %v: %w", router, err)
	}
	got, err = exchange(ctx, c, AppendPMP(nil, want), func(b []byte) (Mapping, bool, error) {
		m, err := ParsePMP(b)
		return m, err == nil && m.Internal == port || err != nil && !errors.Is(err, ErrMessage), err
	})
	if err != nil {
		return Granted{}, fmt.Errorf("portmap: ask %v: %w", router, err)
	}
	got.External = netip.AddrPortFrom(outside.External.Addr(), got.External.Port())
	return granted(got), nil
}

func granted(m Mapping) Granted { return Granted{m.External, m.Lifetime} }

// exchange sends a question until it is answered. read says whether a message is the
// answer.
func exchange(ctx context.Context, c net.Conn, question []byte, read func(b []byte) (m Mapping, is bool, err error)) (Mapping, error) {
	answer := make([]byte, maxMessage+1)
	for try, wait := 0, askFirst; try < askTimes; try, wait = try+1, 2*wait {
		if _, err := c.Write(question); err != nil && try+1 == askTimes {
			return Mapping{}, err // nobody is there
		}
		if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return Mapping{}, err
		}
		for {
			n, err := c.Read(answer)
			if ctx.Err() != nil {
				return Mapping{}, ctx.Err()
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil { // the host says that nothing listens there
				return Mapping{}, fmt.Errorf("%w: %w", ErrSilent, err)
			}
			if m, is, err := read(answer[:n]); is {
				return m, err
			}
		}
	}
	return Mapping{}, ErrSilent
}

// NewNonce returns a nonce for one mapping.
func NewNonce() (nonce [12]byte) {
	rand.Read(nonce[:]) // never fails
	return nonce
}
