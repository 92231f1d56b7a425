package udp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Conn is a socket whose datagrams are read and written by calls of the kernel of
// which Go's runtime is not told. They never wait, since a socket of Go's does not,
// and Go waits elsewhere. Those that it is told of make it wake a thread each time,
// after all was asleep, to watch over the call: with packets of 20 ms, both ways,
// that was a quarter of what a call costs.
type Conn struct {
	*net.UDPConn
	raw  syscall.RawConn
	four bool // a socket of IPv4 alone

	in struct { // of who reads
		transfer
		zone  string // of the last interface
		index uint32
	}
	writing sync.Mutex
	out     transfer
}

// A transfer is a datagram on its way from or to the kernel.
type transfer struct {
	b    []byte
	addr unix.RawSockaddrInet6 // or that of IPv4, which is shorter
	size uint32                // of addr
	n    int
	err  syscall.Errno
	do   func(fd uintptr) bool // once; false: it would have to wait
}

func newConn(c *net.UDPConn, four bool) (*Conn, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	q := &Conn{UDPConn: c, raw: raw, four: four}
	in, out := &q.in.transfer, &q.out
	in.do = func(fd uintptr) bool {
		for {
			in.size = unix.SizeofSockaddrInet6
			n, _, err := syscall.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(in.b))), uintptr(len(in.b)), 0,
				uintptr(unsafe.Pointer(&in.addr)), uintptr(unsafe.Pointer(&in.size)))
			if err != unix.EINTR {
				in.n, in.err = int(n), err
				return err != unix.EAGAIN
			}
		}
	}
	out.do = func(fd uintptr) bool {
		for {
			n, _, err := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(out.b))), uintptr(len(out.b)), 0,
				uintptr(unsafe.Pointer(&out.addr)), uintptr(out.size))
			if err != unix.EINTR {
				out.n, out.err = int(n), err
				return err != unix.EAGAIN
			}
		}
	}
	return q, nil
}

// failure is why what the kernel was called for did not happen, if so; waited is
// how waiting for it ended.
func (t *transfer) failure(what string, waited error) error {
	if waited == nil && t.err != 0 {
		return os.NewSyscallError(what, t.err)
	}
	return waited
}

// ReadFromUDPAddrPort is UDPConn's. One goroutine reads at a time.
func (c *Conn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	c.in.b = b
	err := c.in.failure("recvfrom", c.raw.Read(c.in.do))
	c.in.b = nil
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	return c.in.n, c.from(), nil
}

// from is who sent what was read last.
func (c *Conn) from() netip.AddrPort {
	a := &c.in.addr
	if a.Family == unix.AF_INET {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(a))
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), swapped(four.Port))
	}
	addr := netip.AddrFrom16(a.Addr)
	if a.Scope_id != 0 {
		addr = addr.WithZone(c.zoneOf(a.Scope_id))
	}
	return netip.AddrPortFrom(addr, swapped(a.Port))
}

// zoneOf is the name of an interface. Who speaks is by the same one mostly.
func (c *Conn) zoneOf(index uint32) string {
	if c.in.index != index {
		c.in.index, c.in.zone = index, strconv.FormatUint(uint64(index), 10)
		if i, err := net.InterfaceByIndex(int(index)); err == nil {
			c.in.zone = i.Name
		}
	}
	return c.in.zone
}

// WriteToUDPAddrPort is UDPConn's.
func (c *Conn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if !to.IsValid() || to.Addr().Zone() != "" || c.four && !to.Addr().Unmap().Is4() {
		return c.UDPConn.WriteToUDPAddrPort(b, to)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.out.to(to, c.four)
	c.out.b = b
	err := c.out.failure("sendto", c.raw.Write(c.out.do))
	c.out.b = nil
	if err != nil {
		return 0, err
	}
	return c.out.n, nil
}

// to sets where a datagram goes.
func (t *transfer) to(to netip.AddrPort, four bool) {
	if four {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&t.addr)) = unix.RawSockaddrInet4{
			Family: unix.AF_INET, Port: swapped(to.Port()), Addr: to.Addr().Unmap().As4(),
		}
		t.size = unix.SizeofSockaddrInet4
		return
	}
	t.addr = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: swapped(to.Port()), Addr: to.Addr().As16()}
	t.size = unix.SizeofSockaddrInet6
}

// swapped is a port as the kernel has it, and back.
func swapped(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}
