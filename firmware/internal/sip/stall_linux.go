package sip

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// endStalled makes the kernel close c when what we have sent on it stays
// without acknowledgement for so long (tcp(7), TCP_USER_TIMEOUT), instead of
// after a quarter of an hour: the peer has moved, and is called elsewhere.
func endStalled(c net.Conn, after time.Duration) error {
	if g, ok := c.(*stream); ok {
		c = g.Conn
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil // no socket: nothing of TCP in it
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return fmt.Errorf("sip: bound silence of connection: %w", err)
	}
	var opt error
	err = raw.Control(func(fd uintptr) {
		opt = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(after.Milliseconds()))
	})
	if err = errors.Join(err, opt); err != nil {
		return fmt.Errorf("sip: bound silence of connection: %w", err)
	}
	return nil
}
