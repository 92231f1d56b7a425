package testbed

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"sync"

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
	const everything = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in the order of the network
	var fd int
	err := b.ISP.host.within(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, everything)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("testbed: sniff: %w", err)
	}
	s := &Sniffer{socket: os.NewFile(uintptr(fd), "sniffer"), done: make(chan struct{}), voices: make(map[Route]*Voice)}
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
