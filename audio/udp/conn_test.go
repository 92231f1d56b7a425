package udp

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// A socket of ours says and hears what one of Go's does, in both families and in both
// at once.
func TestConnIsAsGoHasIt(t *testing.T) {
	for _, c := range []struct{ name, ours, theirs string }{
		{"IPv4", "127.0.0.1", "127.0.0.1"},
		{"IPv6", "::1", "::1"},
		{"IPv4 in IPv6", "", "127.0.0.1"},
		{"IPv6 of both", "", "::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var local netip.Addr
			if c.ours != "" {
				local = netip.MustParseAddr(c.ours)
			}
			ours, err := listen(t.Context(), local, 0)
			if err != nil {
				t.Skip(err) // no IPv6 here
			}
			defer ours.Close()
			at := netip.MustParseAddr(c.theirs)
			theirs, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
			if err != nil {
				t.Skip(err)
			}
			defer theirs.Close()
			port := func(c net.PacketConn) uint16 { return c.LocalAddr().(*net.UDPAddr).AddrPort().Port() }
			got := make([]byte, 100)
			for _, b := range [][]byte{[]byte("sound"), {}, bytes.Repeat([]byte{7}, 100)} {
				if n, err := ours.WriteToUDPAddrPort(b, netip.AddrPortFrom(at, port(theirs))); err != nil || n != len(b) {
					t.Fatalf("wrote %d bytes, %v", n, err)
				}
				n, from, err := theirs.ReadFromUDPAddrPort(got)
				if err != nil || !bytes.Equal(got[:n], b) || plain(from.Addr()) != at || from.Port() != port(ours) {
					t.Errorf("they read %q from %v, %v", got[:n], from, err)
				}
				if _, err := theirs.WriteToUDPAddrPort(b, from); err != nil {
					t.Fatal(err)
				}
				n, from, err = ours.ReadFromUDPAddrPort(got)
				if err != nil || !bytes.Equal(got[:n], b) || plain(from.Addr()) != at || from.Port() != port(theirs) {
					t.Errorf("we read %q from %v, %v", got[:n], from, err)
				}
			}
			if _, err := ours.WriteToUDPAddrPort(make([]byte, 1<<17), netip.AddrPortFrom(at, port(theirs))); err == nil {
				t.Error("a datagram that is too long is sent")
			}
			if _, err := ours.WriteToUDPAddrPort(got, netip.AddrPort{}); err == nil {
				t.Error("something is sent to nowhere")
			}
		})
	}
}

// The zone of a link-local address is the name of its interface, as Go has it.
func TestZoneOfAConn(t *testing.T) {
	c, err := listen(t.Context(), netip.MustParseAddr("127.0.0.1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Skip(err)
	}
	if got := c.zoneOf(uint32(lo.Index)); got != "lo" {
		t.Errorf("zone %q", got)
	}
	if got := c.zoneOf(1 << 30); got != "1073741824" {
		t.Errorf("zone of no interface %q", got)
	}
}

func TestConnDoesNotAllocateAndEnds(t *testing.T) {
	c, err := listen(t.Context(), netip.MustParseAddr("127.0.0.1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	self := c.LocalAddr().(*net.UDPAddr).AddrPort()
	b := make([]byte, 100)
	if a := testing.AllocsPerRun(100, func() {
		if _, err := c.WriteToUDPAddrPort(b, self); err != nil {
			t.Fatal(err)
		}
		if n, from, err := c.ReadFromUDPAddrPort(b); err != nil || n != len(b) || from != self {
			t.Fatal(n, from, err)
		}
	}); a != 0 {
		t.Errorf("%v allocations a datagram", a)
	}
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.ReadFromUDPAddrPort(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, _, err := c.ReadFromUDPAddrPort(make([]byte, 100))
		ended <- err
	}()
	c.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading a closed socket: %v", err)
	}
	if _, err := c.WriteToUDPAddrPort(b, self); !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing a closed socket: %v", err)
	}
}
