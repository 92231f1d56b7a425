package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	rtnl "github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"flexphone/netlink/internal/link"
)

// What the kernel holds of IPv6, and how it is changed.

func (s *six) install(a install6) error {
	now := s.clock.now()
	life := func(t time.Time) int {
		if t.IsZero() {
			var forever = lifeForever
			return int(forever)
		}
		return int(max((t.Sub(now)+time.Second-1)/time.Second, 1))
	}
	addr := &rtnl.Addr{
		IPNet:    ipNet(netip.PrefixFrom(a.lease.addr, 128)),
		ValidLft: life(a.lease.valid), PreferedLft: life(a.lease.preferred),
	}
	if err := rtnl.AddrReplace(link.Of(s.agent.link.Index), addr); err != nil {
		if link.IsGone(err) {
			return nil
		}
		return fmt.Errorf("netlink: install %v: add address: %w", a.lease.addr, link.Needs(link.CapAdmin, err))
	}
	if a.old.addr.IsValid() && a.old.addr != a.lease.addr {
		return removeAddr6(s.agent.link.Index, a.old.addr)
	}
	return nil
}

func removeAddr6(index int, a netip.Addr) error {
	err := rtnl.AddrDel(link.Of(index), &rtnl.Addr{IPNet: ipNet(netip.PrefixFrom(a, 128))})
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !link.IsGone(err) {
		return fmt.Errorf("netlink: remove %v: %w", a, link.Needs(link.CapAdmin, err))
	}
	return nil
}

// Flags of IFLA_INET6_FLAGS (linux/if_link.h, net/if_inet6.h).
const (
	ifRAManaged = 0x40
	ifRAOther   = 0x80
)

// routerFlags returns what the last router advertisement on the link asked for.
func routerFlags(index int) (uint32, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	info := nl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index = int32(index)
	req.AddData(info)
	msgs, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if link.IsGone(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("netlink: read router flags: %w", err)
	}
	for _, b := range msgs {
		if len(b) < unix.SizeofIfInfomsg {
			continue
		}
		b = attribute(b[unix.SizeofIfInfomsg:], unix.IFLA_AF_SPEC)
		b = attribute(attribute(b, unix.AF_INET6), unix.IFLA_INET6_FLAGS)
		if len(b) >= 4 {
			return binary.NativeEndian.Uint32(b), nil
		}
	}
	return 0, nil
}

// attribute returns the value of a netlink attribute, nil when it is absent. The last
// one may lack what fills it up to four bytes, which nl.ParseRouteAttr does not expect.
func attribute(b []byte, kind uint16) []byte {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED == kind {
			return b[unix.SizeofRtAttr:n]
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}

// readHeld6 reads what the kernel holds of IPv6 on an interface.
func readHeld6(l link.State) (held held6, err error) {
	if l.Index == 0 {
		return held6{}, nil
	}
	if held.sight, held.local, held.doubled, err = see6(l); err != nil {
		return held6{}, err
	}
	held.answering = answering(l.Index, held.sight.routers)
	flags, err := routerFlags(l.Index)
	held.managed, held.other = flags&ifRAManaged != 0, flags&ifRAOther != 0
	return held, err
}

// see6 reads what the interface holds; local is the link-local address once it
// can be used, doubled a leased address that another host has.
func see6(l link.State) (s sight6, local, doubled netip.Addr, err error) {
	s = sight6{mac: l.MAC, running: l.Running}
	ages, err := again(func() ([]toldAddr, error) { return toldAges(l.Index) })
	if err != nil {
		return s, local, doubled, fmt.Errorf("netlink: list IPv6 addresses: %w", err)
	}
	list, err := again(func() ([]rtnl.Addr, error) { return rtnl.AddrList(link.Of(l.Index), unix.AF_INET6) })
	if err != nil {
		return s, local, doubled, fmt.Errorf("netlink: list IPv6 addresses: %w", err)
	}
	const unusable = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED | unix.IFA_F_DEPRECATED | unix.IFA_F_TEMPORARY
	for _, a := range list {
		p := prefixOf(a.IPNet)
		switch {
		case a.Flags&unix.IFA_F_DADFAILED != 0:
			doubled = p.Addr()
		case a.Flags&unusable != 0:
		case a.Scope == unix.RT_SCOPE_LINK:
			local = p.Addr()
		case a.Scope == unix.RT_SCOPE_UNIVERSE:
			h := heldAddress{prefix: p}
			if uint32(a.ValidLft) != lifeForever {
				h.life = time.Duration(a.ValidLft) * time.Second
			}
			for _, told := range ages {
				if told.addr == p.Addr() {
					h.six.age = told.age
				}
			}
			s.addrs = append(s.addrs, h)
		}
	}
	routes, err := again(func() ([]rtnl.Route, error) {
		return rtnl.RouteListFiltered(unix.AF_INET6, &rtnl.Route{LinkIndex: l.Index}, rtnl.RT_FILTER_OIF)
	})
	if err != nil {
		return s, local, doubled, fmt.Errorf("netlink: list IPv6 routes: %w", err)
	}
	for _, r := range routes {
		if isDefault(r) && (!s.routed || len(r.Gw) > 0 && !s.router.IsValid()) {
			s.routed, s.router = true, addrFrom(r.Gw)
		}
		if isDefault(r) && len(r.Gw) > 0 {
			s.routers = append(s.routers, addrFrom(r.Gw))
		}
	}
	return s, local, doubled, nil
}

// A toldAddr is an address, and how long ago the kernel was last told to have it, by
// a router or by us. The codec leaves that out.
type toldAddr struct {
	addr netip.Addr
	age  time.Duration
}

func toldAges(index int) (out []toldAddr, err error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfAddrmsg(unix.AF_INET6))
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	if err != nil {
		return nil, err
	}
	for _, b := range msgs {
		if len(b) < unix.SizeofIfAddrmsg || int(nl.DeserializeIfAddrmsg(b).Index) != index {
			continue
		}
		attrs := b[unix.SizeofIfAddrmsg:]
		a, ok := netip.AddrFromSlice(attribute(attrs, unix.IFA_ADDRESS))
		info := attribute(attrs, unix.IFA_CACHEINFO) // struct ifa_cacheinfo: the last is tstamp
		if ok && len(info) >= 16 {
			// In hundredths of a second of a clock that stands still in sleep, as
			// CLOCK_MONOTONIC does.
			var now unix.Timespec
			_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
			told := time.Duration(binary.NativeEndian.Uint32(info[12:])) * 10 * time.Millisecond
			out = append(out, toldAddr{a, time.Duration(now.Nano()) - told})
		}
	}
	return out, nil
}

