package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/miekg/dns"
	"github.com/pion/stun/v4"

	"flexphone/internal/pass"
	registry "flexphone/registry-client"
)

// severalAddresses is set in a network namespace whose one interface has two addresses of
// each family.
const severalAddresses = "STORING_SERVER_TEST_ADDRESSES"

// On a host with several addresses whichever was asked is the one that answers, at each port
// that is UDP: a NAT in front of a phone lets in no other, and neither does a socket here that
// is connected to where it asks.
func TestAnswersFromWhereItWasAsked(t *testing.T) {
	if os.Getenv(severalAddresses) == "" {
		if out, err := exec.Command("unshare", "-Urn", "true").CombinedOutput(); err != nil {
			t.Skipf("no network namespace: %v: %s", err, out)
		}
		cmd := exec.Command("unshare", "-Urn", "sh", "-ec", `ip link set lo up
for a in 10.9.0.1/24 10.9.0.2/24 fd09::1/64 fd09::2/64; do ip addr add $a dev lo; done
exec "$0" -test.run '^TestAnswersFromWhereItWasAsked$'`, os.Args[0])
		cmd.Env = append(os.Environ(), severalAddresses+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("in a network namespace: %v\n%s", err, out)
		}
		return
	}
	p := startProcess(t, t.TempDir(), ":5684", "--sip", ":5060", "--dns", ":5353", "--zone", "phones.test", "--resolve", "anyone",
		"--stun", ":3478", "--relay", ":3480", "--turn", ":3482")
	t.Cleanup(p.kill)
	for i, asked := range []string{"10.9.0.1", "10.9.0.2", "fd09::1", "fd09::2"} {
		t.Run(asked, func(t *testing.T) { askEverywhere(t, byte(i+1), netip.MustParseAddr(asked)) })
	}
}

// askEverywhere asks at each port of one address, by the first address of its family.
func askEverywhere(t *testing.T, n byte, asked netip.Addr) {
	own := netip.MustParseAddr("10.9.0.1")
	if asked.Is6() {
		own = netip.MustParseAddr("fd09::1")
	}
	dial := func(port uint16) *net.UDPConn {
		c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(own, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(asked, port)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	ask := func(c *net.UDPConn, b []byte) []byte {
		t.Helper()
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		return next(t, c)
	}
	for _, port := range []uint16{3478, 3479, 3482} { // STUN twice, and TURN, which answers that as well
		a := stun.Message{Raw: ask(dial(port), stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)}
		if err := a.Decode(); err != nil || a.Type != stun.BindingSuccess {
			t.Errorf("port %d: %v, %v", port, a.String(), err)
		}
	}
	options := fmt.Sprintf("OPTIONS sip:phones.test SIP/2.0\r\nVia: SIP/2.0/UDP here;rport;branch=z9hG4bK%d\r\nFrom: <sip:a@here>;tag=1\r\nTo: <sip:b@there>\r\nCall-ID: %d\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n", n, n)
	if answer := ask(dial(5060), []byte(options)); !bytes.HasPrefix(answer, []byte("SIP/2.0 200")) {
		t.Errorf("SIP: %q", answer)
	}
	question, err := new(dns.Msg).SetQuestion("phones.test.", dns.TypeSOA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	if answer := new(dns.Msg); answer.Unpack(ask(dial(5353), question)) != nil || len(answer.Answer) == 0 {
		t.Errorf("DNS: %v", answer)
	}
	phone := askingPhone(t, n, own, netip.AddrPortFrom(asked, 5684))
	receipt, err := phone.Register(t.Context(), announcement(phoneMAC(n), 1, "192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := phone.Pair(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Each end of a pair has an address of its own that it speaks to.
	ends := [2]*net.UDPConn{dial(receipt.Beside.Relay)}
	asked = own
	ends[1] = dial(receipt.Beside.Relay)
	for side, c := range ends {
		var m stun.Message
		var nonce []byte
		for range 2 {
			if err := ticket.Show(&m, [12]byte{1}, pass.Side(side), nonce); err != nil {
				t.Fatal(err)
			}
			if nonce, _, err = ticket.Answer(&m, ask(c, m.Raw), [12]byte{1}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, c := range ends {
		if _, err := c.Write([]byte("\x80 sound")); err != nil {
			t.Fatal(err)
		}
		if got := next(t, ends[1-i]); string(got) != "\x80 sound" {
			t.Errorf("the relay: %q has come", got)
		}
	}
}

// askingPhone is a phone behind a NAT that lets in what the server says from where it was
// asked.
func askingPhone(t *testing.T, n byte, own netip.Addr, server netip.AddrPort) *registry.Client {
	t.Helper()
	dir := t.TempDir()
	id, err := registry.LoadIdentity(dir, phoneMAC(n))
	if err != nil {
		t.Fatal(err)
	}
	c, err := registry.NewClient(registry.Config{
		Server: server.String(), Identity: id, Pins: registry.NewFilePins(filepath.Join(dir, "servers.json")), Log: slog.New(slog.DiscardHandler),
		Listen: func(context.Context, netip.Addr) (net.PacketConn, error) {
			c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(own, 0)))
			return &letsIn{UDPConn: c, only: server}, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// letsIn is a socket that hears one peer.
type letsIn struct {
	*net.UDPConn
	only netip.AddrPort
}

// ReadFrom implements net.PacketConn.
func (l *letsIn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := l.ReadFromUDPAddrPort(b)
		if err != nil {
			return n, nil, err
		}
		if netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) == l.only {
			return n, net.UDPAddrFromAddrPort(from), nil
		}
	}
}
