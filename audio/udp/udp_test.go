package udp

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"flexphone/audio"
	"flexphone/audio/pathtest"
)

// open opens a path on an address of this machine.
func open(t *testing.T, host string) *Path {
	t.Helper()
	p, err := Open(t.Context(), netip.MustParseAddr(host), PortRange{})
	if err != nil {
		t.Skipf("no loopback: %v", err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func (p *Path) addr(host string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(host), p.Port())
}

func TestPath(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			pathtest.Path(t, func(t *testing.T) (audio.Path, audio.Path) {
				a, b := open(t, host), open(t, host)
				a.SetPeer(b.addr(host), netip.AddrPort{})
				b.SetPeer(a.addr(host), netip.AddrPort{})
				return a, b
			})
		})
	}
}

// TestPathOnAllAddresses: as the phone opens it, for IPv4 and IPv6 at once.
func TestPathOnAllAddresses(t *testing.T) {
	pathtest.Path(t, func(t *testing.T) (audio.Path, audio.Path) {
		var ends [2]*Path
		for i := range ends {
			p, err := Open(t.Context(), netip.Addr{}, PortRange{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { p.Close() })
			ends[i] = p
		}
		ends[0].SetPeer(ends[1].addr("127.0.0.1"), netip.AddrPort{})
		ends[1].SetPeer(ends[0].addr("127.0.0.1"), netip.AddrPort{})
		return ends[0], ends[1]
	})
}

// Whom a path hears: its peer, from one port at a time, and nobody else; who is new
// is said once.
func TestStrangersAreNotHeard(t *testing.T) {
	p := open(t, "127.0.0.1")
	got := make(chan audio.Datagram, 1)
	ended := make(chan error, 1)
	go func() { ended <- p.Receive(func(d audio.Datagram) { got <- d }) }()
	from := func(host string) *net.UDPConn {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), 0)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	peer, otherPort, stranger := from("127.0.0.2"), from("127.0.0.2"), from("127.0.0.3")
	addr := func(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }
	say := func(c *net.UDPConn, to uint16) {
		t.Helper()
		if _, err := c.WriteToUDPAddrPort([]byte("sound"), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to)); err != nil {
			t.Fatal(err)
		}
	}
	// Whatever is said by a stranger came before what is heard after it.
	heard := func(what string, wantNew bool) {
		t.Helper()
		if d := <-got; d.Protocol != audio.RTP || string(d.Bytes) != "sound" || d.NewPeer != wantNew {
			t.Errorf("%s: %+v", what, d)
		}
	}
	say(peer, p.Port()) // nobody is the peer yet
	for p.Strangers() < 1 {
		runtime.Gosched()
	}
	if err := p.Send(audio.RTP, []byte("sound")); !errors.Is(err, audio.ErrNoPeer) {
		t.Errorf("sent to nobody: %v", err)
	}
	p.SetPeer(addr(peer), netip.AddrPort{})
	say(stranger, p.Port())
	say(peer, p.Port())
	heard("the peer", true)
	say(otherPort, p.Port())
	p.SetPeer(addr(otherPort), netip.AddrPort{})
	say(peer, p.Port())
	heard("the peer, which named another port", false)
	say(otherPort, p.Port())
	heard("the port that it named", false)
	say(peer, p.Port())
	p.SetPeer(addr(stranger), netip.AddrPort{})
	say(peer, p.Port())
	say(stranger, p.Port())
	heard("another peer", true)
	if n := p.Strangers(); n != 5 {
		t.Errorf("%d datagrams of strangers, want 5", n)
	}
	for _, nobody := range []netip.AddrPort{{}, netip.MustParseAddrPort("0.0.0.0:9"), netip.MustParseAddrPort("[::]:9")} {
		p.SetPeer(nobody, netip.AddrPort{})
		for _, what := range []audio.Protocol{audio.RTP, audio.RTCP} {
			if err := p.Send(what, []byte("sound")); !errors.Is(err, audio.ErrNoPeer) {
				t.Errorf("sent to %v: %v", nobody, err)
			}
		}
	}
	p.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Which port of a peer is heard, as time goes by.
