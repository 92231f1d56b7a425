package netlink_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"flexphone/netlink"
	"flexphone/netlink/internal/lab"
	"flexphone/netlink/internal/labtest"
)

// TestMakeBeforeBreak: from one address to another, the kernel never says that
// there is no address or no default route.
func TestMakeBeforeBreak(t *testing.T) {
	if !labtest.Inside(t, 8) {
		return
	}
	home, away := netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("198.51.100.1/24")
	for _, tt := range []struct {
		name string
		next lab.Offer
		move func(*lab.Cable) error
	}{
		{"refused at the renewal", lab.Offer{Server: home, Addr: netip.MustParseAddr("192.0.2.80")},
			func(*lab.Cable) error { return nil }},
		{"the cable in another network", lab.Offer{Server: away, Addr: netip.MustParseAddr("198.51.100.80")},
			func(c *lab.Cable) error { return c.Blink() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			provider := lab.Providers()[0]
			if why := provider.Missing(); why != "" {
				t.Skip(why)
			}
			cable, err := lab.NewCable(home)
			if err != nil {
				t.Fatal(err)
			}
			defer cable.Close()
			if err := cable.Bare(); err != nil {
				t.Fatal(err)
			}
			state := t.TempDir()
			first := lab.Offer{Server: home, Addr: netip.MustParseAddr("192.0.2.50"), Lease: 120, T1: 3, T2: 60}
			service, err := provider.Start(cable, state, first)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { service.Stop() }()
			c := clientNear(t, cable)
			if e := c.want(netlink.Bound); e.Lease.Addr() != first.Addr {
				t.Errorf("bound to %v", e.Lease.Prefix)
			}
			settled := func(h lab.Holding) bool { return len(h.Addrs) == 1 && !h.Routed.IsZero() }
			if _, ok := cable.Watch.Until(ownerPatience, settled); !ok {
				t.Fatal("the kernel says nothing of the first address")
			}
			cable.Watch.Forget()

			service.Stop()
			if err := os.Remove(filepath.Join(state, "leases")); err != nil {
				t.Fatal(err)
			}
			if err := cable.SetFar(tt.next.Server); err != nil {
				t.Fatal(err)
			}
			tt.next.Lease, tt.next.T1, tt.next.T2 = 3600, 1800, 3150
			if service, err = provider.Start(cable, state, tt.next); err != nil {
				t.Fatal(err)
			}
			if err := tt.move(cable); err != nil {
				t.Fatal(err)
			}
			e := c.next()
			for e.Kind == netlink.Renewed { // before the server was gone
				e = c.next()
			}
			if e.Kind != netlink.Bound || e.Lease.Addr() != tt.next.Addr {
				t.Fatalf("%v of %v (%s)", e.Kind, e.Lease.Prefix, e.Reason)
			}
			only := func(h lab.Holding) bool { return settled(h) && !h.Addrs[e.Lease.Prefix].IsZero() }
			if _, ok := cable.Watch.Until(ownerPatience, only); !ok {
				t.Fatal("the kernel holds more than the new address, or less")
			}
			neverBare(t, netip.PrefixFrom(first.Addr, 24), cable.Watch.Changes())
		})
	}
}

// neverBare follows what the kernel said since held was the only address.
func neverBare(t *testing.T, held netip.Prefix, changes []lab.Change) {
	t.Helper()
	addrs, routed := map[netip.Prefix]bool{held: true}, true
	for _, c := range changes {
		switch {
		case !c.Prefix.IsValid():
			routed = !c.Gone
		case c.Gone:
			delete(addrs, c.Prefix)
		default:
			addrs[c.Prefix] = true
		}
		if len(addrs) == 0 || !routed {
			t.Errorf("at %v of %v there are the addresses %v, and a route: %v", c, changes, addrs, routed)
			return
		}
	}
}

// clientNear runs our client at the near end of a cable.
func clientNear(t *testing.T, c *lab.Cable) follower {
	t.Helper()
	s, err := netlink.NewClient(netlink.Config{
		Interface: lab.NearName, Log: slog.New(slog.NewTextHandler(logWriter{t}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return follow(t, c, s)
}

// A follower is a Source at the near end of a cable, with who waits for its events.
type follower struct {
	netlink.Source
	t *testing.T
}

func follow(t *testing.T, c *lab.Cable, s netlink.Source) follower {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Near.Do(func() error { return s.Run(ctx) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return follower{s, t}
}

func (f follower) next() netlink.Event {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), ownerPatience)
	defer cancel()
	e, err := f.Next(ctx)
	if err != nil {
		f.t.Fatalf("no event: %v", err)
	}
	return e
}

func (f follower) want(kind netlink.EventKind) netlink.Event {
	f.t.Helper()
	e := f.next()
	if e.Kind != kind {
		f.t.Fatalf("event %v of %v (%s); want %v", e.Kind, e.Lease.Prefix, e.Reason, kind)
	}
	return e
}
