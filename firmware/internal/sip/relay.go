package sip

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A Relay passes connections on between phones that may have no other way to each
// other. What goes over them it need not be trusted with: TLS runs over them as over
// TCP, and ends at the same keys. Such a connection outlives the addresses of its
// ends. It is silent where nothing is written: if it has a method KeepAlive, this says after
// how long the other end is asked whether it is there, and how long it may take to say so.
type Relay interface {
	// Dial opens a connection to the phone with that user part, 12 hex digits.
	Dial(ctx context.Context, user string) (net.Conn, error)
	// Accept waits for the next connection that another phone opens, and says which.
	// It fails with net.ErrClosed when there will be none.
	Accept(ctx context.Context) (c net.Conn, user string, err error)
}

// A Way says by what a phone may be connected with.
type Way uint8

// The ways. They are kept on disks.
const (
	Direct  Way = iota // at its address
	Either             // at its address, and by the relay if nothing answers there in time
	Relayed            // by the relay alone
)

// String returns the way's name.
func (w Way) String() string {
	switch w {
	case Either:
		return "either"
	case Relayed:
		return "relayed"
	}
	return "direct"
}

// relayed are the addresses by which relayed connections are told apart, since sipgo
// finds connections by addresses: 0100::/16, of which the Internet uses no more than
// 0100::/64 for what is to be discarded (RFC 6666) and the rest for nothing. Nobody
// has one: a MAC follows, so that what is bounded by network is bounded by phone, and
// then a number.
var relayed = netip.MustParsePrefix("100::/16")

// isRelayed reports whether a is one of those.
func isRelayed(a netip.Addr) bool { return relayed.Contains(a) }

var relayedSoFar atomic.Uint64

// relayedAddr is a new one for a connection to that user.
func relayedAddr(user string) (netip.AddrPort, error) {
	phone, err := hex.DecodeString(user)
	if err != nil || len(phone) != 6 {
		return netip.AddrPort{}, fmt.Errorf("sip: relay connection: %q are not 12 hex digits", user)
	}
	a := relayed.Addr().As16()
	copy(a[2:8], phone)
	n := relayedSoFar.Add(1)
	for i := range 8 {
		a[15-i] = byte(n >> (8 * i))
	}
	return netip.AddrPortFrom(netip.AddrFrom16(a), SecurePort), nil
}

// A relayedConn is a relayed connection with addresses as sipgo wants them.
type relayedConn struct {
	net.Conn
	user string
	at   netip.AddrPort
}

func newRelayedConn(c net.Conn, user string) (*relayedConn, error) {
	at, err := relayedAddr(user)
	if err != nil {
		c.Close()
		return nil, err
	}
	return &relayedConn{c, user, at}, nil
}

// RemoteAddr implements net.Conn.
func (c *relayedConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.at) }

// LocalAddr implements net.Conn. sipgo keeps connections by it as well.
func (c *relayedConn) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.at.Addr(), c.at.Port()+1))
}

// KeepAlive has it found out whether the other end is there, if the relay can.
func (c *relayedConn) KeepAlive(quiet, look time.Duration) {
	if k, ok := c.Conn.(interface {
		KeepAlive(quiet, look time.Duration)
	}); ok {
		k.KeepAlive(quiet, look)
	}
}

// Reset closes the connection, and drops what is on its way there, if the relay can.
func (c *relayedConn) Reset() {
	if r, ok := c.Conn.(interface{ Reset() }); ok {
		r.Reset()
	}
	c.Close()
}

// userOf is whom c is relayed to or from; "": it is not.
func userOf(c net.Conn) string {
	if s, ok := c.(*stream); ok {
		c = s.Conn
	}
	if r, ok := c.(*relayedConn); ok {
		return r.user
	}
	return ""
}

// A relayListener takes relayed connections as a net.Listener does.
type relayListener struct {
	taken chan net.Conn // closed when there will be no more
	done  chan struct{} // closed: nobody takes them any more
	close func()
}

func newRelayListener() *relayListener {
	l := &relayListener{taken: make(chan net.Conn), done: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.done) })
	return l
}

// take takes what comes by r until ctx is done. It is called once.
func (l *relayListener) take(ctx context.Context, r Relay, log *slog.Logger) {
	defer close(l.taken)
	for {
		c, user, err := r.Accept(ctx)
		switch {
		case ctx.Err() != nil && err == nil:
			c.Close()
			return
		case ctx.Err() != nil, errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			log.Warn("sip: no relayed connection accepted", "err", err)
			if !pause(ctx, time.Second) {
				return
			}
			continue
		}
		known, err := newRelayedConn(c, user)
		if err != nil {
			log.Debug("sip: relayed connection refused", "err", err)
			continue
		}
		select {
		case l.taken <- known:
		case <-l.done:
			c.Close()
		case <-ctx.Done():
			c.Close()
			return
		}
	}
}

// Accept implements net.Listener.
func (l *relayListener) Accept() (net.Conn, error) {
	select {
	case c, ok := <-l.taken:
		if !ok {
			return nil, net.ErrClosed
		}
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *relayListener) Close() error {
	l.close()
	return nil
}

// Addr implements net.Listener.
func (l *relayListener) Addr() net.Addr { return &net.TCPAddr{} }
