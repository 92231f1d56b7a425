package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

// twoPhones are registered at a server and take links.
func twoPhones(t *testing.T, addr string) (one, two *registry.Client) {
	t.Helper()
	one, _ = newPhone(t, t.TempDir(), addr, phoneMAC(1))
	two, _ = newPhone(t, t.TempDir(), addr, phoneMAC(2))
	for i, c := range []*registry.Client{one, two} {
		a := announcement(phoneMAC(byte(i+1)), 1, netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}).String())
		a.Reach = wire.ReachNAT
		if _, err := c.Register(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	return one, two
}

// linkOf opens a link from one to two.
func linkOf(t *testing.T, one, two *registry.Client) (a, b net.Conn) {
	t.Helper()
	taken := make(chan net.Conn, 1)
	go func() {
		c, err := two.AcceptRelayed(t.Context())
		if err != nil {
			t.Error(err)
		}
		taken <- c
	}()
	a, err := one.DialRelayed(t.Context(), wire.MAC(phoneMAC(2)))
	if err != nil {
		t.Fatal(err)
	}
	if b = <-taken; b == nil {
		t.FailNow()
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	if got := b.RemoteAddr(); got != (registry.PhoneAddr{MAC: wire.MAC(phoneMAC(1))}) {
		t.Errorf("the link comes from %v", got)
	}
	return a, b
}

// exchanged sends some bytes from a to b, and others back.
func exchanged(t *testing.T, a, b net.Conn, n int) {
	t.Helper()
	for _, c := range []net.Conn{a, b} {
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		defer c.SetDeadline(time.Time{}) // as before
	}
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		sent := make([]byte, n)
		for i := range sent {
			sent[i] = byte(rand.Uint32())
		}
		wrote := make(chan error, 1)
		go func() {
			_, err := way[0].Write(sent)
			wrote <- err
		}()
		got := make([]byte, n)
		if _, err := io.ReadFull(way[1], got); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("what has come is not what was sent, %v", err)
		}
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
	}
}

// A relayed link is a connection: bytes come as they were sent, through a change of
// an address and a restart of the server, and deadlines and ends are those of any.
func TestRelayedLink(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, "127.0.0.1:0")
	one, two := twoPhones(t, s.addr)
	row, err := one.Resolve(t.Context(), wire.Query{MAC: wire.MAC(phoneMAC(2))})
	if err != nil || row.Reach != wire.ReachNAT {
		t.Errorf("the row says %v, %v; want nat", row.Reach, err)
	}
	a, b := linkOf(t, one, two)
	exchanged(t, a, b, 20000)
	if err := one.Move(t.Context(), netip.MustParseAddr("127.0.0.3")); err != nil {
		t.Fatal(err)
	}
	exchanged(t, a, b, 3000)

	// Neither end has anything to say, nor waits for an answer, when the server ends.
	time.Sleep(300 * time.Millisecond)
	s.stop()
	again := startServer(t, dir, s.addr)
	exchanged(t, a, b, 3000)

	if err := b.SetReadDeadline(time.Now().Add(-1)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := b.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("Read() after its deadline: %v", err)
	}
	if err := b.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if got, err := io.ReadAll(b); err != nil || string(got) != "last words" {
		t.Errorf("after the other end was closed: %q, %v", got, err)
	}
	if _, err := b.Write([]byte("x")); err == nil {
		t.Error("a link that is closed takes bytes")
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write() after Close(): %v", err)
	}
	again.stop()
}

// Who cannot be reached is known at once, and so is a server that relays nothing.
func TestNoRelayedLink(t *testing.T) {
	s := startServer(t, t.TempDir(), "127.0.0.1:0")
	one, two := twoPhones(t, s.addr)
	two.Close()
	for name, to := range map[string]byte{"a phone that has left": 2, "a phone that never was": 9} {
		if _, err := one.DialRelayed(t.Context(), wire.MAC(phoneMAC(to))); !errors.Is(err, registry.ErrNoRelay) {
			t.Errorf("%s: %v; want ErrNoRelay", name, err)
		}
	}
	stranger, _ := newPhone(t, t.TempDir(), s.addr, phoneMAC(3))
	if _, err := stranger.Alive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.DialRelayed(t.Context(), wire.MAC(phoneMAC(1))); !errors.Is(err, registry.ErrNoRelay) {
		t.Errorf("a phone without a row: %v; want ErrNoRelay", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := one.DialRelayed(ctx, wire.MAC(phoneMAC(2))); err == nil {
		t.Error("who does not wait has a link")
	}
}

// Links that nobody takes yet wait, and too many are refused.
func TestRelayedLinksWait(t *testing.T) {
	s := startServer(t, t.TempDir(), "127.0.0.1:0")
	one, two := twoPhones(t, s.addr)
	dialled := make(chan error, 10)
	for range 10 {
		go func() {
			c, err := one.DialRelayed(t.Context(), wire.MAC(phoneMAC(2)))
			if err == nil {
				t.Cleanup(func() { c.Close() })
			}
			dialled <- err
		}()
	}
	for range 2 {
		if err := <-dialled; !errors.Is(err, registry.ErrNotTaken) {
			t.Errorf("DialRelayed() beyond what waits: %v; want ErrNotTaken", err)
		}
	}
	for range 8 {
		c, err := two.AcceptRelayed(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := <-dialled; err != nil {
			t.Errorf("DialRelayed() of one that is taken: %v", err)
		}
	}
}
