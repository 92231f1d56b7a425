package netlink_test

import (
	"net/netip"
	"os"
	"testing"

	"flexphone/netlink"
	"flexphone/testbed/lab"
	"flexphone/testbed/labtest"
)

// TestMakeBeforeBreak: from one address to another, the kernel never says that
// there is no address or no default route.
func TestMakeBeforeBreak(t *testing.T) {
	if !labtest.Inside(t, 8) {
		return
	}
	here, away := netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("198.51.100.1/24")
	for _, tt := range []struct {
		name string
		next lab.Offer
		move func(*lab.Cable) error
	}{
		{"refused at the renewal", lab.Offer{Server: here, Addr: netip.MustParseAddr("192.0.2.80")},
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
			first := lab.Offer{Server: here, Addr: netip.MustParseAddr("192.0.2.50"), Lease: 120, T1: 3, T2: 60}
			h := newHome(t, provider, first)
			c := h.run(func(cfg netlink.Config) (netlink.Source, error) { return netlink.NewClient(cfg) })
			if e := c.want(netlink.Bound); e.Lease.Addr() != first.Addr {
				t.Errorf("bound to %v", e.Lease.Prefix)
			}
			settled := func(h lab.Holding) bool { return len(h.Addrs) == 1 && !h.Routed.IsZero() }
			if _, ok := h.Watch.Until(ownerPatience, settled); !ok {
				t.Fatal("the kernel says nothing of the first address")
			}
			h.Watch.Forget()

			tt.next.Lease, tt.next.T1, tt.next.T2 = 3600, 1800, 3150
			h.replace(tt.next)
			if err := tt.move(h.Cable); err != nil {
				t.Fatal(err)
			}
			e := c.afterRenewals() // before the server was gone
			if e.Kind != netlink.Bound || e.Lease.Addr() != tt.next.Addr {
				t.Fatalf("%v of %v (%s)", e.Kind, e.Lease.Prefix, e.Reason)
			}
			only := func(h lab.Holding) bool { return settled(h) && !h.Addrs[e.Lease.Prefix].IsZero() }
			if _, ok := h.Watch.Until(ownerPatience, only); !ok {
				t.Fatal("the kernel holds more than the new address, or less")
			}
			var ignores []byte
			must := func(err error) {
				if err != nil {
					t.Fatal(err)
				}
			}
			must(h.Cable.Near.Do(func() (err error) {
				ignores, err = os.ReadFile("/proc/sys/net/ipv4/conf/" + lab.NearName + "/arp_ignore")
				return err
			}))
			if string(ignores) != "0\n" {
				t.Errorf("afterwards arp_ignore is %s", ignores)
			}
			neverBare(t, netip.PrefixFrom(first.Addr, 24), h.Watch.Changes())
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
