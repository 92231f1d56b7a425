package netlink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	rtnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"flexphone/netlink/internal/link"
)

// leaseRoutes returns the routes of l, those of its router first.
func leaseRoutes(index int, l Lease) []rtnl.Route {
	var out []rtnl.Route
	add := func(dst netip.Prefix, via netip.Addr) {
		r := rtnl.Route{
			LinkIndex: index, Dst: ipNet(dst), Src: l.Addr().AsSlice(), Protocol: unix.RTPROT_DHCP,
			Scope: rtnl.SCOPE_LINK, Family: unix.AF_INET, Priority: l.Metric,
		}
		if l.MTU < minMTU6 {
			r.MTU = l.MTU
		}
		if via.IsValid() {
			r.Gw, r.Scope = via.AsSlice(), rtnl.SCOPE_UNIVERSE
			if !l.Prefix.Contains(via) || l.Prefix.Bits() == 32 {
				r.Flags = int(rtnl.FLAG_ONLINK)
			}
		}
		out = append(out, r)
	}
	for _, r := range l.Routes {
		if !r.Via.IsValid() {
			add(r.Dst, r.Via) // on the link: routers behind it need it
		}
	}
	if l.Router.IsValid() {
		add(netip.PrefixFrom(netip.IPv4Unspecified(), 0), l.Router)
	}
	for _, r := range l.Routes {
		if r.Via.IsValid() {
			add(r.Dst, r.Via)
		}
	}
	return out
}

// How often, and how soon again, the kernel asks for a neighbour. By itself it does
// three times, each second: a call is mute for a second when the first request meets
// a cable that is just being plugged in, at either end. RFC 1122, section 2.3.2.1,
// recommends a second against floods of requests; a telephone talks to a handful of
// hosts. The three seconds stay, after which whoever connects is told that there is
// nobody.
const (
	arpRetry = 200 * time.Millisecond
	arpTries = 15
)

// hastenARP makes it so on an interface, unless somebody has it sooner. Where that is
// not allowed, a call is mute for a second.
func hastenARP(ifname string) {
	folder := filepath.Join("/proc/sys/net/ipv4/neigh", ifname)
	b, err := os.ReadFile(filepath.Join(folder, "retrans_time_ms"))
	if err != nil {
		return
	}
	if ms, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err != nil || ms <= arpRetry.Milliseconds() {
		return
	}
	for name, value := range map[string]int64{"mcast_solicit": arpTries, "retrans_time_ms": arpRetry.Milliseconds()} {
		_ = os.WriteFile(filepath.Join(folder, name), strconv.AppendInt(nil, value, 10), 0o644)
	}
}

// noAnswers of arp_ignore has the kernel answer no request for an address of its own.
const noAnswers = "8"

// answerARP has the kernel answer for the addresses of an interface, or not: while one was
// refused, and there is no other yet, two phones that are given each other's would each find
// its new one in use. Whatever else an operator has set stays. Where that is not allowed,
// each declines one address.
func answerARP(ifname string, yes bool) {
	file := filepath.Join("/proc/sys/net/ipv4/conf", ifname, "arp_ignore")
	b, err := os.ReadFile(file)
	switch now := strings.TrimSpace(string(b)); {
	case err != nil:
	case yes && now == noAnswers: // maybe of a life that was killed
		_ = os.WriteFile(file, []byte("0"), 0o644)
	case !yes && now == "0":
		_ = os.WriteFile(file, []byte(noAnswers), 0o644)
	}
}

// A site is an interface as a lease is installed on it.
type site struct {
	ifname string
	index  int
	mtu    int // what it can send at most; 0: an Ethernet's
	// refused are the routes that the kernel did not take, which are not missed.
	refused []rtnl.Route
}

