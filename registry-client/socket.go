package registry

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/pion/transport/v5/deadline"
)

// A ListenFunc opens a UDP socket on local; the zero address leaves the choice
// to the kernel.
type ListenFunc func(ctx context.Context, local netip.Addr) (net.PacketConn, error)

// listenUDP is the ListenFunc of a real phone. Each call gets another port: a
// server that still holds the session of an earlier start would not answer
// hellos from the port which that session used.
func listenUDP(ctx context.Context, local netip.Addr) (net.PacketConn, error) {
	if local.IsValid() {
		var lc net.ListenConfig
		return lc.ListenPacket(ctx, "udp", netip.AddrPortFrom(local, 0).String())
	}
	// Both kinds, by IPv6's wildcard: left to itself Go takes IPv4's alone if it could
	// not bind 127.0.0.1 when it first looked, as where the loopback interface is down.
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv6Unspecified(), 0)))
	if errors.Is(err, syscall.EAFNOSUPPORT) { // a kernel without IPv6
		return net.ListenUDP("udp4", nil)
	}
	return c, err
}

// inbox is how many datagrams wait for DTLS to read them; more are dropped, as
// the kernel would.
const inbox = 64

type datagram struct {
	data []byte
	from net.Addr
}

// A socket is a net.PacketConn whose local address can be changed under the
// DTLS session that runs over it.
type socket struct {
	in      chan datagram
	closed  chan struct{}
	read    *deadline.Deadline
	mu      sync.Mutex
	conn    net.PacketConn // the present one
	readers sync.WaitGroup
}

func newSocket(conn net.PacketConn) *socket {
	s := &socket{
		in:     make(chan datagram, inbox),
		closed: make(chan struct{}),
		read:   deadline.New(),
		conn:   conn,
	}
	s.readers.Go(func() { s.pump(conn) })
	return s
}

// move sends from conn from now on, and closes the one before.
func (s *socket) move(conn net.PacketConn) {
	s.mu.Lock()
	select {
	case <-s.closed:
		s.mu.Unlock()
		conn.Close()
		return
	default:
	}
	old := s.conn
	s.conn = conn
	s.readers.Go(func() { s.pump(conn) })
	s.mu.Unlock()
	old.Close()
}

// pump takes in conn's datagrams until conn is closed.
func (s *socket) pump(conn net.PacketConn) {
	buf := make([]byte, 8192)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// An ICMP message or a link that went down: the socket lives on,
			// but must not spin.
			select {
			case <-s.closed:
				return
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		select {
		case s.in <- datagram{append([]byte(nil), buf[:n]...), from}:
		default:
		}
	}
}

// ReadFrom implements net.PacketConn.
func (s *socket) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case d := <-s.in:
		return copy(p, d.data), d.from, nil
	case <-s.read.Done():
		return 0, nil, context.DeadlineExceeded
	case <-s.closed:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements net.PacketConn. A datagram that the kernel refuses (no
// route, no address) counts as lost on the way: it is sent again in time.
func (s *socket) WriteTo(p []byte, to net.Addr) (int, error) {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if _, err := conn.WriteTo(p, to); err != nil {
		select {
		case <-s.closed:
			return 0, net.ErrClosed
		default:
		}
	}
	return len(p), nil
}

// Close implements net.PacketConn. It waits for the socket's readers.
func (s *socket) Close() error {
	s.mu.Lock()
	select {
	case <-s.closed:
		s.mu.Unlock()
		return nil
	default:
	}
	close(s.closed)
	err := s.conn.Close()
	s.mu.Unlock()
	s.readers.Wait()
	return err
}

// LocalAddr implements net.PacketConn.
func (s *socket) LocalAddr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn.LocalAddr()
}

// SetDeadline implements net.PacketConn.
func (s *socket) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (s *socket) SetReadDeadline(t time.Time) error {
	s.read.Set(t)
	return nil
}

// SetWriteDeadline implements net.PacketConn; writing never waits.
func (s *socket) SetWriteDeadline(time.Time) error { return nil }
