package netlink_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"flexphone/netlink"
	"flexphone/testbed/lab"
	"flexphone/testbed/labtest"
)

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
	server := netip.MustParsePrefix("192.0.2.1/24")
	first, second := netip.MustParseAddr("192.0.2.50"), netip.MustParseAddr("192.0.2.80")
	h := newHome(t, provider, lab.Offer{Server: server, Addr: first, Lease: 120, T1: 3, T2: 9})
	w := h.run(netlink.Watch)

	dir := t.TempDir()
	owner, err := p.Start(h.Near, dir)
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
	if e.Lease.Addr() != first || e.Lease.Router != server.Addr() || e.Lease.Expiry.IsZero() == renewals {
		t.Errorf("bound to %+v", e.Lease)
	}
	next := w.next
	if renewals {
		if r := w.want(netlink.Renewed); r.Lease.Prefix != e.Lease.Prefix || !r.Lease.Expiry.After(e.Lease.Expiry) {
			t.Errorf("renewed %v until %v; had it until %v", r.Lease.Prefix, r.Lease.Expiry, e.Lease.Expiry)
		}
		next = w.afterRenewals
	}

	// The server refuses the next renewal, and gives another address.
	h.replace(lab.Offer{Server: server, Addr: second, Lease: 3600, T1: 1800, T2: 3150})
	if p.Renew != nil {
		if err := p.Renew(owner); err != nil {
			t.Fatal(err)
		}
	}
	if e := next(); e.Kind != netlink.Bound || e.Lease.Addr() != second {
		t.Errorf("%v of %v; want that of %v, and no gap told", e.Kind, e.Lease.Prefix, second)
	}

	if err := h.Unplug(); err != nil {
		t.Fatal(err)
	}
	if e := w.want(netlink.Lost); e.Reason != "link down" || e.Lease.Addr() != second {
		t.Errorf("lost %v because %q", e.Lease.Prefix, e.Reason)
	}
	if err := h.Plug(); err != nil {
		t.Fatal(err)
	}
	if e := w.want(netlink.Bound); e.Lease.Addr() != second {
		t.Errorf("came back as %v", e.Lease.Prefix)
	}

	if err := p.Release(h.Near, owner, dir); err != nil {
		t.Fatal(err)
	}
	if e := next(); e.Kind != netlink.Lost || e.Lease.Addr() != second {
		t.Errorf("%v of %v (%s)", e.Kind, e.Lease.Prefix, e.Reason)
	}
}
