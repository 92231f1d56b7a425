package netlink_test

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flexphone/netlink"
	"flexphone/netlink/internal/lab"
	"flexphone/netlink/internal/labtest"
)

// ownerPatience is how long a client of another make may take; it is no measure.
const ownerPatience = 30 * time.Second

// TestWatchBesideOwners: the address is that of systemd-networkd, dhclient or
// udhcpc, which lease it from dnsmasq as they come; Watch tells what becomes of
// it, by what the kernel says alone.
func TestWatchBesideOwners(t *testing.T) {
	if !labtest.Inside(t, 8) {
		return
	}
	provider := lab.Providers()[0]
	for _, p := range append([]lab.Peer{lab.Networkd()}, lab.Peers()...) {
		name := filepath.Base(p.Name)
		if p.Release == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			for _, why := range []string{p.Missing(), provider.Missing()} {
				if why != "" {
					t.Skip(why)
				}
			}
			t.Parallel()
			// That of udhcpc is an address without an end, so a renewal cannot be seen.
			watchOwner(t, p, provider, name != "udhcpc")
		})
	}
}

func watchOwner(t *testing.T, p lab.Peer, provider lab.Provider, renewals bool) {
	home := netip.MustParsePrefix("192.0.2.1/24")
	first, second := netip.MustParseAddr("192.0.2.50"), netip.MustParseAddr("192.0.2.80")
	offer := lab.Offer{Server: home, Addr: first, Lease: 120, T1: 3, T2: 9}
	cable, err := lab.NewCable(home)
	if err != nil {
		t.Fatal(err)
	}
	defer cable.Close()
	if err := cable.Bare(); err != nil {
		t.Fatal(err)
	}
	state := t.TempDir()
	service, err := provider.Start(cable, state, offer)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { service.Stop() }()
	w := watchNear(t, cable)

	dir := t.TempDir()
	owner, err := p.Start(cable.Near, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		owner.Kill()
		if log, _ := os.ReadFile(filepath.Join(dir, "log")); t.Failed() {
			t.Logf("%s:\n%s", p.Name, log)
		}
	}()
	e := w.want(netlink.Bound)
	if e.Lease.Addr() != first || e.Lease.Router != home.Addr() || e.Lease.Expiry.IsZero() == renewals {
		t.Errorf("bound to %+v", e.Lease)
	}
	if renewals {
		if r := w.want(netlink.Renewed); r.Lease.Prefix != e.Lease.Prefix || !r.Lease.Expiry.After(e.Lease.Expiry) {
			t.Errorf("renewed %v until %v; had it until %v", r.Lease.Prefix, r.Lease.Expiry, e.Lease.Expiry)
		}
	}

	// The server refuses the next renewal, and gives another address.
	service.Stop()
	if err := os.Remove(filepath.Join(state, "leases")); err != nil {
		t.Fatal(err)
	}
	offer.Addr, offer.T1, offer.T2, offer.Lease = second, 1800, 3150, 3600
	if service, err = provider.Start(cable, state, offer); err != nil {
		t.Fatal(err)
	}
	if p.Renew != nil {
		if err := p.Renew(owner); err != nil {
			t.Fatal(err)
		}
	}
	e = w.next()
	for e.Kind == netlink.Renewed && renewals { // before the server was gone
		e = w.next()
	}
	if e.Kind != netlink.Bound || e.Lease.Addr() != second {
		t.Errorf("%v of %v; want that of %v, and no gap told", e.Kind, e.Lease.Prefix, second)
	}

	if err := cable.Unplug(); err != nil {
		t.Fatal(err)
	}
	if e := w.want(netlink.Lost); e.Reason != "link down" || e.Lease.Addr() != second {
		t.Errorf("lost %v because %q", e.Lease.Prefix, e.Reason)
	}
	if err := cable.Plug(); err != nil {
		t.Fatal(err)
	}
	if e := w.want(netlink.Bound); e.Lease.Addr() != second {
		t.Errorf("came back as %v", e.Lease.Prefix)
	}

	if err := p.Release(cable.Near, owner, dir); err != nil {
		t.Fatal(err)
	}
	e = w.next()
	for e.Kind == netlink.Renewed && renewals { // when the cable was back
		e = w.next()
	}
	if e.Kind != netlink.Lost || e.Lease.Addr() != second {
		t.Errorf("%v of %v (%s)", e.Kind, e.Lease.Prefix, e.Reason)
	}
}

// watchNear watches the near end of a cable.
func watchNear(t *testing.T, c *lab.Cable) follower {
	t.Helper()
	s, err := netlink.Watch(netlink.Config{
		Interface: lab.NearName, Log: slog.New(slog.NewTextHandler(logWriter{t}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return follow(t, c, s)
}

type logWriter struct{ t *testing.T }

func (w logWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}
