package faults

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"flexphone/testbed/lab"
)

const (
	ipHeader   = 20
	udpHeader  = 8
	portServer = 67
	portClient = 68
)

// A message is what a client sent.
type message struct {
	*dhcpv4.DHCPv4
	at       time.Time
	from, to netip.Addr
}

// wants returns the address that a REQUEST is about, by whichever field says
// it.
func (m message) wants() netip.Addr {
	if a, ok := netip.AddrFromSlice(m.RequestedIPAddress().To4()); ok {
		return a
	}
	a, _ := netip.AddrFromSlice(m.ClientIPAddr.To4())
	return a
}

// A server hears DHCP messages at the far end of a cable, and can send anything.
type server struct {
	cable   *lab.Cable
	ip, arp *os.File // packet sockets
	// forgetful: it keeps no list of what it heard.
	forgetful bool
	udp       int // keeps the kernel from answering for a closed port
	index     int
	done      sync.WaitGroup

	mu     sync.Mutex
	answer func(message) // nil: silent
	seen   []message
	news   chan struct{}
	taken  netip.Addr // answer ARP for it, as another host
	proxy  bool       // answer ARP for every address
	ident  uint16     // of the next IP packet
}

// listen starts a silent server.
func listen(c *lab.Cable) (*server, error) {
	s := &server{cable: c, news: make(chan struct{})}
	err := c.Far.Do(func() (err error) {
		if s.index, err = lab.Index(lab.FarName); err != nil {
			return err
		}
		if s.ip, err = packetSocket(s.index, unix.ETH_P_IP); err != nil {
			return err
		}
		if s.arp, err = packetSocket(s.index, unix.ETH_P_ARP); err != nil {
			return err
		}
		if s.udp, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(s.udp, &unix.SockaddrInet4{Port: portServer})
	})
	if err != nil {
		return nil, fmt.Errorf("faults: listen: %w", err)
	}
	s.done.Go(s.hear)
	s.done.Go(s.hearARP)
	return s, nil
}

func packetSocket(index int, proto uint16) (*os.File, error) {
	proto = proto<<8 | proto>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(proto))
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: index}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "packet"), nil
}

func (s *server) close() {
	s.ip.Close()
	s.arp.Close()
	s.done.Wait()
	unix.Close(s.udp)
}

// serve has every message from now on answered by answer, which runs in the
// server's own goroutine.
func (s *server) serve(answer func(message)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *server) hear() {
	b := make([]byte, 1<<16)
	for {
		n, err := s.ip.Read(b)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			continue // the link is down
		}
		m, ok := readMessage(b[:n])
		if !ok {
			continue
		}
		s.mu.Lock()
		if !s.forgetful {
			s.seen = append(s.seen, m)
		}
		close(s.news)
		s.news = make(chan struct{})
		answer := s.answer
		s.mu.Unlock()
		if answer != nil {
			answer(m)
		}
	}
}

// readMessage reads an IP packet from a client.
func readMessage(b []byte) (message, bool) {
	if len(b) < ipHeader || b[0]>>4 != 4 || b[9] != unix.IPPROTO_UDP {
		return message{}, false
	}
	head := int(b[0]&15) * 4
	if len(b) < head+udpHeader || binary.BigEndian.Uint16(b[head+2:]) != portServer {
		return message{}, false
	}
	d, err := dhcpv4.FromBytes(b[head+udpHeader:])
	if err != nil || d.OpCode != dhcpv4.OpcodeBootRequest {
		return message{}, false
	}
	return message{
		DHCPv4: d, at: time.Now(),
		from: netip.AddrFrom4([4]byte(b[12:16])), to: netip.AddrFrom4([4]byte(b[16:20])),
	}, true
}

// otherHost is the hardware address of who else is on the link.
var otherHost = [6]byte{2, 0, 0x5e, 0, 0x53, 0x99}

// hearARP answers for the taken address.
func (s *server) hearARP() {
	b := make([]byte, 1<<11)
	for {
		n, err := s.arp.Read(b)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil || n < 28 || b[7] != 1 {
			continue
		}
		s.mu.Lock()
		taken := s.taken
		asked := netip.AddrFrom4([4]byte(b[24:28]))
		if s.proxy && asked != router && [6]byte(b[8:14]) != otherHost {
			taken = asked
		}
		s.mu.Unlock()
		if taken.IsValid() && asked == taken {
			s.sayARP(taken, [6]byte(b[8:14]), netip.AddrFrom4([4]byte(b[14:18])))
		}
	}
}

