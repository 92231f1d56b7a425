package testbed

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"flexphone/testbed/wire"
)

// distance is the TUN device by which the provider's router sends what it routes.
const distance = "distance"

// Lay puts a long way between the provider's subnets: all IPv4 that its router
// forwards goes through the wire, once in each direction. What stays in one subnet
// does not, nor what the provider itself says or is asked for: hosts that are to be
// far from each other need addresses of different subnets. Bed.Close takes it away.
func (b *Bed) Lay(c wire.Config) (*wire.Wire, error) {
	h := b.ISP.host
	var device wire.TUN
	err := h.within(func() (err error) {
		device, err = wire.OpenTUN(distance)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("testbed: lay wire: %w", err)
	}
	w := wire.Start(device, c)
	b.onClose(w.Close)
	if err := h.detour(); err != nil {
		return nil, err
	}
	return w, nil
}

// detour has the router send what comes from the street by the wire. What comes back
// from there is routed as if there were none.
func (h *host) detour() error {
	const table = 100 // any that is not used
	for _, name := range []string{"all", "default", distance} {
		// It comes from where no answer would go.
		if err := h.sysctl("net/ipv4/conf/"+name+"/rp_filter", "0"); err != nil {
			return err
		}
	}
	if err := h.up(distance); err != nil {
		return err
	}
	link, err := h.find(distance)
	if err != nil {
		return err
	}
	everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if err := h.link.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(everywhere), Table: table}); err != nil {
		return fmt.Errorf("testbed: lay wire: add route: %w", err)
	}
	rule := netlink.NewRule()
	rule.IifName, rule.Table, rule.Family = street, table, netlink.FAMILY_V4
	if err := h.link.RuleAdd(rule); err != nil {
		return fmt.Errorf("testbed: lay wire: add rule: %w", err)
	}
	return nil
}

// readdress gives the host's interface eth0 this address and no other of IPv4, and the
// router of its subnet: the same steps for every host, whoever runs there.
func (h *host) readdress(addr netip.Addr) error {
	l, err := h.find("eth0")
	if err != nil {
		return err
	}
	old, err := h.link.AddrList(l, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("testbed: move %s: %w", h.name, err)
	}
	for _, a := range old { // its routes go with it
		if err := h.link.AddrDel(l, &a); err != nil {
			return fmt.Errorf("testbed: move %s: %w", h.name, err)
		}
	}
	for _, pool := range []Pool{East, West, {Router: homeRouter}, {Router: carrierRouter}} {
		if pool.Router.Contains(addr) {
			return h.address("eth0", netip.PrefixFrom(addr, pool.Router.Bits()), pool.Router.Addr())
		}
	}
	return fmt.Errorf("testbed: move %s: %s is in no subnet of the provider's or of a home", h.name, addr)
}

// Move gives a phone that was added with an address another one, of East, West or its home,
// from one moment to the next and with its cable plugged in.
func (p *Phone) Move(to netip.Addr) error { return p.host.readdress(to) }

// Move gives baresip's host another address, as Phone.Move does.
func (s *Baresip) Move(to netip.Addr) error {
	if err := s.host.readdress(to); err != nil {
		return err
	}
	s.Addr = to
	return nil
}
