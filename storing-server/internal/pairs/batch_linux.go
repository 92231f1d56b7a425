package pairs

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// most is how many datagrams one call of the kernel takes or brings.
const most = 32

// A batch is datagrams in the kernel's form, and what it takes to receive or send them
// with one call (recvmmsg(2), sendmmsg(2)), without allocating for any.
type batch struct {
	raw  syscall.RawConn
	do   func(fd uintptr) bool
	n    int // how many are to be sent, or have come
	done int // how many of them the kernel has taken
	err  unix.Errno

	heads [most]message
	parts [most]unix.Iovec
	addrs [most]unix.RawSockaddrInet6 // either family's
}

// A message is a struct mmsghdr.
type message struct {
	unix.Msghdr
	length uint32
}

func newBatch(c *net.UDPConn) (*batch, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	b := &batch{raw: raw}
	for i := range b.heads {
		h := &b.heads[i]
		h.Name = (*byte)(unsafe.Pointer(&b.addrs[i]))
		h.Iov = &b.parts[i]
		h.SetIovlen(1)
	}
	return b, nil
}

// receiving makes b one that receives into buffers of its own.
func receiving(c *net.UDPConn) (*batch, error) {
	b, err := newBatch(c)
	if err != nil {
		return nil, err
	}
	for i := range b.parts {
		room := make([]byte, longest)
		b.parts[i].Base = &room[0]
	}
	b.do = func(fd uintptr) bool {
		for i := range b.heads {
			b.heads[i].Namelen = unix.SizeofSockaddrInet6
			b.parts[i].SetLen(longest)
		}
		n, again := b.call(unix.SYS_RECVMMSG, fd, b.heads[:])
		b.n = n
		return !again
	}
	return b, nil
}

// sending makes b one that sends what is put into it.
func sending(c *net.UDPConn) (*batch, error) {
	b, err := newBatch(c)
	if err != nil {
		return nil, err
	}
	b.do = func(fd uintptr) bool {
		for b.done < b.n {
			n, again := b.call(unix.SYS_SENDMMSG, fd, b.heads[b.done:b.n])
			if again {
				return false
			}
			b.done += max(1, n) // one that cannot be sent is lost
		}
		return true
	}
	return b, nil
}

// call calls the kernel for some of b's datagrams, which does not wait. again: it would
// have to.
func (b *batch) call(what, fd uintptr, heads []message) (n int, again bool) {
	for {
		r, _, err := syscall.RawSyscall6(what, fd, uintptr(unsafe.Pointer(&heads[0])), uintptr(len(heads)), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return 0, true
		case err != 0:
			b.err = err
			return 0, false
		}
		b.err = 0
		return int(r), false
	}
}

// receive waits for datagrams, and returns how many have come.
func (b *batch) receive() (int, error) {
	if err := b.raw.Read(b.do); err != nil {
		return 0, err
	}
	if b.err != 0 {
		return 0, os.NewSyscallError("recvmmsg", b.err)
	}
	return b.n, nil
}

// datagram is one that has come, until the next ones do.
func (b *batch) datagram(i int) ([]byte, netip.AddrPort) {
	bytes := unsafe.Slice(b.parts[i].Base, b.heads[i].length)
	a := &b.addrs[i]
	if a.Family == unix.AF_INET {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(a))
		return bytes, netip.AddrPortFrom(netip.AddrFrom4(four.Addr), swapped(four.Port))
	}
	return bytes, netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), swapped(a.Port))
}

// put adds a datagram to those that are to be sent: the i-th of in, with its bytes as they
// are, to an address in the form of the socket that in came by.
func (b *batch) put(bytes []byte, to netip.AddrPort, four bool) {
	i := b.n
	b.n++
	b.parts[i].Base = unsafe.SliceData(bytes)
	b.parts[i].SetLen(len(bytes))
	if four {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&b.addrs[i])) = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: swapped(to.Port()), Addr: to.Addr().As4()}
		b.heads[i].Namelen = unix.SizeofSockaddrInet4
		return
	}
	b.addrs[i] = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: swapped(to.Port()), Addr: to.Addr().As16()}
	b.heads[i].Namelen = unix.SizeofSockaddrInet6
}

// flush sends what was put in.
func (b *batch) flush() {
	if b.n > 0 {
		_ = b.raw.Write(b.do) // the socket is closed, which receive says too
	}
	b.n, b.done = 0, 0
}

// swapped is a port as the kernel has it, and back.
func swapped(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}
