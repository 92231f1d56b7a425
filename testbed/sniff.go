package testbed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Sniffer is somebody at the provider who reads what goes by.
type Sniffer struct {
	socket *os.File
	done   chan struct{}

	mu     sync.Mutex
	voices map[Route]*Voice
}

// A Route is from whom to whom datagrams go.
type Route struct{ From, To netip.AddrPort }

// A Voice is what was seen of the RTP of one route: how many packets, and how many
// different first bytes their payloads have. A codec begins its payloads with what
// says how the rest is coded (RFC 6716, section 3.1), which hardly changes; what is
// encrypted begins with anything.
type Voice struct {
	Packets int
	first   [256]bool
}

// Encrypted reports whether the payloads begin with anything.
func (v Voice) Encrypted() bool {
	different := 0
	for _, seen := range v.first {
		if seen {
			different++
		}
	}
	return different > 48 // of 100 packets that begin with anything, 83 are expected to differ
}

// Sniff begins to read, until the bed closes.
func (b *Bed) Sniff() (*Sniffer, error) {
	socket, err := b.ISP.host.listenToAll()
	if err != nil {
		return nil, err
	}
	s := &Sniffer{socket: socket, done: make(chan struct{}), voices: make(map[Route]*Voice)}
	go func() {
		defer close(s.done)
		packet := make([]byte, 4096)
		for {
			n, err := s.socket.Read(packet)
			if err != nil {
				return
			}
			s.see(packet[:n])
		}
	}()
	b.onClose(func() error {
		err := s.socket.Close()
		<-s.done
		return err
	})
	return s, nil
}

// listenToAll opens a socket that reads every packet of every interface of the host,
// from its IP header on.
func (h *host) listenToAll() (*os.File, error) {
	const everything = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in the order of the network
	var fd int
	err := h.within(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, everything)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("testbed: sniff: %w", err)
	}
	return os.NewFile(uintptr(fd), "sniffer"), nil
}

// Overhear has seen called with each packet that goes to one of these phones, from its
// IP header on, as it leaves the provider for the phone's plug, until stop is called. It
// must be quick, and must not keep the packet.
func (b *Bed) Overhear(seen func(at time.Time, packet []byte), phones ...*Phone) (stop func() error, err error) {
	plugs := make(map[int]bool)
	for _, p := range phones {
		l, err := b.ISP.host.find(p.Name)
		if err != nil {
			return nil, err
		}
		plugs[l.Attrs().Index] = true
	}
	socket, err := b.ISP.host.listenToAll()
	if err != nil {
		return nil, err
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("testbed: overhear: %w", err), socket.Close())
	}
	var reader sync.WaitGroup
	reader.Go(func() {
		packet := make([]byte, 4096)
		for {
			var n int
			var from unix.Sockaddr
			var problem error
			err := raw.Read(func(fd uintptr) bool {
				n, from, problem = unix.Recvfrom(int(fd), packet, 0)
				return problem != unix.EAGAIN
			})
			if err != nil {
				return // it is closed
			}
			link, ok := from.(*unix.SockaddrLinklayer)
			if problem == nil && ok && link.Pkttype == unix.PACKET_OUTGOING && plugs[link.Ifindex] {
				seen(time.Now(), packet[:n])
			}
		}
	})
	return func() error {
		err := socket.Close()
		reader.Wait()
		return err
	}, nil
}

// see notes an IPv4 packet, if it is RTP.
func (s *Sniffer) see(b []byte) {
	if len(b) < 20 || b[0]>>4 != 4 || b[9] != unix.IPPROTO_UDP {
		return
	}
	head := int(b[0]&15) * 4
	if len(b) < head+8+13 {
		return
	}
	at := func(addr, port int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[addr:addr+4])), binary.BigEndian.Uint16(b[port:]))
	}
	rtp := b[head+8:]
	if rtp[0] != 0x80 || rtp[1] >= 192 && rtp[1] <= 223 {
		return
	}
	r := Route{at(12, head), at(16, head+2)}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.voices[r]
	if v == nil {
		v = new(Voice)
		s.voices[r] = v
	}
	v.Packets++
	v.first[rtp[12]] = true
}

// Voices returns what was seen so far.
func (s *Sniffer) Voices() map[Route]Voice {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[Route]Voice, len(s.voices))
	for r, v := range s.voices {
		out[r] = *v
	}
	return out
}
