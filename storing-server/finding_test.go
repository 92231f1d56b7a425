package main

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	registry "flexphone/registry-client"
)

// names is a Resolver that knows one name.
type names []netip.Addr

func (n names) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) { return n, nil }

// finder returns a client that looks its server up in n.
func finder(t *testing.T, server string, n names) *registry.Client {
	t.Helper()
	dir := t.TempDir()
	id, err := registry.LoadIdentity(dir, phoneMAC(1))
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(server)
	if err != nil {
		t.Fatal(err)
	}
	c, err := registry.NewClient(registry.Config{
		Server: net.JoinHostPort("store.example", port), Identity: id, Resolver: n,
		Pins: registry.NewFilePins(filepath.Join(dir, "servers.json")), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func addresses(texts ...string) (out []netip.Addr) {
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// Of four addresses of a name three are dead: the phone is registered by one try
// of its announcer, and stays with the one that lives.
func TestANameWithDeadAddresses(t *testing.T) {
	s := startServer(t, t.TempDir(), "127.0.0.1:0")
	c := finder(t, s.addr, addresses("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.1"))
	for n := range uint64(3) {
		if _, err := c.Register(t.Context(), announcement(phoneMAC(1), n+1, "192.0.2.1")); err != nil {
			t.Fatal(err)
		}
	}
	if session, err := c.Alive(t.Context()); err != nil || session != 1 {
		t.Errorf("session %d, %v; want the first", session, err)
	}
}

// The socket is of the server's family, whatever addresses the phone has; one of
// the other family that comes or goes later changes nothing.
func TestTheServersFamilyDecidesTheSocket(t *testing.T) {
	for _, tt := range []struct {
		listen string
		known  names
	}{
		{"[::1]:0", addresses("::1")},
		{"[::1]:0", addresses("127.0.0.9", "::1")},
		{"127.0.0.1:0", addresses("127.0.0.1")},
		{"127.0.0.1:0", addresses("::1", "127.0.0.1")},
	} {
		s := startServer(t, t.TempDir(), tt.listen)
		c := finder(t, s.addr, tt.known)
		sequence := uint64(0)
		register := func(at string, locals ...string) {
			t.Helper()
			if err := c.Move(t.Context(), addresses(locals...)...); err != nil {
				t.Errorf("%s: Move(%v) = %v", tt.listen, locals, err)
			}
			sequence++
			r := announcement(phoneMAC(1), sequence, "192.0.2.1")
			receipt, err := c.Register(t.Context(), r)
			if err != nil {
				t.Fatalf("%s with %v: %v", tt.listen, locals, err)
			}
			if netip.MustParseAddrPort(s.addr).Addr() != receipt.Reflexive.Addr() {
				t.Errorf("%s with %v: seen from %v", tt.listen, locals, receipt.Reflexive)
			}
			if session, err := c.Alive(t.Context()); err != nil || session != 1 {
				t.Errorf("%s with %v, %s: session %d, %v; want the first", tt.listen, locals, at, session, err)
			}
		}
		register("both", "127.0.0.1", "::1")
		register("only that of the server", netip.MustParseAddrPort(s.addr).Addr().String())
		register("an address of the other family comes", "127.0.0.1", "::1")
	}
}

// A session ends when its family is gone, and the next is of the other one.
func TestAFamilyThatIsGone(t *testing.T) {
	s := startServer(t, t.TempDir(), "[::]:0")
	c := finder(t, s.addr, addresses("::1", "127.0.0.1"))
	for i, local := range []string{"::1", "127.0.0.1", "::1"} {
		if err := c.Move(t.Context(), netip.MustParseAddr(local)); err != nil {
			t.Fatal(err)
		}
		receipt, err := c.Register(t.Context(), announcement(phoneMAC(1), uint64(i+1), "192.0.2.1"))
		if err != nil || receipt.Reflexive.Addr().Unmap().String() != local {
			t.Errorf("from %s: seen from %v, %v", local, receipt.Reflexive, err)
		}
	}
}