// answering returns those of the routers that answer, as far as the kernel knows: it
// uses no other while there is one (RFC 4861 §6.3.6).
func answering(index int, routers []netip.Addr) []netip.Addr {
	list, err := again(func() ([]rtnl.Neigh, error) { return rtnl.NeighList(index, unix.AF_INET6) })
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(routers), func(router netip.Addr) bool {
		return !slices.ContainsFunc(list, func(n rtnl.Neigh) bool {
			return addrFrom(n.IP) == router && n.State&(unix.NUD_FAILED|unix.NUD_INCOMPLETE) == 0 && n.State != 0
		})
	})
}

// deprecate has the kernel begin nothing new from an address, which stays valid for
// its time. A router that says its prefix again undoes it.
func deprecate(index int, a heldAddress) error {
	var life = lifeForever
	if a.life > 0 {
		life = uint32(a.life / time.Second)
	}
	return link.Needs(link.CapAdmin, rtnl.AddrReplace(link.Of(index), &rtnl.Addr{IPNet: ipNet(a.prefix), ValidLft: int(life), PreferedLft: 0}))
}

func isDefault(r rtnl.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}

// flushRouted removes what router advertisements made, and the address leased.
func flushRouted(index int, leased netip.Addr) error {
	addrs, err := again(func() ([]rtnl.Addr, error) { return rtnl.AddrList(link.Of(index), unix.AF_INET6) })
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if a.Scope == unix.RT_SCOPE_UNIVERSE && a.Flags&unix.IFA_F_PERMANENT == 0 && addrFrom(a.IP) != leased {
			err = errors.Join(err, rtnl.AddrDel(link.Of(index), &a))
		}
	}
	routes, listErr := again(func() ([]rtnl.Route, error) {
		return rtnl.RouteListFiltered(unix.AF_INET6, &rtnl.Route{LinkIndex: index}, rtnl.RT_FILTER_OIF)
	})
	err = errors.Join(err, listErr)
	for _, r := range routes {
		if r.Protocol == unix.RTPROT_RA {
			err = errors.Join(err, rtnl.RouteDel(&r))
		}
	}
	return err
}

// solicit asks the routers of an interface to speak (RFC 4861 §6.3.7).
func solicit(ifname string) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return fmt.Errorf("netlink: solicit routers: %w", link.Needs(link.CapRaw, err))
	}
	defer unix.Close(fd)
	l, err := link.Read(ifname)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255)
	}
	if err == nil {
		all := &unix.SockaddrInet6{ZoneId: uint32(l.Index), Addr: netip.IPv6LinkLocalAllRouters().As16()}
		err = unix.Sendto(fd, []byte{133, 0, 0, 0, 0, 0, 0, 0}, 0, all) // the kernel fills in the checksum
	}
	if err != nil && !link.IsGone(err) {
		return fmt.Errorf("netlink: solicit routers: %w", err)
	}
	return nil
}
