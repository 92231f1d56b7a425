package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"flexphone/netlink"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/directory"
	"flexphone/storing-server/internal/exchange"
	"flexphone/storing-server/internal/links"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// A testServer is the real server in this process, on a loopback port.
type testServer struct {
	addr string
	key  wire.Fingerprint
	rows *store.Store
	stop func()

	pages *browsers
}

func startServer(t *testing.T, dir, listen string) *testServer {
	t.Helper()
	return startLimited(t, dir, listen, exchange.DefaultLimits())
}

func startLimited(t *testing.T, dir, listen string, limits exchange.Limits) *testServer {
	t.Helper()
	return startUnder(t, dir, listen, limits, trust.Policy{})
}

func startUnder(t *testing.T, dir, listen string, limits exchange.Limits, policy trust.Policy) *testServer {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	changed := &relay{}
	m := newMetrics()
	rows, err := store.Open(t.Context(), store.Options{
		Dir: dir, Numbers: store.Numbers{First: 101, Last: 99999999}, Log: log, Changed: changed.tell,
	})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := serverCertificate(dir)
	if err != nil {
		t.Fatal(err)
	}
	door, err := trust.NewDoor(cert.PrivateKey.(ed25519.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	d := directory.New(rows, log, m.request).Under(policy).As(door)
	phones, err := exchange.Listen(t.Context(), listen, cert, d, limits, m, log)
	if err != nil {
		t.Fatal(err)
	}
	pages := newBrowsers(t.Context(), rows, links.New(links.DefaultLimits(), m))
	pages.pass, pages.seen = passOn(phones, pages, rows), phones.Seen
	d.Relaying(pages.relay, pages.pass)
	changed.to(phones.Changed)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- phones.Serve(ctx) }()
	stopped := false
	s := &testServer{addr: phones.Addr().String(), key: fingerprint(cert), rows: rows, pages: pages}
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v", err)
		}
		rows.Close()
	}
	t.Cleanup(s.stop)
	return s
}

// A wiretap counts a client's datagrams.
type wiretap struct{ sent, got atomic.Int64 }

func (w *wiretap) listen(ctx context.Context, local netip.Addr) (net.PacketConn, error) {
	if !local.IsValid() {
		local = netip.MustParseAddr("127.0.0.1")
	}
	var lc net.ListenConfig
	conn, err := lc.ListenPacket(ctx, "udp4", netip.AddrPortFrom(local, 0).String())
	if err != nil {
		return nil, err
	}
	return &tapped{conn, w}, nil
}

type tapped struct {
	net.PacketConn
	tap *wiretap
}

func (c *tapped) ReadFrom(p []byte) (int, net.Addr, error) {
	n, a, err := c.PacketConn.ReadFrom(p)
	if err == nil {
		c.tap.got.Add(1)
	}
	return n, a, err
}

func (c *tapped) WriteTo(p []byte, to net.Addr) (int, error) {
	c.tap.sent.Add(1)
	return c.PacketConn.WriteTo(p, to)
}

func phoneMAC(n byte) netlink.MAC { return netlink.MAC{2, 0, 0x5e, 0, 0x53, n} }

// newPhone returns a client whose key and pins are in dir.
func newPhone(t *testing.T, dir, server string, mac netlink.MAC) (*registry.Client, *wiretap) {
	t.Helper()
	return newHastyPhone(t, dir, server, mac, 0)
}