// take has another host on the link answer for a; the zero Addr: none.
func (s *server) take(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = a
}

// takeAll has another host answer for all.
func (s *server) takeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proxy = true
}

// sayARP says that the other host has a.
func (s *server) sayARP(a netip.Addr, to [6]byte, toAddr netip.Addr) {
	b := []byte{0, 1, 8, 0, 6, 4, 0, 2}
	b = append(append(b, otherHost[:]...), a.AsSlice()...)
	b = append(append(b, to[:]...), toAddr.AsSlice()...)
	s.put(s.arp, unix.ETH_P_ARP, broadcastMAC, b)
}

var broadcastMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// put sends b to a host of the link.
func (s *server) put(f *os.File, proto uint16, dst net.HardwareAddr, b []byte) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	to := &unix.SockaddrLinklayer{Protocol: proto<<8 | proto>>8, Ifindex: s.index, Halen: 6}
	copy(to.Addr[:], dst)
	// What cannot be sent, since the link is down, is lost as on any wire.
	_ = raw.Write(func(fd uintptr) bool {
		return !errors.Is(unix.Sendto(int(fd), b, 0, to), syscall.EAGAIN)
	})
}

// send sends a UDP payload from addr to the client's port of dst, in IP
// fragments when it does not fit into one packet of mtu bytes.
func (s *server) send(from, dst netip.Addr, payload []byte, mtu int) {
	udp := datagram(from, dst, payload)
	s.mu.Lock()
	s.ident++
	ident := s.ident
	s.mu.Unlock()
	room := (mtu - ipHeader) &^ 7
	host := lab.NearMAC
	if dst == everyone {
		host = broadcastMAC
	}
	for at := 0; at < len(udp); at += room {
		end := min(at+room, len(udp))
		s.put(s.ip, unix.ETH_P_IP, host, ipPacket(from, dst, ident, at, end < len(udp), udp[at:end]))
	}
}

// datagram puts a UDP header before payload.
func datagram(from, dst netip.Addr, payload []byte) []byte {
	udp := make([]byte, udpHeader, udpHeader+len(payload))
	binary.BigEndian.PutUint16(udp[0:], portServer)
	binary.BigEndian.PutUint16(udp[2:], portClient)
	binary.BigEndian.PutUint16(udp[4:], uint16(udpHeader+len(payload)))
	udp = append(udp, payload...)
	pseudo := append(append([]byte{}, from.AsSlice()...), dst.AsSlice()...)
	pseudo = append(pseudo, 0, unix.IPPROTO_UDP, udp[4], udp[5])
	sum := ^checksum(checksum(0, pseudo), udp)
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	return udp
}

func ipPacket(from, dst netip.Addr, ident uint16, offset int, more bool, payload []byte) []byte {
	b := make([]byte, ipHeader, ipHeader+len(payload))
	b[0] = 0x45
	binary.BigEndian.PutUint16(b[2:], uint16(cap(b)))
	binary.BigEndian.PutUint16(b[4:], ident)
	frag := uint16(offset / 8)
	if more {
		frag |= 0x2000
	}
	binary.BigEndian.PutUint16(b[6:], frag)
	b[8], b[9] = 64, unix.IPPROTO_UDP
	copy(b[12:], from.AsSlice())
	copy(b[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(b[10:], ^checksum(0, b))
	return append(b, payload...)
}

// checksum adds b to a ones' complement sum (RFC 1071).
func checksum(start uint16, b []byte) uint16 {
	sum := uint32(start)
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// messages returns what was heard from the n-th message on.
func (s *server) messages(n int) []message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]message(nil), s.seen[min(n, len(s.seen)):]...)
}

// until waits until ok holds of all that was heard, at most so long.
func (s *server) until(within time.Duration, ok func([]message) bool) bool {
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		seen, news := s.seen[:len(s.seen):len(s.seen)], s.news
		s.mu.Unlock()
		if ok(seen) {
			return true
		}
		select {
		case <-news:
		case <-timeout.C:
			return false
		}
	}
}
