package pairs

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"flexphone/storing-server/internal/sockets"
)

// most is how many datagrams one call of the kernel takes or brings.
const most = 32

// A batch is datagrams in the kernel's form, and what it takes to receive or send them
// with one call (recvmmsg(2), sendmmsg(2)), without allocating for any.
type batch struct {
	raw  syscall.RawConn
	do   func(fd uintptr) bool
	n    int // how many are to be sent
	done int // how many of them the kernel has taken
	err  unix.Errno

	heads [most]message
	parts [most]unix.Iovec
	addrs [most]unix.RawSockaddrInet6 // either family's
	asked *sockets.Sources            // of what is received
	infos [][]byte                    // control messages of what is received
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

// receiving makes one that receives into buffers of its own, and has what came handled. It
// is alone if no other receives from c.
func receiving(c *net.UDPConn, asked *sockets.Sources, alone bool, handle func(n int)) (*batch, error) {
	b, err := newBatch(c)
	if err != nil {
		return nil, err
	}
	b.asked = asked
	for i := range b.parts {
		room := make([]byte, longest)
		b.parts[i].Base = &room[0]
		if asked != nil {
			b.infos = append(b.infos, make([]byte, sockets.ControlRoom))
		}
	}
	b.do = func(fd uintptr) bool {
		for i := range b.heads {
			b.heads[i].Namelen = unix.SizeofSockaddrInet6
			b.parts[i].SetLen(longest)
			if asked != nil {
				b.control(i, b.infos[i])
			}
		}
		n, again := b.call(unix.SYS_RECVMMSG, fd, b.heads[:])
		if again || b.err != 0 {
			return !again
		}
		handle(n)
		// Where fewer came than there is room for, none is left; what comes from now on ends
		// the wait, so the kernel need not be asked in vain whether there is more. But others
		// who receive wait until this one has come back.
		return !alone || n == len(b.heads)
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
			if h := &b.heads[b.done]; n == 0 && h.Control != nil && b.err != 0 {
				b.control(b.done, nil) // this host may have the address no longer that it was asked by
				continue
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

// receive waits for datagrams, and has them handled.
func (b *batch) receive() error {
	if err := b.raw.Read(b.do); err != nil {
		return err
	}
	if b.err != 0 {
		return os.NewSyscallError("recvmmsg", b.err)
	}
	return nil
}

// control gives the i-th datagram these control messages, or room for them.
func (b *batch) control(i int, messages []byte) {
	b.heads[i].Control = unsafe.SliceData(messages)
	b.heads[i].SetControllen(len(messages))
}

// datagram is one that has come, while it is handled.
func (b *batch) datagram(i int) ([]byte, Place) {
	bytes := unsafe.Slice(b.parts[i].Base, b.heads[i].length)
	var by *sockets.Source
	if b.asked != nil {
		by = b.asked.Of(b.infos[i][:b.heads[i].Controllen])
	}
	a := &b.addrs[i]
	if a.Family == unix.AF_INET {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(a))
		return bytes, Place{netip.AddrPortFrom(netip.AddrFrom4(four.Addr), swapped(four.Port)), by}
	}
	return bytes, Place{netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), swapped(a.Port)), by}
}

// put adds a datagram to those that are to be sent: the i-th of in, with its bytes as they
// are, to an address in the form of the socket that in came by.
func (b *batch) put(bytes []byte, way Place, four bool) {
	i, to := b.n, way.At
	b.n++
	b.control(i, way.By.Control())
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
