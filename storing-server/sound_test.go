package main

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v4"

	"flexphone/internal/pass"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

// asked sends b from c to a port of this machine, and returns what comes back.
func asked(t *testing.T, c *net.UDPConn, b []byte, port uint16) []byte {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort(b, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)); err != nil {
		t.Fatal(err)
	}
	return next(t, c)
}

func next(t *testing.T, c *net.UDPConn) []byte {
	t.Helper()
	b := make([]byte, 2000)
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// The receipt names the ports for sound, which are those of the help: STUN answers at
// both, and the relay forwards between two sockets that show the same pass.
func TestPortsForSound(t *testing.T) {
	p := serveFor(t, t.TempDir(), "--stun", "127.0.0.1:0", "--relay", "127.0.0.1:0", "--http", "127.0.0.1:0")
	phone, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(1))
	if _, err := phone.Pair(t.Context()); !errors.Is(err, registry.ErrForeign) {
		t.Errorf("who owns no row gets %v", err)
	}
	receipt, err := phone.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	of := receipt.Beside
	if of.STUN[0] == 0 || of.STUN[1] == 0 || of.STUN[0] == of.STUN[1] || of.Relay == 0 {
		t.Fatalf("the receipt names %+v", of)
	}
	if at := phone.Address(); at.String() != p.listen {
		t.Errorf("the server is at %v, and said to be at %v", p.listen, at)
	}
	var ends [2]*net.UDPConn
	for i := range ends {
		if ends[i], err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			t.Fatal(err)
		}
		defer ends[i].Close()
	}
	for _, port := range of.STUN {
		a := stun.Message{Raw: asked(t, ends[0], stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw, port)}
		var mapped stun.XORMappedAddress
		if err := a.Decode(); err != nil || mapped.GetFrom(&a) != nil || mapped.Port != ends[0].LocalAddr().(*net.UDPAddr).Port {
			t.Errorf("port %d answers %v, %v", port, a.String(), err)
		}
	}
	ticket, err := phone.Pair(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for side, c := range ends {
		var m stun.Message
		var nonce []byte
		for range 2 {
			if err := ticket.Show(&m, [12]byte{1}, pass.Side(side), nonce); err != nil {
				t.Fatal(err)
			}
			answer := asked(t, c, m.Raw, of.Relay)
			var at netip.AddrPort
			if nonce, at, err = ticket.Answer(&m, answer, [12]byte{1}); err != nil {
				t.Fatal(err)
			}
			if want := c.LocalAddr().(*net.UDPAddr).AddrPort(); at.IsValid() && at != want {
				t.Errorf("shown from %v, want %v", at, want)
			}
		}
	}
	for i, c := range ends {
		if _, err := c.WriteToUDPAddrPort([]byte("\x80 sound"), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), of.Relay)); err != nil {
			t.Fatal(err)
		}
		if got := next(t, ends[1-i]); string(got) != "\x80 sound" {
			t.Errorf("%q has come", got)
		}
	}
	text := metricsOf(t, p)
	for _, want := range []string{
		`storing_server_stun_total{result="answered"} 2`, `storing_server_relay_datagrams_total{result="forwarded"} 2`,
		`storing_server_relay_datagrams_total{result="taken"} 2`, "storing_server_relay_bytes_total 14", "storing_server_relay_pairs 1", `storing_server_relay_passes_total{result="given"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %q", want)
		}
	}
}

// Without the flags there are no ports, and nothing is relayed.
func TestNoPortsForSound(t *testing.T) {
	s := startServer(t, t.TempDir(), "127.0.0.1:0")
	phone, _ := newPhone(t, t.TempDir(), s.addr, phoneMAC(1))
	receipt, err := phone.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.1"))
	if err != nil || receipt.Beside != (wire.Beside{}) {
		t.Errorf("%+v, %v", receipt.Beside, err)
	}
	if _, err := phone.Pair(t.Context()); !errors.Is(err, registry.ErrRefused) {
		t.Errorf("a pass: %v; want ErrRefused", err)
	}
	for _, flags := range [][]string{{"--stun", "x"}, {"--relay", "1"}, {"--pairs", "0"}} {
		args := append([]string{"run", "--data", t.TempDir()}, flags...)
		if code := run(t.Context(), args, io.Discard, io.Discard); code != 2 {
			t.Errorf("%v: exit %d, want 2", flags, code)
		}
	}
}

// What phones are told of the relay's addresses follows those of the host, which is asked once
// a second at most, however many phones announce themselves; where it cannot be asked, what was
// known is told.
func TestAddressesOfTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now []net.Addr
		var broken error
		reads := 0
		h := newHostAddrs(true)
		h.list = func() ([]net.Addr, error) { reads++; return now, broken }
		has := func(prefixes ...string) {
			t.Helper()
			now = nil
			for _, p := range prefixes {
				ip, of, err := net.ParseCIDR(p)
				if err != nil {
					t.Fatal(err)
				}
				now = append(now, &net.IPNet{IP: ip, Mask: of.Mask})
			}
		}
		tells := func(four, six string) {
			t.Helper()
			for range 1000 {
				got4, got6 := h.reachable()
				var want4, want6 netip.Addr
				if four != "" {
					want4 = netip.MustParseAddr(four)
				}
				if six != "" {
					want6 = netip.MustParseAddr(six)
				}
				if got4 != want4 || got6 != want6 {
					t.Fatalf("%v, %v are told; want %v, %v", got4, got6, want4, want6)
				}
			}
		}
		has("127.0.0.1/8", "10.1.2.3/8", "fe80::1/64", "fd00::1/64")
		tells("", "")
		has("127.0.0.1/8", "192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64")
		tells("", "") // still
		time.Sleep(hostAddrsAge)
		tells("192.0.2.1", "2001:db8::1")
		broken = errors.New("too many open files")
		time.Sleep(hostAddrsAge)
		tells("192.0.2.1", "2001:db8::1")
		broken = nil
		has("2001:db8::2/64")
		time.Sleep(hostAddrsAge)
		tells("", "2001:db8::2")
		h.six = false
		time.Sleep(hostAddrsAge)
		tells("", "")
		if reads != 5 {
			t.Errorf("the host was asked %d times; want 5", reads)
		}
	})
}
