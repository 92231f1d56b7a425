package testbed

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"flexphone/testbed/nat"
	"flexphone/testbed/wire"
)

// The network of each home: homes are alike, so that two phones may well have the same
// address. That of a carrier is of RFC 6598.
var (
	homeRouter    = netip.MustParsePrefix("192.168.77.1/24")
	carrierRouter = netip.MustParsePrefix("100.64.0.1/24")
)

const (
	inHome    = "home" // the bridge that is behind the router, into which a home's phones are plugged
	translate = "nat"  // the TUN device of its router
)

// A Home is a network behind a router that translates addresses, or a carrier's, whose
// customers are homes.
type Home struct {
	NAT     *nat.NAT
	Outside netip.Addr // as what its phones are seen
	host    *host
}

// AddHome builds a home whose phones are seen as outside, an address of East or West.
// The one after that is its router's own. c.Inside and c.Outside are set here.
func (b *Bed) AddHome(name string, outside netip.Addr, c nat.Config) (*Home, error) {
	return b.addRouter(name, b.ISP.host, street, homeRouter, outside, c)
}

// AddCarrier builds a provider that lets its customers have one address together, which is
// of East or West as AddHome's.
func (b *Bed) AddCarrier(name string, outside netip.Addr, c nat.Config) (*Home, error) {
	return b.addRouter(name, b.ISP.host, street, carrierRouter, outside, c)
}

// AddHomeAt builds the home of a carrier's customer, the n-th: what comes from it is
// translated twice.
func (b *Bed) AddHomeAt(carrier *Home, name string, n int, c nat.Config) (*Home, error) {
	outside := carrierRouter.Addr().As4()
	outside[3] = byte(10 + 2*n)
	return b.addRouter(name, carrier.host, inHome, homeRouter, netip.AddrFrom4(outside), c)
}

// addRouter builds a router on a bridge of sw, and the network behind it.
func (b *Bed) addRouter(name string, sw *host, bridge string, inside netip.Prefix, outside netip.Addr, c nat.Config) (*Home, error) {
	c.Inside, c.Outside = inside.Masked(), outside
	h, err := newHost(name)
	if err != nil {
		return nil, err
	}
	b.hosts = append(b.hosts, h)
	home := &Home{NAT: nat.New(c), Outside: outside, host: h}
	if err := errors.Join(h.cable(sw, bridge, nil), h.up("eth0")); err != nil {
		return nil, err
	}
	if err := h.readdress(outside.Next()); err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = inHome
	if err := h.link.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return nil, fmt.Errorf("testbed: make the bridge of %s: %w", name, err)
	}
	if err := errors.Join(h.address(inHome, inside, netip.Addr{}), h.up(inHome)); err != nil {
		return nil, err
	}
	var device wire.TUN
	err = h.within(func() (err error) {
		device, err = wire.OpenTUN(translate)
		return err
	})
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- home.NAT.Run(device) }()
	b.onClose(func() error { return errors.Join(device.Close(), <-ended) })
	return home, h.translated(outside)
}

// translated has the router give what comes from its home, and what comes for outside,
// to the translator; what that gives back goes its way. The address is nobody's: the
// router answers for it on the street.
func (h *host) translated(outside netip.Addr) error {
	const table = 100
	for name, value := range map[string]string{
		"net/ipv4/ip_forward": "1", "net/ipv4/conf/eth0/proxy_arp": "1",
		"net/ipv4/conf/all/send_redirects": "0", "net/ipv4/conf/eth0/send_redirects": "0",
		"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/default/rp_filter": "0",
		"net/ipv4/conf/eth0/rp_filter": "0", "net/ipv4/conf/" + translate + "/rp_filter": "0", "net/ipv4/conf/" + inHome + "/rp_filter": "0",
		"net/ipv4/neigh/eth0/proxy_delay": "0",
	} {
		if err := h.sysctl(name, value); err != nil {
			return err
		}
	}
	if err := h.up(translate); err != nil {
		return err
	}
	link, err := h.find(translate)
	if err != nil {
		return err
	}
	for _, route := range []*netlink.Route{
		{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)), Table: table},
		{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.PrefixFrom(outside, 32))},
	} {
		if err := h.link.RouteAdd(route); err != nil {
			return fmt.Errorf("testbed: translate at %s: add route: %w", h.name, err)
		}
	}
	rule := netlink.NewRule()
	rule.IifName, rule.Table, rule.Family = inHome, table, netlink.FAMILY_V4
	if err := h.link.RuleAdd(rule); err != nil {
		return fmt.Errorf("testbed: translate at %s: add rule: %w", h.name, err)
	}
	return nil
}

// Grant has the home's router give ports to phones that ask for them, by NAT-PMP, and if
// pcp by PCP.
func (b *Bed) Grant(h *Home, pcp bool) error {
	var c net.PacketConn
	err := h.host.within(func() (err error) {
		c, err = net.ListenPacket("udp4", netip.AddrPortFrom(homeRouter.Addr(), nat.GrantPort).String())
		return err
	})
	if err != nil {
		return fmt.Errorf("testbed: grant ports at %s: %w", h.host.name, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- h.NAT.Grant(c, pcp) }()
	b.onClose(func() error { return errors.Join(c.Close(), <-ended) })
	return nil
}
