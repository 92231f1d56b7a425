package netlink

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/netlink/internal/isptest"
)

func TestWatchFollowsOthers(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	isptest.New(t, isptest.Addr)
	isptest.IP(t, "link", "set", "eth0", "up")
	w, err := Watch(testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, w)
	// At once: a second later it would be an address without a router.
	isptest.Feed(t, `address add 10.77.0.20/24 dev eth0 valid_lft 100 preferred_lft 100
route add default via 10.77.0.1 src 10.77.0.20
`, "ip", "-batch", "-")
	l := s.want(Bound).Lease
	if l.Prefix.String() != "10.77.0.20/24" || l.Router.String() != "10.77.0.1" || l.Expiry.IsZero() || l.MAC.String() != isptest.MAC {
		t.Errorf("lease is %+v", l)
	}
	isptest.IP(t, "address", "change", "10.77.0.20/24", "dev", "eth0", "valid_lft", "900", "preferred_lft", "900")
	if r := s.want(Renewed).Lease; !r.Expiry.After(l.Expiry) {
		t.Errorf("renewed until %v; was %v", r.Expiry, l.Expiry)
	}
	// A client that breaks before it makes: no Lost in between.
	isptest.Feed(t, `address flush dev eth0
address add 10.77.0.21/24 dev eth0
route add default via 10.77.0.1
`, "ip", "-batch", "-")
	if l := s.want(Bound).Lease; l.Prefix.String() != "10.77.0.21/24" || !l.Expiry.IsZero() {
		t.Errorf("lease is %+v", l)
	}
	isptest.IP(t, "link", "set", "eth0", "down")
	if e := s.want(Lost); e.Reason != "link down" {
		t.Errorf("lost because %q", e.Reason)
	}
	isptest.IP(t, "link", "set", "eth0", "up") // the kernel keeps the address, not the route
	if l := s.want(Bound).Lease; l.Prefix.String() != "10.77.0.21/24" || l.Router.IsValid() {
		t.Errorf("lease is %+v", l)
	}
}

func TestWatchSurvivesAStorm(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	isptest.New(t, isptest.Addr)
	isptest.IP(t, "link", "set", "eth0", "up")
	w, err := Watch(testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, w)
	isptest.Feed(t, "address add 10.77.0.20/24 dev eth0\nroute add default via 10.77.0.1\n", "ip", "-batch", "-")
	s.want(Bound)
	var batch strings.Builder
	for range 4000 {
		batch.WriteString("address add 198.51.100.1/32 dev eth0\naddress del 198.51.100.1/32 dev eth0\n")
	}
	batch.WriteString("route del default\naddress del 10.77.0.20/24 dev eth0\naddress add 10.77.0.99/24 dev eth0\nroute add default via 10.77.0.1\n")
	isptest.Feed(t, batch.String(), "ip", "-batch", "-")
	s.until("the last address", func(e Event) bool { return e.Lease.Prefix.String() == "10.77.0.99/24" })
}

func TestStaticYieldsToAnotherHost(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	i := isptest.New(t, isptest.Addr)
	i.Inside("ip", "address", "add", "10.77.0.9/32", "dev", "lo") // answers ARP
	cfg, complaints := testConfig(t), make(complaint, 8)
	cfg.Log = slog.New(slog.NewTextHandler(complaints, &slog.HandlerOptions{Level: slog.LevelError}))
	src, err := Static(cfg, Fixed{Prefix: netip.MustParsePrefix("10.77.0.9/24"), Router: netip.MustParseAddr("10.77.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, src)
	select {
	case text := <-complaints:
		if !strings.Contains(text, "another host uses our fixed address") {
			t.Errorf("the log says %q", text)
		}
	case <-time.After(isptest.Patience):
		t.Fatal("the conflict was never seen")
	}
	s.Stop()
	for { // bound, perhaps, when its end of the cable was not ready for the first probe
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		e, err := src.Next(ctx)
		if err != nil {
			break
		}
		if e.Kind == Lost && e.Reason != "conflict" && e.Reason != "released" {
			t.Errorf("lost because %q", e.Reason)
		}
	}
	if addrs := isptest.IP(t, "-4", "address", "show", "dev", "eth0"); strings.Contains(addrs, "inet") {
		t.Errorf("the address is still there: %s", addrs)
	}
}

// A complaint gets what a log says.
type complaint chan string

func (c complaint) Write(b []byte) (int, error) {
	select {
	case c <- string(b):
	default:
	}
	return len(b), nil
}

// A point-to-point link as pppd makes it: no hardware address, a peer instead
// of a network, a default route without a router.
func TestWatchFollowsAPointToPointLink(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	cfg := testConfig(t)
	cfg.Interface = "ppp0"
	w, err := Watch(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, w)
	dial := func(addr string) (hangUp func()) {
		t.Helper()
		tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
		if err != nil {
			t.Skipf("needs the tun device: %v", err)
		}
		ifr, err := unix.NewIfreq("ppp0")
		if err != nil {
			t.Fatal(err)
		}
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(int(tun.Fd()), unix.TUNSETIFF, ifr); err != nil {
			t.Fatal(err)
		}
		isptest.IP(t, "link", "set", "ppp0", "up")
		isptest.IP(t, "address", "add", addr, "peer", "100.64.0.1", "dev", "ppp0")
		isptest.IP(t, "route", "add", "default", "dev", "ppp0")
		return func() { tun.Close() }
	}
	hangUp := dial("100.64.3.7")
	if l := s.want(Bound).Lease; l.Addr().String() != "100.64.3.7" || l.Router.IsValid() || l.MAC != (MAC{}) {
		t.Errorf("lease is %+v", l)
	}
	hangUp() // the provider does, once a day, and gives another address
	defer dial("100.64.9.1")()
	e := s.Any()
	if e.Kind == Lost { // a slow machine
		e = s.Any()
	}
	if e.Lease.Addr().String() != "100.64.9.1" {
		t.Errorf("lease is %+v", e.Lease)
	}
}

func TestStaticKeepsAnAddress(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	isptest.New(t, isptest.Addr)
	cfg := testConfig(t)
	src, err := Static(cfg, Fixed{
		Prefix: netip.MustParsePrefix("10.77.0.9/24"), Router: netip.MustParseAddr("10.77.0.1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, src)
	l := s.want(Bound).Lease
	assertInstalled(t, l)
	isptest.IP(t, "address", "flush", "dev", "eth0")
	isptest.Eventually(t, "the route is back", func() bool {
		return strings.Contains(isptest.IP(t, "route", "show", "default"), "10.77.0.1")
	})
	assertInstalled(t, l)
	s.Stop()
	if e := s.want(Lost); e.Reason != "released" {
		t.Errorf("lost because %q", e.Reason)
	}
	if addrs := isptest.IP(t, "-4", "address", "show", "dev", "eth0"); strings.Contains(addrs, "inet") {
		t.Errorf("the address is still there: %s", addrs)
	}
}
