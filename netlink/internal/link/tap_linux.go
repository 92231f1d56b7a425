package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"flexphone/internal/mac"
)

// A Tap is a packet socket on one link for one protocol: it reads what its
// Filter lets through, from the network header on, and sends to all hosts of
// the link.
type Tap struct {
	file  *os.File
	raw   syscall.RawConn
	index int
	proto uint16 // in network byte order
	out   chan<- []byte
	stop  chan struct{}
}

// OpenTap opens a tap on the link with this index. What it hears goes to out,
// by the reader, which whoever opens the tap must run.
func OpenTap(index int, proto uint16, filter []bpf.Instruction, out chan<- []byte) (*Tap, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("netlink: open packet socket: %w", Needs(CapRaw, err))
	}
	t := &Tap{index: index, proto: proto<<8 | proto>>8, out: out, stop: make(chan struct{})}
	// Protocol 0 until the filter is in place: nothing else may get in.
	if err = setFilter(fd, filter); err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: t.proto, Ifindex: index})
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink: open packet socket: %w", err)
	}
	if proto == unix.ETH_P_IP {
		// A group of one socket, since only groups have the kernel put fragments
		// together. Where it cannot, fragments are lost.
		group := uint32(unix.PACKET_FANOUT_HASH|unix.PACKET_FANOUT_FLAG_DEFRAG|unix.PACKET_FANOUT_FLAG_UNIQUEID) << 16
		_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, int(int32(group)))
	}
	t.file = os.NewFile(uintptr(fd), "packet")
	if t.raw, err = t.file.SyscallConn(); err != nil {
		t.file.Close()
		return nil, fmt.Errorf("netlink: open packet socket: %w", err)
	}
	return t, nil
}

// Read ends, and closes the socket, when the tap is closed. A link that goes down
// gives one error and then goes on; a link that keeps failing is given up, since
// it is gone.
func (t *Tap) Read() {
	defer t.file.Close()
	b := make([]byte, 1<<16)
	for failed := 0; failed < 100; {
		n, sum, err := t.receive(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			failed++
			continue
		}
		failed = 0
		if sum == sumUnknown && !UDPIntact(b[:n]) {
			continue
		}
		select {
		case t.out <- append([]byte(nil), b[:n]...):
		case <-t.stop:
			return
		}
	}
}

// Pending returns the ARP packets that have come and that read has not got to,
// without waiting.
func (t *Tap) Pending() (out [][]byte) {
	var b [64]byte
	// The one error, a closed socket, leaves nothing to return.
	_ = t.raw.Control(func(fd uintptr) {
		for {
			n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			out = append(out, append([]byte(nil), b[:n]...))
		}
	})
	return out
}

// A sumState says what the kernel knows of a packet's UDP checksum.
type sumState int

const (
	sumUnknown sumState = iota
	// sumSettled: verified by hardware, or left for it to fill in: a packet of
	// this host, or of one that shares its memory.
	sumSettled
)

// receive reads one packet.
func (t *Tap) receive(b []byte) (n int, sum sumState, err error) {
	oob := make([]byte, unix.CmsgSpace(int(unsafe.Sizeof(unix.TpacketAuxdata{}))))
	var inner error
	oobn := 0
	err = t.raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, inner = unix.Recvmsg(int(fd), b, oob, 0)
		return inner != unix.EAGAIN
	})
	if err = errors.Join(err, inner); err != nil {
		return 0, sumUnknown, err
	}
	list, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return n, sumUnknown, nil
	}
	for _, m := range list {
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= 4 &&
			binary.NativeEndian.Uint32(m.Data)&(unix.TP_STATUS_CSUMNOTREADY|unix.TP_STATUS_CSUM_VALID) != 0 {
			sum = sumSettled
		}
	}
	return n, sum, nil
}

// Join has the link listen to a group address.
func (t *Tap) Join(group mac.Address) error {
	m := unix.PacketMreq{Ifindex: int32(t.index), Type: unix.PACKET_MR_MULTICAST, Alen: 6}
	copy(m.Address[:], group[:])
	var inner error
	err := t.raw.Control(func(fd uintptr) {
		inner = unix.SetsockoptPacketMreq(int(fd), unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m)
	})
	return errors.Join(err, inner)
}

// Filter replaces the filter.
func (t *Tap) Filter(prog []bpf.Instruction) error {
	var inner error
	err := t.raw.Control(func(fd uintptr) { inner = setFilter(int(fd), prog) })
	return errors.Join(err, inner)
}

// Broadcast sends packet to all hosts of the link.
func (t *Tap) Broadcast(packet []byte) error { return t.Send(packet, Everybody()) }

// Everybody is the address of all hosts of a link.
func Everybody() mac.Address { return mac.Address{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// Send sends packet to one host of the link.
func (t *Tap) Send(packet []byte, to mac.Address) error {
	host := &unix.SockaddrLinklayer{Protocol: t.proto, Ifindex: t.index, Halen: 6}
	copy(host.Addr[:], to[:])
	var inner error
	err := t.raw.Write(func(fd uintptr) bool {
		inner = unix.Sendto(int(fd), packet, 0, host)
		return inner != unix.EAGAIN
	})
	return errors.Join(err, inner)
}

// Close has the reader close the socket, without waiting for it: the kernel
// takes ten milliseconds or so, in which a lease can be installed.
func (t *Tap) Close() {
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

// Discard closes a tap that nobody reads.
func (t *Tap) Discard() { t.file.Close() }

// All is a filter that passes what the protocol of a Tap lets through.
func All() []bpf.Instruction { return []bpf.Instruction{bpf.RetConstant{Val: 0xffff}} }