// install makes l usable before anything else, and before it takes old away, so that
// the host is never without an address: the new address, its routes, then the old
// address. An address that an earlier life of this process left behind goes too. A
// route that the kernel refuses is no reason to have no address: it is in refused
// afterwards.
func (s *site) install(l, old Lease, now time.Time) error {
	defer answerARP(s.ifname, true) // once the old address is gone
	if l.MTU != 0 || old.MTU != 0 { // what the last network asked for does not hold here
		if li, err := link.Read(s.ifname); err == nil && li.MTU != s.mtuFor(l) {
			// A driver that cannot do it is no reason to have no address.
			_ = rtnl.LinkSetMTU(link.Of(s.index), s.mtuFor(l))
		}
	}
	addr := &rtnl.Addr{IPNet: ipNet(l.Prefix)}
	if !l.Expiry.IsZero() {
		addr.ValidLft = int(max((l.Expiry.Sub(now)+time.Second-1)/time.Second, 1))
		addr.PreferedLft = addr.ValidLft
	} else {
		var forever = lifeForever // as a variable, since an int of 32 bits holds it as -1
		addr.ValidLft, addr.PreferedLft = int(forever), int(forever)
	}
	if l.Broadcast.IsValid() {
		addr.Broadcast = l.Broadcast.AsSlice()
	}
	if err := rtnl.AddrReplace(link.Of(s.index), addr); err != nil {
		return fmt.Errorf("netlink: install %v: add address: %w", l.Prefix, link.Needs(link.CapAdmin, err))
	}
	routes := leaseRoutes(s.index, l)
	s.refused = nil
	for _, r := range routes {
		if err := rtnl.RouteReplace(&r); err != nil {
			s.refused = append(s.refused, r)
		}
	}
	s.tune(l)
	for _, r := range leaseRoutes(s.index, old) {
		if !hasRoute(routes, r) {
			_ = rtnl.RouteDel(&r) // gone already, or soon with its address
		}
	}
	return removeOthers(s.index, l, old)
}

// tune sets what the interface does with addresses and neighbours, as far as that is
// allowed.
func (s *site) tune(l Lease) {
	// Without it, deleting an old address deletes new ones of its network.
	promote := filepath.Join("/proc/sys/net/ipv4/conf", s.ifname, "promote_secondaries")
	if b, err := os.ReadFile(promote); err == nil && string(b) != "1\n" {
		// Where it is read-only, what gets lost is noticed and put back.
		_ = os.WriteFile(promote, []byte("1"), 0o644)
	}
	hastenARP(s.ifname)
	if l.Metric != 0 {
		// A cable that is out must not attract what another interface could send.
		_ = os.WriteFile(filepath.Join("/proc/sys/net/ipv4/conf", s.ifname, "ignore_routes_with_linkdown"), []byte("1"), 0o644)
	}
}

// Install puts the address and the routes of l on the interface that it names, for a
// Source that makes an address itself. A route that the kernel refuses is no error.
func Install(l Lease) error {
	at, err := link.Read(l.Interface)
	if err != nil {
		return err
	}
	s := site{ifname: l.Interface, index: at.Index}
	return s.install(l, Lease{}, time.Now())
}

// Uninstall takes away what Install put there, as far as it still is.
func Uninstall(l Lease) error {
	at, err := link.Read(l.Interface)
	if err != nil {
		return err
	}
	return removeLease(at.Index, l)
}

// mtuFor is the link's for l: not more than it can send, whatever a server says,
// and not less than IPv6 needs, which would take that away (RFC 8200 §5). A
// network that wants less of IPv4 has it from the routes.
func (s *site) mtuFor(l Lease) int {
	most := max(s.mtu, etherMTU)
	if l.MTU == 0 {
		return most
	}
	return max(min(l.MTU, most), minMTU6)
}

// notTaken says in words what was refused.
func (s *site) notTaken() string {
	var out []string
	for _, r := range s.refused {
		out = append(out, fmt.Sprintf("%v via %v", prefixOf(r.Dst), addrFrom(r.Gw)))
	}
	return strings.Join(out, ", ")
}

// minMTU6 is the least MTU of a link with IPv6.
const minMTU6 = 1280

