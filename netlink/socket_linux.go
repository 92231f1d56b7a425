package netlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A tap is a packet socket on one link for one protocol: it reads what its
// filter lets through, from the network header on, and sends to all hosts of
// the link.
type tap struct {
	file  *os.File
	raw   syscall.RawConn
	index int
	proto uint16 // in network byte order
	out   chan<- []byte
	stop  chan struct{}
}

// openTap opens a tap on the link with this index. What it hears goes to out,
// by the reader, which whoever opens the tap must run.
func openTap(index int, proto uint16, filter []bpf.Instruction, out chan<- []byte) (*tap, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("netlink: open packet socket: %w", err)
	}
	t := &tap{index: index, proto: proto<<8 | proto>>8, out: out, stop: make(chan struct{})}
	// Protocol 0 until the filter is in place: nothing else may get in.
	if err = setFilter(fd, filter); err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: t.proto, Ifindex: index})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink: open packet socket: %w", err)
	}
	t.file = os.NewFile(uintptr(fd), "packet")
	if t.raw, err = t.file.SyscallConn(); err != nil {
		t.file.Close()
		return nil, fmt.Errorf("netlink: open packet socket: %w", err)
	}
	return t, nil
}

// read ends, and closes the socket, when the tap is closed. A link that goes down gives one error and
// then goes on; a link that keeps failing is given up, since it is gone.
func (t *tap) read() {
	defer t.file.Close()
	b := make([]byte, 1<<16)
	for failed := 0; failed < 100; {
		n, err := t.file.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			failed++
			continue
		}
		failed = 0
		select {
		case t.out <- append([]byte(nil), b[:n]...):
		case <-t.stop:
			return
		}
	}
}

// filter replaces the filter.
func (t *tap) filter(prog []bpf.Instruction) error {
	var inner error
	err := t.raw.Control(func(fd uintptr) { inner = setFilter(int(fd), prog) })
	return errors.Join(err, inner)
}

// broadcast sends packet to all hosts of the link.
func (t *tap) broadcast(packet []byte) error {
	to := &unix.SockaddrLinklayer{
		Protocol: t.proto, Ifindex: t.index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	}
	var inner error
	err := t.raw.Write(func(fd uintptr) bool {
		inner = unix.Sendto(int(fd), packet, 0, to)
		return inner != unix.EAGAIN
	})
	return errors.Join(err, inner)
}

// close has the reader close the socket, without waiting for it: the kernel
// takes ten milliseconds or so, in which a lease can be installed.
func (t *tap) close() {
	close(t.stop)
	// The one error, no support for deadlines, cannot happen on a socket.
	_ = t.file.SetReadDeadline(time.Now())
}

func setFilter(fd int, prog []bpf.Instruction) error {
	raw, err := bpf.Assemble(prog)
	if err != nil {
		return fmt.Errorf("assemble filter: %w", err)
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
}

// dialServer opens the socket that sends unicast messages from a leased
// address. What comes back is read from the tap; the socket only keeps the
// kernel from answering it with "port unreachable".
func dialServer(ctx context.Context, ifname string, from, to netip.Addr) (*net.UDPConn, error) {
	d := net.Dialer{
		LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, portClient)),
		Control: func(_, _ string, c syscall.RawConn) error {
			var inner error
			err := c.Control(func(fd uintptr) {
				inner = errors.Join(
					unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
					unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, dscpCS6),
					unix.BindToDevice(int(fd), ifname))
			})
			return errors.Join(err, inner)
		},
	}
	conn, err := d.DialContext(ctx, "udp4", netip.AddrPortFrom(to, portServer).String())
	if err != nil {
		return nil, fmt.Errorf("netlink: dial DHCP server: %w", err)
	}
	return conn.(*net.UDPConn), nil
}

// flush waits until what was written has left the host, at most patience: a
// datagram may wait for its next hop's hardware address, and must not lose its
// source address meanwhile.
func flush(conn *net.UDPConn, patience time.Duration) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		queued := 0
		err := raw.Control(func(fd uintptr) { queued, _ = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) })
		if err != nil || queued == 0 {
			return
		}
	}
}