// newHastyPhone is newPhone with an ACK_TIMEOUT of its own, for tests that wait
// for it.
func newHastyPhone(t *testing.T, dir, server string, mac netlink.MAC, ackTimeout time.Duration) (*registry.Client, *wiretap) {
	t.Helper()
	id, err := registry.LoadIdentity(dir, mac)
	if err != nil {
		t.Fatal(err)
	}
	tap := &wiretap{}
	c, err := registry.NewClient(registry.Config{
		Server: server, Identity: id, Pins: registry.NewFilePins(filepath.Join(dir, "servers.json")),
		Log: slog.New(slog.DiscardHandler), Listen: tap.listen, AckTimeout: ackTimeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, tap
}

func announcement(mac netlink.MAC, sequence uint64, addr string) wire.Registration {
	return wire.Registration{
		MAC: wire.MAC(mac), Addrs: []netip.Addr{netip.MustParseAddr(addr)},
		Ports: wire.Ports{SIP: 5060, SIPS: 5061}, Sequence: sequence, Lifetime: time.Hour,
	}
}

// The client and the server are tested against each other, never against a
// mock of each other.
func TestClientAgainstServer(t *testing.T) {
	s := startServer(t, t.TempDir(), "127.0.0.1:0")
	ctx := t.Context()
	var _ registry.Server = (*registry.Client)(nil)
	one, _ := newPhone(t, t.TempDir(), s.addr, phoneMAC(1))
	two, _ := newPhone(t, t.TempDir(), s.addr, phoneMAC(2))

	byMAC := wire.Query{MAC: wire.MAC(phoneMAC(1))}
	if _, err := two.Resolve(ctx, byMAC); !errors.Is(err, registry.ErrUnknown) {
		t.Errorf("Resolve() before Register = %v; want ErrUnknown", err)
	}
	receipt, err := one.Register(ctx, announcement(phoneMAC(1), 5, "192.0.2.1"))
	if err != nil || receipt.Number != "101" || receipt.Sequence != 5 || !receipt.Reflexive.Addr().IsLoopback() || receipt.Reflexive.Port() == 0 {
		t.Fatalf("Register() = %+v, %v", receipt, err)
	}
	for _, q := range []wire.Query{byMAC, {Number: "101"}, {Addr: netip.MustParseAddr("192.0.2.1")}} {
		row, err := two.Resolve(ctx, q)
		if err != nil || row.MAC != wire.MAC(phoneMAC(1)) || row.State != wire.Online || row.Ports.SIPS != 5061 ||
			row.Addrs[0] != netip.MustParseAddr("192.0.2.1") || row.Number != "101" {
			t.Errorf("Resolve(%v) = %+v, %v", q, row, err)
		}
	}
	var stale *registry.StaleError
	if _, err := one.Register(ctx, announcement(phoneMAC(1), 4, "192.0.2.9")); !errors.Is(err, registry.ErrStale) || !errors.As(err, &stale) || stale.Sequence != 5 {
		t.Errorf("stale Register() = %v; want ErrStale that tells 5", err)
	}
	if _, err := two.Register(ctx, announcement(phoneMAC(1), 6, "192.0.2.9")); !errors.Is(err, registry.ErrForeign) {
		t.Errorf("Register() of another's MAC = %v; want ErrForeign", err)
	}
	thief, _ := newPhone(t, t.TempDir(), s.addr, phoneMAC(1))
	if _, err := thief.Register(ctx, announcement(phoneMAC(1), 6, "192.0.2.9")); !errors.Is(err, registry.ErrForeign) {
		t.Errorf("Register() with another key = %v; want ErrForeign", err)
	}
	if err := thief.Release(ctx, wire.MAC(phoneMAC(1)), 7); !errors.Is(err, registry.ErrForeign) {
		t.Errorf("Release() with another key = %v; want ErrForeign", err)
	}
	if err := one.Release(ctx, wire.MAC(phoneMAC(1)), 7); err != nil {
		t.Errorf("Release() = %v", err)
	}
	if row, err := two.Resolve(ctx, byMAC); err != nil || row.State != wire.Offline {
		t.Errorf("Resolve() after Release = %+v, %v; want it offline", row, err)
	}
}

// A new address is announced in the old session, with one datagram each way.
func TestMoveTakesOneRoundTrip(t *testing.T) {
	s := startServer(t, t.TempDir(), "127.0.0.1:0")
	ctx := t.Context()
	c, tap := newPhone(t, t.TempDir(), s.addr, phoneMAC(1))
	first, err := c.Register(ctx, announcement(phoneMAC(1), 1, "192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	session, err := c.Alive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		local := netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)})
		sent, got := tap.sent.Load(), tap.got.Load()
		if err := c.Move(ctx, local); err != nil {
			t.Fatal(err)
		}
		receipt, err := c.Register(ctx, announcement(phoneMAC(1), uint64(i+2), "192.0.2.2"))
		if err != nil {
			t.Fatal(err)
		}
		if receipt.Reflexive.Addr() != local || receipt.Reflexive == first.Reflexive {
			t.Errorf("reflexive address %v; want %v", receipt.Reflexive, local)
		}
		if sent, got := tap.sent.Load()-sent, tap.got.Load()-got; sent != 1 || got != 1 {
			t.Errorf("move %d took %d datagrams out and %d in; want 1 and 1", i, sent, got)
		}
	}
	if again, err := c.Alive(ctx); err != nil || again != session {
		t.Errorf("session %d, %v; want the same as before, %d", again, err, session)
	}
}

// When both ends of a call move at once, each hears in the receipt of its own move
// where the other is now, in the one round trip that the move takes anyway.
func TestReceiptTellsWhereThePeerIs(t *testing.T) {
	s := startServer(t, t.TempDir(), "127.0.0.1:0")
	ctx := t.Context()
	one, tap := newPhone(t, t.TempDir(), s.addr, phoneMAC(1))
	two, _ := newPhone(t, t.TempDir(), s.addr, phoneMAC(2))
	for i, c := range []*registry.Client{one, two} {
		if _, err := c.Register(ctx, announcement(phoneMAC(byte(1+i)), 1, "192.0.2.1")); err != nil {
			t.Fatal(err)
		}
	}
	moves := func(c *registry.Client, mac byte, sequence uint64, addr string, peers ...wire.MAC) []wire.Row {
		t.Helper()
		r := announcement(phoneMAC(mac), sequence, addr)
		r.Peers = peers
		receipt, err := c.Register(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		return receipt.Peers
	}
	if rows := moves(two, 2, 2, "192.0.2.22", wire.MAC(phoneMAC(1))); len(rows) != 1 || rows[0].MAC != wire.MAC(phoneMAC(1)) || rows[0].Addrs[0] != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("the first that moves is told %+v", rows)
	}
	sent, got := tap.sent.Load(), tap.got.Load()
	rows := moves(one, 1, 2, "192.0.2.11", wire.MAC(phoneMAC(9)), wire.MAC(phoneMAC(2)))
	if len(rows) != 1 || rows[0].MAC != wire.MAC(phoneMAC(2)) || rows[0].Addrs[0] != netip.MustParseAddr("192.0.2.22") || rows[0].State != wire.Online {
		t.Errorf("the second is told %+v; want where the first has gone", rows)
	}
	if sent, got := tap.sent.Load()-sent, tap.got.Load()-got; sent != 1 || got != 1 {
		t.Errorf("it took %d datagrams out and %d in; want 1 and 1", sent, got)
	}
	if rows := moves(one, 1, 3, "192.0.2.12"); rows != nil {
		t.Errorf("a phone that names nobody is told %+v", rows)
	}
}

// The first that moves is told where the other is now as soon as that has moved as
// well: with the receipt, and not after it has answered from its new address.
func TestFirstThatMovesIsToldAtOnce(t *testing.T) {
	s := startServer(t, t.TempDir(), "127.0.0.1:0")
	ctx, cancel := context.WithCancel(t.Context())
	one, tap := newPhone(t, t.TempDir(), s.addr, phoneMAC(1))
	two, _ := newPhone(t, t.TempDir(), s.addr, phoneMAC(2))
	for i, c := range []*registry.Client{one, two} {
		if _, err := c.Register(ctx, announcement(phoneMAC(byte(1+i)), 1, "192.0.2.1")); err != nil {
			t.Fatal(err)
		}
	}
	rows := make(chan wire.Row, 64)
	done := make(chan error, 1)
	go func() {
		done <- one.Observe(ctx, wire.Query{MAC: wire.MAC(phoneMAC(2))}, func(r wire.Row, current bool) {
			if current {
				rows <- r
			}
		})
	}()
	<-rows
	twoMoves := func(n int) {
		t.Helper()
		if _, err := two.Register(ctx, announcement(phoneMAC(2), uint64(n+2), fmt.Sprintf("198.51.100.%d", n))); err != nil {
			t.Fatal(err)
		}
		for row := range rows {
			if row.Sequence == uint64(n+2) {
				return
			}
		}
	}
	twoMoves(0) // from now on there is one notification of each
	for n := range 5 {
		if _, err := one.Resolve(ctx, wire.Query{MAC: wire.MAC(phoneMAC(2))}); err != nil { // so that what it has acknowledged has come
			t.Fatal(err)
		}
		if err := one.Move(ctx, netip.AddrFrom4([4]byte{127, 0, 2, byte(n + 1)})); err != nil {
			t.Fatal(err)
		}
		got := tap.got.Load()
		r := announcement(phoneMAC(1), uint64(n+2), fmt.Sprintf("192.0.2.%d", 10+n))
		r.Peers = []wire.MAC{wire.MAC(phoneMAC(2))}
		if _, err := one.Register(ctx, r); err != nil {
			t.Fatal(err)
		}
		twoMoves(1 + n)
		if got := tap.got.Load() - got; got != 2 {
			t.Errorf("%d datagrams came; want the receipt and the notification", got)
		}
	}
	cancel()
	<-done
}

// Who observes hears the present row and each change, in order.
func TestObserve(t *testing.T) {
	s := startServer(t, t.TempDir(), "127.0.0.1:0")
	ctx, cancel := context.WithCancel(t.Context())
	one, _ := newPhone(t, t.TempDir(), s.addr, phoneMAC(1))
	two, _ := newPhone(t, t.TempDir(), s.addr, phoneMAC(2))
	if _, err := one.Register(ctx, announcement(phoneMAC(1), 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	rows := make(chan wire.Row, 64)
	done, blind := make(chan error, 1), 0
	go func() {
		done <- two.Observe(ctx, wire.Query{Number: "101"}, func(r wire.Row, current bool) {
			if current {
				rows <- r
			} else {
				blind++
			}
		})
	}()
	if r := <-rows; r.Sequence != 1 {
		t.Errorf("first row has sequence %d; want 1", r.Sequence)
	}
	for n := uint64(2); n <= 20; n++ {
		if _, err := one.Register(ctx, announcement(phoneMAC(1), n, "192.0.2.2")); err != nil {
			t.Fatal(err)
		}
		if r := <-rows; r.Sequence != n {
			t.Errorf("notified of sequence %d; want %d", r.Sequence, n)
		}
	}
	// The observer moves; the next change reaches it at its new address once
	// it has sent anything from there.
	if err := two.Move(ctx, netip.MustParseAddr("127.0.0.9")); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Resolve(ctx, wire.Query{Number: "101"}); err != nil {
		t.Fatal(err)
	}
	if err := one.Release(ctx, wire.MAC(phoneMAC(1)), 21); err != nil {
		t.Fatal(err)
	}
	if r := <-rows; r.State != wire.Offline {
		t.Errorf("after the release: %+v; want it offline", r)
	}
	if err := s.rows.Forget(ctx, wire.MAC(phoneMAC(1))); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, registry.ErrUnknown) {
		t.Errorf("Observe() of a forgotten row = %v; want ErrUnknown", err)
	}
	if blind != 1 {
		t.Errorf("Observe() says %d times that it is not told of changes; want once, at its end", blind)
	}
	cancel()
}

// A server that shows another key than it did at first is not spoken to.
func TestPinnedServer(t *testing.T) {
	s := startServer(t, t.TempDir(), "127.0.0.1:0")
	phone := t.TempDir()
	c, _ := newPhone(t, phone, s.addr, phoneMAC(1))
	if _, err := c.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	c.Close()
	s.stop()
	other := startServer(t, t.TempDir(), s.addr)
	c, _ = newPhone(t, phone, other.addr, phoneMAC(1))
	if _, err := c.Register(t.Context(), announcement(phoneMAC(1), 2, "192.0.2.1")); !errors.Is(err, registry.ErrServerKey) {
		t.Errorf("Register() at an impostor = %v; want ErrServerKey", err)
	}
	if other.rows.Size() != 0 {
		t.Error("the impostor has a row")
	}
}

// The announcer tells its address again to a server that was restarted, and
// keeps quiet at one that was not.
func TestAnnounceAgainAfterRestart(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, ownAddress())
	phone := t.TempDir()
	c, _ := newPhone(t, phone, s.addr, phoneMAC(1))
	seq, err := registry.OpenSequence(filepath.Join(phone, "sequence"))
	if err != nil {
		t.Fatal(err)
	}
	outcomes := make(chan registry.Outcome, 64)
	a := registry.NewAnnouncer(registry.AnnouncerConfig{
		MAC: wire.MAC(phoneMAC(1)), Ports: wire.Ports{SIP: 5060}, Registrar: c, Link: loopbackLink{c}, Sequence: seq,
		Report: func(o registry.Outcome) { outcomes <- o }, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	a.Update(netlink.Event{Kind: netlink.Bound, Lease: netlink.Lease{
		Prefix: netip.MustParsePrefix("192.0.2.7/24"), Expiry: time.Now().Add(time.Hour),
	}})
	next := func(kind registry.OutcomeKind) registry.Outcome {
		for {
			if o := <-outcomes; o.Kind == kind {
				return o
			}
		}
	}
	first := next(registry.Registered)
	for range 3 {
		s.stop()
		s = startServer(t, dir, s.addr)
		a.Check()
		again := next(registry.Registered)
		if again.Receipt.Sequence <= first.Receipt.Sequence || again.Receipt.Number != "101" {
			t.Errorf("registered again: %+v; want a higher sequence than %d", again.Receipt, first.Receipt.Sequence)
		}
		first = again
	}
	if err := a.Release(ctx); err != nil {
		t.Errorf("Release() = %v", err)
	}
	next(registry.Released)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run() = %v", err)
	}
	if row, ok := s.rows.Resolve(wire.Query{Number: "101"}); !ok || row.State != wire.Offline {
		t.Errorf("row after the release: %+v, %v", row, ok)
	}
}

// loopbackLink keeps the socket on loopback: the announced address is not one
// of this machine's.
type loopbackLink struct{ *registry.Client }

func (loopbackLink) Move(context.Context, ...netip.Addr) error { return nil }

// A phone that a full server turns away is told at once, and leaves it alone for
// a while; where there is another server it goes there.
func TestFullServer(t *testing.T) {
	limits := exchange.DefaultLimits()
	limits.Sessions, limits.Again = 1, 1 // fewer than phones ask on the slowest machine
	full := startLimited(t, t.TempDir(), "127.0.0.1:0", limits)
	first, _ := newPhone(t, t.TempDir(), full.addr, phoneMAC(1))
	if _, err := first.Register(t.Context(), announcement(phoneMAC(1), 1, "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	var turned int
	for n := byte(2); turned < 20; n++ { // some are let try, and told after their handshake
		c, _ := newPhone(t, t.TempDir(), full.addr, phoneMAC(n))
		_, err := c.Register(t.Context(), announcement(phoneMAC(n), 1, "192.0.2.2"))
		var busy *registry.BusyError
		switch {
		case errors.As(err, &busy) && busy.After >= 20*time.Second:
			turned++
		case !errors.Is(err, registry.ErrUnreachable):
			t.Fatalf("phone %d at a full server: %v; want it to be told to wait", n, err)
		}
		c.Close()
		if n == 250 {
			t.Fatalf("%d of 249 phones were turned away without a handshake", turned)
		}
	}
	if _, err := first.Register(t.Context(), announcement(phoneMAC(1), 2, "192.0.2.3")); err != nil {
		t.Errorf("who was there is disturbed: %v", err)
	}
	other := startServer(t, t.TempDir(), "127.0.0.1:0")
	c, _ := newPhone(t, t.TempDir(), full.addr+","+other.addr, phoneMAC(251))
	_, err := c.Register(t.Context(), announcement(phoneMAC(251), 1, "192.0.2.2"))
	if errors.Is(err, registry.ErrUnreachable) { // let try, and told after its handshake: the next try is elsewhere
		_, err = c.Register(t.Context(), announcement(phoneMAC(251), 1, "192.0.2.2"))
	}
	if err != nil {
		t.Errorf("with another server: %v", err)
	}
	if c.Server() != other.addr {
		t.Errorf("it is at %s; want %s", c.Server(), other.addr)
	}
}
