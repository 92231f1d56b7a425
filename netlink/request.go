package netlink

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// wanted is the parameter request list (option 55), in the order of the table.
var wanted = func() (list dhcpv4.OptionCodeList) {
	for _, o := range options {
		if o.asked {
			list = append(list, dhcpv4.GenericOptionCode(o.code))
		}
	}
	return list
}()

// maxMessage is what we can receive in one piece: an Ethernet frame's 1500
// bytes less 28 of IP and UDP (option 57).
const maxMessage = 1472

// vendorClass tells operators what asks (option 60).
const vendorClass = "flexphone"

// message builds a message of this exchange with what every message carries.
func (m *machine) message(now time.Time, kind dhcpv4.MessageType, opts ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	d := &dhcpv4.DHCPv4{
		OpCode:        dhcpv4.OpcodeBootRequest,
		HWType:        iana.HWTypeEthernet,
		TransactionID: m.xid,
		ClientHWAddr:  net.HardwareAddr(m.mac[:]),
		NumSeconds:    uint16(min(max(now.Sub(m.begun)/time.Second, 0), 0xffff)),
		Options: dhcpv4.OptionsFromList(
			dhcpv4.OptMessageType(kind),
			dhcpv4.OptClientIdentifier(clientID(m.mac)),
		),
	}
	for _, o := range opts {
		d.UpdateOption(o)
	}
	return d
}

// ask adds to a DISCOVER or REQUEST what the server should know and tell.
func (m *machine) ask(opts ...dhcpv4.Option) []dhcpv4.Option {
	list := wanted
	if m.onlySix { // RFC 8925 §3.2: only who can do without IPv4 asks
		list = append(slices.Clone(wanted), dhcpv4.GenericOptionCode(optOnlySix))
	}
	if m.userClass != "" { // RFC 3004: each class with its length
		opts = append(opts, dhcpv4.OptGeneric(dhcpv4.OptionUserClassInformation,
			append([]byte{byte(len(m.userClass))}, m.userClass...)))
	}
	opts = append(opts,
		dhcpv4.OptParameterRequestList(list...),
		dhcpv4.OptMaxMessageSize(maxMessage),
		dhcpv4.OptClassIdentifier(vendorClass),
	)
	if m.hostname != "" {
		opts = append(opts, dhcpv4.OptHostName(m.hostname))
	}
	return opts
}

// clientID is RFC 4361's identifier: an IAID, here the last four bytes of the
// MAC, and a DUID-LL. It follows from the MAC alone, so that it survives the
// loss of everything stored.
func clientID(mac MAC) []byte {
	id := append(make([]byte, 0, 15), 255)
	id = append(id, mac[2:]...)
	id = append(id, 0, 3, 0, 1) // DUID-LL, Ethernet
	return append(id, mac[:]...)
}

func optAddr(code dhcpv4.OptionCode, a netip.Addr) dhcpv4.Option {
	return dhcpv4.OptGeneric(code, a.AsSlice())
}
