package testbed

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// A Stranger is a host of nobody's that sends what it likes, from as many
// addresses as it likes.
type Stranger struct {
	Addrs []netip.Addr
	host  *host
}

// AddStranger makes a stranger with n addresses.
func (b *Bed) AddStranger(n int) (*Stranger, error) {
	h, addr, err := b.addFixed()
	if err != nil {
		return nil, err
	}
	s := &Stranger{Addrs: []netip.Addr{addr}, host: h}
	for len(s.Addrs) < n {
		addr = addr.Next()
		b.fixed++
		if err := h.address("eth0", netip.PrefixFrom(addr, fixedPhones.Bits()), netip.Addr{}); err != nil {
			return nil, err
		}
		s.Addrs = append(s.Addrs, addr)
	}
	return s, nil
}

// Listen opens a UDP socket at one of its addresses.
func (s *Stranger) Listen(at netip.AddrPort) (conn *net.UDPConn, err error) {
	err = s.host.within(func() error {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("testbed: listen at %v: %w", at, err)
	}
	return conn, nil
}

// Dial connects by TCP from one of its addresses.
func (s *Stranger) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (conn net.Conn, err error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	err = s.host.within(func() error {
		conn, err = d.DialContext(ctx, "tcp4", to.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("testbed: connect to %v: %w", to, err)
	}
	return conn, nil
}

// A Footprint is what a program takes of the machine.
type Footprint struct {
	Resident int // bytes of memory
	Files    int // open descriptors
	Threads  int
}

// Footprint looks at a phone on the host.
func (p *Phone) Footprint() (Footprint, error) {
	dir := "/proc/" + strconv.Itoa(p.proc.cmd.Process.Pid)
	files, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return Footprint{}, fmt.Errorf("testbed: look at %s: %w", p.Name, err)
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return Footprint{}, fmt.Errorf("testbed: look at %s: %w", p.Name, err)
	}
	f := Footprint{Files: len(files)}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		switch name {
		case "VmRSS":
			f.Resident = n << 10
		case "Threads":
			f.Threads = n
		}
	}
	return f, nil
}
