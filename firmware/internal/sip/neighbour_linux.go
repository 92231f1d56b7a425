package sip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// askAfter is how long a host on the link may leave us without an answer before
	// its neighbour entry is looked at.
	askAfter = 250 * time.Millisecond
	// askFor is how long it may then leave the kernel without one. The kernel asks
	// for a neighbour each second (retrans_time of arp(7)): three questions, after
	// which it gives up itself, have come to nothing by then. A host on the same link
	// answers the first within milliseconds, or a wireless one that sleeps within a
	// few hundred.
	askFor = 2300 * time.Millisecond
)

// errAbsent: the host does not answer the kernel's ARP or neighbour discovery.
var errAbsent = fmt.Errorf("%w: no such host on the link", errUnreachable)

// absent waits until it is known that nobody on the link has address to, and
// returns errAbsent then; nil means that this is not known. The kernel trusts an
// entry that was good for up to 35 s more (5 s of delay_first_probe_time and three
// probes after base_reachable_time), which is how long a phone that was unplugged
// would seem to be merely slow; so it is asked to prove the entry at once. Without
// the right to ask, nothing is known.
func absent(ctx context.Context, to netip.Addr) error {
	if !pause(ctx, askAfter) {
		return nil
	}
	n, err := neighbour(to)
	if err != nil || n == nil {
		return nil
	}
	const asking = netlink.NUD_INCOMPLETE | netlink.NUD_PROBE | netlink.NUD_FAILED
	if n.State&asking == 0 {
		n.State = netlink.NUD_PROBE
		if err := netlink.NeighSet(n); err != nil {
			return nil
		}
	}
	if !pause(ctx, askFor) {
		return nil
	}
	if n, err = neighbour(to); err == nil && n != nil && n.State&asking != 0 {
		return errAbsent
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// neighbour is the kernel's entry of a host; nil if it is reached by a router, or
// is this host itself, or has an entry that somebody has made for good.
func neighbour(to netip.Addr) (*netlink.Neigh, error) {
	routes, err := netlink.RouteGet(to.AsSlice())
	if err != nil {
		return nil, fmt.Errorf("sip: find neighbour %v: %w", to, err)
	}
	if len(routes) == 0 || routes[0].Gw != nil || routes[0].Type != unix.RTN_UNICAST {
		return nil, nil
	}
	family := netlink.FAMILY_V4
	if to.Is6() {
		family = netlink.FAMILY_V6
	}
	all, err := netlink.NeighList(routes[0].LinkIndex, family)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("sip: find neighbour %v: %w", to, err)
	}
	for i := range all {
		if ip, ok := netip.AddrFromSlice(all[i].IP); ok && ip.Unmap() == to && all[i].State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) == 0 {
			return &all[i], nil
		}
	}
	return nil, nil
}
