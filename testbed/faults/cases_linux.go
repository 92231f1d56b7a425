package faults

import (
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Table returns all cases.
func Table() []Case {
	return slices.Concat(headerCases(), addressCases(), timeCases(), optionCases(), wireCases(), serverCases(), lifeCases(), strictCases())
}

const (
	discover = dhcpv4.MessageTypeDiscover
	offer    = dhcpv4.MessageTypeOffer
	request  = dhcpv4.MessageTypeRequest
	decline  = dhcpv4.MessageTypeDecline
	ack      = dhcpv4.MessageTypeAck
	nak      = dhcpv4.MessageTypeNak
)

// wellBound starts the client with a decent server, and waits until it has the
// good address.
func (p *play) wellBound() error {
	p.server.serve(p.decent)
	if err := p.startClient(); err != nil {
		return err
	}
	return p.boundOnly(prefix(good, 24))
}

// badOffer offers a marked address by faulty replies, and the good one by
// decent ones: the client must end with the latter, and never hold the former.
func badOffer(f change) func(*play) error {
	return func(p *play) error {
		if err := p.misled(f); err != nil {
			return err
		}
		return p.boundOnly(prefix(good, 24))
	}
}

// misled starts the client where faulty replies offer a marked address, and
// decent ones after them the good one.
func (p *play) misled(f change) error {
	p.server.serve(func(m message) {
		switch {
		case m.MessageType() == discover:
			p.say(m, f(reply(m, offer, marked)))
			p.decent(m)
		case m.MessageType() == request && m.wants() == marked:
			p.say(m, f(reply(m, ack, marked))) // as wrong as its offer
		default:
			p.decent(m)
		}
	})
	return p.startClient()
}

// badAddress is badOffer, where the address itself is the fault.
func badAddress(a string) func(*play) error {
	return badOffer(edit(func(d *dhcpv4.DHCPv4) { d.YourIPAddr = parse(a).AsSlice() }))
}

// badAck follows a decent offer by a faulty ACK, whose mark is its prefix
// length, and then by a decent one.
func badAck(f change) func(*play) error {
	return func(p *play) error {
		p.server.serve(func(m message) {
			if m.MessageType() == request && m.wants() == good {
				d := reply(m, ack, good)
				set(d, dhcpv4.OptionSubnetMask, []byte{255, 255, 255, 128})
				p.say(m, f(d))
			}
			p.decent(m)
		})
		if err := p.startClient(); err != nil {
			return err
		}
		return p.boundOnly(prefix(good, 24))
	}
}

// odd has all offers and ACKs changed in a way that a client can live with: it
// must be bound to the good address with this prefix length.
func odd(bits int, f change) func(*play) error {
	return func(p *play) error {
		p.server.serve(func(m message) { p.lease(m, good, f) })
		if err := p.startClient(); err != nil {
			return err
		}
		return p.boundOnly(prefix(good, bits))
	}
}

// Rules that many cases rest on.
const (
	discard     = "discard it (RFC 2131 §4.1, 4.4.1)"
	mustServer  = "discard it: a server MUST send its identifier (RFC 2131 table 3)"
	mustTime    = "discard it: a server MUST send a lease time (RFC 2131 table 3)"
	noHost      = "discard it: no host can have this address (RFC 1122 §3.2.1.3)"
	beLiberal   = "take the lease: be liberal in what you accept (RFC 1122 §1.2.2)"
	defaultMask = "take the address, with the mask of its class (RFC 950, RFC 1122 §3.3.1.1)"
)

func headerCases() []Case {
	return []Case{
		{"xid of another exchange", "offers with another xid", discard,
			badOffer(edit(func(d *dhcpv4.DHCPv4) { d.TransactionID[3] ^= 1 }))},
		{"ACK with another xid", "offers well, acknowledges another exchange", discard,
			badAck(edit(func(d *dhcpv4.DHCPv4) { d.TransactionID[3] ^= 1 }))},
		{"chaddr of another host", "offers to another hardware address", discard,
			badOffer(edit(func(d *dhcpv4.DHCPv4) { d.ClientHWAddr = otherHost[:] }))},
		{"op is REQUEST", "offers in a BOOTREQUEST", discard,
			badOffer(edit(func(d *dhcpv4.DHCPv4) { d.OpCode = dhcpv4.OpcodeBootRequest }))},
		{"op is unknown", "offers with op 7", discard,
			badOffer(patch(func(b []byte) []byte { b[0] = 7; return b }))},
		{"hardware type of Token Ring", "offers with htype 6", discard,
			badOffer(patch(func(b []byte) []byte { b[1] = 6; return b }))},
		{"hardware length 0", "offers with hlen 0", discard,
			badOffer(patch(func(b []byte) []byte { b[2] = 0; return b }))},
		{"wrong cookie", "offers with a cookie that is not DHCP's", discard,
			badOffer(patch(func(b []byte) []byte { b[239]++; return b }))},
		{"no cookie", "answers as BOOTP, without a cookie", "go on asking for a lease (RFC 1534 §2 allows BOOTP, for ever, to who wants it)",
			badOffer(patch(func(b []byte) []byte { return append(b[:236], make([]byte, 64)...) }))},
		{"no message type", "answers as BOOTP, with a cookie", "go on asking for a lease: DHCP has a message type (RFC 2131 §3)",
			badOffer(dropOption(dhcpv4.OptionDHCPMessageType))},
		{"message type of a client", "answers with DISCOVER and REQUEST", discard,
			badOffer(setOption(dhcpv4.OptionDHCPMessageType, byte(request)))},
		{"message type unknown", "answers with type 77", discard,
			badOffer(setOption(dhcpv4.OptionDHCPMessageType, 77))},
		{"message type of no length", "answers with an empty option 53", discard,
			badOffer(setOption(dhcpv4.OptionDHCPMessageType))},
		{"cut before the options", "sends 200 bytes", discard,
			badOffer(patch(func(b []byte) []byte { return b[:200] }))},
		{"offer without server id", "omits option 54 from offers", mustServer,
			badOffer(dropOption(dhcpv4.OptionServerIdentifier))},
		{"ACK without server id", "omits option 54 from ACKs", mustServer,
			badAck(dropOption(dhcpv4.OptionServerIdentifier))},
		{"server id cut", "sends three bytes of option 54", mustServer,
			badOffer(setOption(dhcpv4.OptionServerIdentifier, 192, 0, 2))},
		{"server id 0.0.0.0", "names itself 0.0.0.0", mustServer,
			badOffer(setOption(dhcpv4.OptionServerIdentifier, 0, 0, 0, 0))},
		{"server id broadcast", "names itself 255.255.255.255", mustServer,
			badOffer(setOption(dhcpv4.OptionServerIdentifier, 255, 255, 255, 255))},
		{"server id changed in the ACK", "has a rogue acknowledge what it offered", "discard it: another server was chosen (RFC 2131 §3.1.4)",
			badAck(setOption(dhcpv4.OptionServerIdentifier, rogue.AsSlice()...))},
		{"ACK in place of an offer", "acknowledges a DISCOVER without option 80", "discard it: not rapid commit (RFC 4039 §3)",
			badOffer(setOption(dhcpv4.OptionDHCPMessageType, byte(ack)))},
	}
}

func addressCases() []Case {
	return []Case{
		{"address broadcast", "gives 255.255.255.255", noHost, badAddress("255.255.255.255")},
		{"address multicast", "gives 224.0.0.5", noHost, badAddress("224.0.0.5")},
		{"address loopback", "gives 127.0.0.5", noHost, badAddress("127.0.0.5")},
		{"address zero", "gives 0.0.0.0", noHost, badAddress("0.0.0.0")},
		{"address of this network", "gives 0.0.2.66", noHost, badAddress("0.0.2.66")},
		{"address reserved", "gives 240.0.0.5", "discard it: reserved (RFC 1112 §4)", badAddress("240.0.0.5")},
		{"address link-local", "gives 169.254.7.7", "discard it: no server may give these (RFC 3927 §1.6)", badAddress("169.254.7.7")},
		{"address of the router", "gives its own address", "discard it: it is the router's", badAddress(router.String())},
		{"address is the net's broadcast", "gives 192.0.2.255/24", noHost, badAddress("192.0.2.255")},
		{"address is the net's own", "gives 192.0.2.0/24", noHost, badAddress("192.0.2.0")},
		{"ACK for another address", "acknowledges another address than it offered", "discard it: not what was asked for (RFC 2131 §3.1.5)",
			badAck(edit(func(d *dhcpv4.DHCPv4) { d.YourIPAddr = marked.AsSlice() }))},
		{"mask absent", "omits option 1", defaultMask, odd(24, dropOption(dhcpv4.OptionSubnetMask))},
		{"mask with a hole", "sends 255.0.255.0", defaultMask, anyNet(setOption(dhcpv4.OptionSubnetMask, 255, 0, 255, 0))},
		{"mask /0", "sends 0.0.0.0", defaultMask, anyNet(setOption(dhcpv4.OptionSubnetMask, 0, 0, 0, 0))},
		{"mask cut", "sends two bytes of option 1", defaultMask, anyNet(setOption(dhcpv4.OptionSubnetMask, 255, 255))},
		{"mask /31", "sends 255.255.255.254", "take it (RFC 3021)",
			oddRouted(31, setOption(dhcpv4.OptionSubnetMask, 255, 255, 255, 254), "192.0.2.51")},
		{"mask /32", "sends 255.255.255.255, and a router beyond", "take it, with the router on the link",
			oddRouted(32, setOption(dhcpv4.OptionSubnetMask, 255, 255, 255, 255), router.String())},
		{"router outside the net", "names 198.51.100.1 as the router", "take the address",
			odd(24, setOption(dhcpv4.OptionRouter, 198, 51, 100, 1))},
		{"router is multicast", "names 224.0.0.1 as the router", "take the address, not the router",
			odd(24, setOption(dhcpv4.OptionRouter, 224, 0, 0, 1))},
		{"router cut", "sends three bytes of option 3", "take the address, not the router",
			odd(24, setOption(dhcpv4.OptionRouter, 192, 0, 2))},
		{"no router", "omits option 3", "take the address", odd(24, dropOption(dhcpv4.OptionRouter))},
	}
}