// etherMTU is an Ethernet's when nothing else is said.
const etherMTU = 1500

// lifeForever is INFINITY_LIFE_TIME of rtnetlink.
const lifeForever uint32 = 0xffffffff

// removeOthers removes old's address and whatever else was leased on the
// interface, but not what somebody configured there for good.
func removeOthers(index int, l, old Lease) error {
	addrs, err := rtnl.AddrList(link.Of(index), unix.AF_INET)
	if err != nil {
		return fmt.Errorf("netlink: install %v: list addresses: %w", l.Prefix, err)
	}
	for _, a := range addrs {
		p := prefixOf(a.IPNet)
		leased := a.Flags&unix.IFA_F_PERMANENT == 0
		if p == l.Prefix || p != old.Prefix && !leased {
			continue
		}
		if err := rtnl.AddrDel(link.Of(index), &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("netlink: remove %v: %w", p, link.Needs(link.CapAdmin, err))
		}
	}
	return nil
}

// removeLease takes the address and its routes away.
func removeLease(index int, l Lease) error {
	for _, r := range leaseRoutes(index, l) {
		_ = rtnl.RouteDel(&r) // the kernel may have removed it with the link
	}
	err := rtnl.AddrDel(link.Of(index), &rtnl.Addr{IPNet: ipNet(l.Prefix)})
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("netlink: remove %v: %w", l.Prefix, link.Needs(link.CapAdmin, err))
	}
	return nil
}

// has reports whether l's address and routes are on the interface.
func (s *site) has(l Lease) (bool, error) {
	have, err := readAddresses(s.index)
	if err != nil {
		return false, err
	}
	found := false
	for _, a := range have.addrs {
		found = found || a.prefix == l.Prefix
	}
	for _, r := range leaseRoutes(s.index, l) {
		found = found && (hasRoute(have.routes, r) || hasRoute(s.refused, r))
	}
	return found, nil
}

func hasRoute(list []rtnl.Route, want rtnl.Route) bool {
	for _, r := range list {
		if r.LinkIndex == want.LinkIndex && prefixOf(r.Dst) == prefixOf(want.Dst) && r.Gw.Equal(want.Gw) && r.Priority == want.Priority &&
			(want.Src == nil || r.Src.Equal(want.Src)) {
			return true
		}
	}
	return false
}

// addresses is what an interface holds of IPv4.
type addresses struct {
	addrs  []heldAddress
	routes []rtnl.Route
}

// readAddresses dumps the global IPv4 addresses and the routes of the main
// table. A dump that was interrupted by a change is taken again.
func readAddresses(index int) (addresses, error) {
	var s addresses
	list, err := again(func() ([]rtnl.Addr, error) { return rtnl.AddrList(link.Of(index), unix.AF_INET) })
	if err != nil {
		return s, fmt.Errorf("netlink: list addresses: %w", err)
	}
	for _, a := range list {
		if a.Scope != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		out := heldAddress{prefix: prefixOf(a.IPNet), secondary: a.Flags&unix.IFA_F_SECONDARY != 0}
		if uint32(a.ValidLft) != lifeForever {
			out.life = time.Duration(a.ValidLft) * time.Second
		}
		s.addrs = append(s.addrs, out)
	}
	s.routes, err = again(func() ([]rtnl.Route, error) {
		return rtnl.RouteListFiltered(unix.AF_INET, &rtnl.Route{LinkIndex: index}, rtnl.RT_FILTER_OIF)
	})
	if err != nil {
		return s, fmt.Errorf("netlink: list routes: %w", err)
	}
	return s, nil
}

func again[T any](dump func() ([]T, error)) ([]T, error) {
	for try := 0; ; try++ {
		list, err := dump()
		if try < 10 && errors.Is(err, rtnl.ErrDumpInterrupted) {
			continue
		}
		return list, err
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// prefixOf is the inverse of ipNet; no net is the default route's.
func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addrFrom(n.IP), ones)
}