func TestOnePortOfAPeerIsHeard(t *testing.T) {
	const named, other, third = 4000, 5000, 6000
	type step struct {
		after time.Duration
		port  uint16
		named uint16
		ok    bool
	}
	for what, steps := range map[string][]step{
		"nobody gets between it and us": {
			{0, named, named, true}, {20 * time.Millisecond, other, named, false}, {20 * time.Millisecond, other, named, false},
			{20 * time.Millisecond, named, named, true}, {time.Second, other, named, false}, {time.Second, named, named, true},
		},
		"a gateway that sends from another port": {
			{0, other, named, true}, {20 * time.Millisecond, other, named, true}, {20 * time.Millisecond, third, named, false},
		},
		"somebody else was first": {
			{0, other, named, true}, {20 * time.Millisecond, named, named, true}, {20 * time.Millisecond, other, named, false},
		},
		"one that has begun anew": {
			{0, other, named, true}, {givenUp - 1, third, named, false}, {1, third, named, true}, {1, other, named, false},
		},
		"one that has named another": {
			{0, named, named, true}, {1, other, other, true}, {1, named, other, false}, {1, third, third, true},
		},
	} {
		var s source
		now := time.Unix(100, 0)
		host := netip.MustParseAddr("192.0.2.1")
		for i, c := range steps {
			now = now.Add(c.after)
			if got := s.take(netip.AddrPortFrom(host, c.port), netip.AddrPortFrom(host, c.named), now); got != c.ok {
				t.Errorf("%s: packet %d of port %d: %v", what, i, c.port, got)
			}
		}
	}
}

// Reports go where the peer wants them, else to the port after that of sound.
func TestWhereReportsGo(t *testing.T) {
	p := open(t, "127.0.0.1")
	a, b := open(t, "127.0.0.1"), open(t, "127.0.0.1")
	for _, c := range []struct {
		rtcp netip.AddrPort
		at   *Conn
	}{{netip.AddrPort{}, a.rtcp}, {b.addr("127.0.0.1"), b.rtp}} {
		p.SetPeer(a.addr("127.0.0.1"), c.rtcp)
		if err := p.Send(audio.RTCP, []byte("report")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 10)
		n, from, err := c.at.ReadFromUDPAddrPort(got)
		if err != nil || string(got[:n]) != "report" || from.Port() != p.Port()+1 {
			t.Errorf("%q from %v, %v", got[:n], from, err)
		}
	}
}

// With a peer that wants that, sound and reports share the port of sound both ways, and
// each is told from the other; the other port is nobody's then.
func TestSoundAndReportsByOnePort(t *testing.T) {
	const host = "127.0.0.1"
	a, b := open(t, host), open(t, host)
	both := func(p *Path) netip.AddrPort { return p.addr(host) }
	a.SetPeer(both(b), both(b))
	b.SetPeer(both(a), both(a))
	got := make(chan audio.Datagram, 4)
	ended := make(chan error, 1)
	go func() {
		ended <- b.Receive(func(d audio.Datagram) {
			d.Bytes = append([]byte(nil), d.Bytes...)
			got <- d
		})
	}()
	report, marked, last := []byte{0x80, 201, 0, 1, 0, 0, 0, 7}, []byte{0x80, 128 + 127, 0, 1}, []byte{0x80, 96, 0, 2}
	if _, err := a.rtcp.WriteToUDPAddrPort(report, netip.AddrPortFrom(both(b).Addr(), b.Port()+1)); err != nil {
		t.Fatal(err)
	}
	for _, d := range []audio.Datagram{{Protocol: audio.RTCP, Bytes: report}, {Protocol: audio.RTP, Bytes: marked, NewPeer: true}, {Protocol: audio.RTCP, Bytes: report}, {Protocol: audio.RTP, Bytes: last}} {
		if err := a.Send(d.Protocol, d.Bytes); err != nil {
			t.Fatal(err)
		}
		if g := <-got; g.Protocol != d.Protocol || string(g.Bytes) != string(d.Bytes) || g.NewPeer != d.NewPeer {
			t.Errorf("%+v came as %+v", d, g)
		}
	}
	for b.Strangers() == 0 {
		runtime.Gosched()
	}
	b.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestOpenBindsAMarkedPairAndGivesItBack(t *testing.T) {
	p, err := Open(t.Context(), netip.Addr{}, PortRange{})
	if err != nil {
		t.Fatal(err)
	}
	port := p.Port()
	if port%2 != 0 || port < 16384 || port > 32767 {
		t.Errorf("port %d", port)
	}
	for _, conn := range []*Conn{p.rtp, p.rtcp} {
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			if tos, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TOS); err != nil || tos != 0xb8 {
				t.Errorf("IPv4: %#x, %v", tos, err)
			}
			if class, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_TCLASS); err == nil && class != 0xb8 {
				t.Errorf("IPv6: %#x", class)
			}
		})
	}
	ports := PortRange{First: port, Last: port + 1}
	if _, err := Open(t.Context(), netip.Addr{}, ports); !errors.Is(err, ErrPorts) {
		t.Errorf("a pair that is taken: %v", err)
	}
	p.Close()
	for range 3 {
		p, err := Open(t.Context(), netip.MustParseAddr("127.0.0.1"), ports)
		if err != nil {
			t.Fatal(err)
		}
		if p.Port() != port {
			t.Errorf("port %d, want %d", p.Port(), port)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := Open(t.Context(), netip.Addr{}, PortRange{First: 9, Last: 3}); !errors.Is(err, ErrPorts) {
		t.Errorf("an empty range: %v", err)
	}
}
