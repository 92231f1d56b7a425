package faults

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

const (
	lenient  = "take the address, and go without what cannot be: a phone without an address cannot be called"
	lateness = 25 * time.Second // of a switch's port, or of a server
)

// strictCases are those in which it is strictness, or giving up, that leaves a host
// without an address. Servers in the field send all of these.
func strictCases() []Case {
	routes := func(pairs ...string) change {
		return setOption(dhcpv4.OptionClasslessStaticRoute, classless(pairs...)...)
	}
	const rest = 2 * time.Second
	return []Case{
		{"router is the broadcast address", "names 192.0.2.255 as the router", lenient, calm(rest, 1, setOption(dhcpv4.OptionRouter, 192, 0, 2, 255))},
		{"router is the network", "names 192.0.2.0 as the router", lenient, calm(rest, 1, setOption(dhcpv4.OptionRouter, 192, 0, 2, 0))},
		{"router is the client", "names the address that it gives as the router", lenient, calm(rest, 1, setOption(dhcpv4.OptionRouter, good.AsSlice()...))},
		{"first of two routers is bad", "names the broadcast address and then itself", "use the second (RFC 1122 §3.3.1.2)",
			oddVia(setOption(dhcpv4.OptionRouter, slices.Concat([]byte{192, 0, 2, 255}, router.AsSlice())...), router)},
		{"router and NUL", "ends option 3 with a NUL", "use the router: be liberal in what you accept (RFC 1122 §1.2.2)",
			oddVia(setOption(dhcpv4.OptionRouter, append(router.AsSlice(), 0)...), router)},
		{"link-local router of a host alone", "sends a mask of all ones, and 169.254.1.1 as the router", "use it, on the link",
			oddRouted(32, setOption(dhcpv4.OptionSubnetMask, 255, 255, 255, 255), "169.254.1.1")},
		{"classless route by the client", "sends option 121 with a route by the client itself", lenient,
			oddVia(routes("10.88.0.0/16", good.String(), "0.0.0.0/0", router.String()), router)},
		{"classless route by broadcast", "sends option 121 with a route by the broadcast address", lenient,
			oddVia(routes("10.88.0.0/16", "192.0.2.255", "0.0.0.0/0", router.String()), router)},
		{"classless route twice", "sends option 121 with the same route twice", lenient,
			oddVia(routes("10.88.0.0/16", router.String(), "10.88.0.0/16", router.String(), "0.0.0.0/0", router.String()), router)},
		{"classless route for television", "sends option 121 with 224.0.0.0/4", lenient,
			oddVia(routes("224.0.0.0/4", router.String(), "0.0.0.0/0", router.String()), router)},
		{"classless route to the own network", "sends option 121 with the client's network", lenient,
			oddVia(routes("192.0.2.0/24", router.String(), "0.0.0.0/0", router.String()), router)},
		{"classless routes in halves", "sends option 121 with 0.0.0.0/1 and 128.0.0.0/1", lenient,
			calm(rest, 1, routes("0.0.0.0/1", router.String(), "128.0.0.0/1", router.String()))},
		{"static route by the client", "sends option 33 with a route by the client itself", lenient,
			oddVia(setOption(dhcpv4.OptionStaticRoutingTable, slices.Concat([]byte{10, 88, 0, 1}, good.AsSlice())...), router)},
		{"MTU of more than the link", "sends option 26 with 65,535 on an Ethernet", "leave the link what it can",
			oddLink(setOption(dhcpv4.OptionInterfaceMTU, 255, 255), 0, 1500)},
		{"MTU of less than IPv6 needs", "sends option 26 with 1,000", "leave the link its IPv6 (RFC 8200 §5: 1,280)",
			oddLink(setOption(dhcpv4.OptionInterfaceMTU, 3, 232), 1280, 1500)},
		{"two domains in one option", "sends option 15 with two words", beLiberal, calm(rest, 1, setOption(dhcpv4.OptionDomainName, []byte("corp.example example.com")...))},
		{"a proxy answers for every address", "has a proxy on the link that answers ARP for every address (RFC 1027)",
			"take the address: who has all addresses has none of them", proxied},
		{"port that forwards late", "is not heard for 25 s, as behind a spanning tree", "ask often enough to have an address soon after", late},
		{"replugged behind a late port", "is not heard for 25 s after the cable is in again, and has another address then",
			"keep the address if need be, and go on asking", lateAfterReplug},
	}
}

// classless builds option 121 from pairs of a destination and a router.
func classless(pairs ...string) []byte {
	var b []byte
	for ; len(pairs) > 0; pairs = pairs[2:] {
		dst := netip.MustParsePrefix(pairs[0])
		b = append(b, byte(dst.Bits()))
		b = append(b, dst.Addr().AsSlice()[:(dst.Bits()+7)/8]...)
		b = append(b, parse(pairs[1]).AsSlice()...)
	}
	return b
}

// oddLink is odd, and the link's MTU must be in these bounds.
func oddLink(f change, least, most int) func(*play) error {
	return func(p *play) error {
		if err := odd(24, f)(p); err != nil {
			return err
		}
		p.pause(time.Second / 2) // some set it after the address
		mtu, err := p.cable.MTU()
		if err != nil {
			return Broken{err}
		}
		if mtu < least || mtu > most {
			return fmt.Errorf("sets the MTU to %d", mtu)
		}
		return nil
	}
}

func proxied(p *play) error {
	p.server.takeAll()
	p.server.serve(p.decent)
	if err := p.startClient(); err != nil {
		return err
	}
	if err := p.bound(prefix(good, 24)); err != nil {
		return err
	}
	return p.stays(prefix(good, 24), 3*time.Second)
}

func late(p *play) error {
	if err := p.startClient(); err != nil {
		return err
	}
	p.pause(lateness)
	p.server.serve(p.decent)
	return p.boundOnly(prefix(good, 24))
}

func lateAfterReplug(p *play) error {
	if err := p.wellBound(); err != nil {
		return err
	}
	p.server.serve(nil)
	if err := p.replug(); err != nil {
		return err
	}
	p.pause(lateness)
	p.server.serve(func(m message) { p.lease(m, good2, nil) })
	return p.bound(prefix(good2, 24))
}
