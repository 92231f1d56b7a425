package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// A transaction is a DHCP exchange's identifier.
type transaction = dhcpv4.TransactionID

// A reply is what a server sent, after validation. An absent option is the zero
// value of its field, and so is a malformed one that a lease can do without.
type reply struct {
	kind      dhcpv4.MessageType // Offer, ACK or NAK
	xid       transaction
	server    netip.Addr // option 54, always valid
	yours     netip.Addr
	bits      int           // prefix length; 0 when the server sent no usable mask
	time      time.Duration // lease time, 0 when absent
	t1, t2    time.Duration
	with      Lease         // what comes with the address: the fields that options are read into
	classless bool          // its router and routes are those of option 121
	rapid     bool          // option 80
	onlySix   time.Duration // option 108: the network would rather not give IPv4; 0 when absent
	complaint string        // option 56
	// odd is what was sent and cannot be meant, and was left out, in words.
	odd []string
}

// Reasons for which a packet is not a reply to us.
var (
	errNotReply  = errors.New("not a reply to this client")
	errBadServer = errors.New("no valid server identifier")
)

const (
	headerLen = 236 // up to the cookie
	cookieLen = 4
	snameAt   = 44
	fileAt    = 108
	optsAt    = headerLen + cookieLen
)

// parseReply reads a DHCP message (the UDP payload) that answers mac. It
// returns an error for whatever is malformed, is not meant for mac, or misses
// what RFC 2131 table 3 demands of every reply.
func parseReply(b []byte, mac MAC) (reply, error) {
	if len(b) < optsAt {
		return reply{}, fmt.Errorf("netlink: parse reply: %d bytes are too few", len(b))
	}
	// The header alone, so that the options are read by the rules below. The
	// codec demands an End.
	head, err := dhcpv4.FromBytes(append(append(make([]byte, 0, optsAt+1), b[:optsAt]...), dhcpv4.OptionEnd.Code()))
	if err != nil {
		return reply{}, fmt.Errorf("netlink: parse reply: %w", err)
	}
	if head.OpCode != dhcpv4.OpcodeBootReply || head.HWType != iana.HWTypeEthernet || string(head.ClientHWAddr) != string(mac[:]) {
		return reply{}, fmt.Errorf("netlink: parse reply: %w", errNotReply)
	}
	opts, err := parseOptions(b)
	if err != nil {
		return reply{}, fmt.Errorf("netlink: parse reply: %w", err)
	}
	r := reply{xid: head.TransactionID, yours: addrFrom(head.YourIPAddr)}
	if v := opts[dhcpv4.OptionDHCPMessageType.Code()]; len(v) == 1 {
		r.kind = dhcpv4.MessageType(v[0])
	}
	switch r.kind {
	case dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak:
	default:
		return reply{}, fmt.Errorf("netlink: parse reply: message type %d: %w", r.kind, errNotReply)
	}
	r.readOptions(opts)
	if !isHost(r.server) {
		return reply{}, fmt.Errorf("netlink: parse reply: %w", errBadServer)
	}
	return r, nil
}

// parseOptions gathers the options of a whole message, those in the file and
// server name fields too when option 52 says so (RFC 2131 §4.1, the order of
// RFC 3396 §5). A missing End is forgiven, an option past the end is not.
func parseOptions(b []byte) (dhcpv4.Options, error) {
	opts := dhcpv4.Options{}
	if err := readField(opts, b[optsAt:]); err != nil {
		return nil, err
	}
	v := opts[dhcpv4.OptionOptionOverload.Code()]
	if len(v) == 0 {
		return opts, nil
	}
	if len(v) != 1 || v[0] < 1 || v[0] > 3 {
		return nil, fmt.Errorf("option overload %v", v)
	}
	if v[0]&1 != 0 {
		if err := readField(opts, b[fileAt:headerLen]); err != nil {
			return nil, fmt.Errorf("file field: %w", err)
		}
	}
	if v[0]&2 != 0 {
		if err := readField(opts, b[snameAt:fileAt]); err != nil {
			return nil, fmt.Errorf("server name field: %w", err)
		}
	}
	return opts, nil
}

// readField adds one field's options to opts, once it is sure that none runs
// past the field's end.
func readField(opts dhcpv4.Options, field []byte) error {
	for at := 0; at < len(field); {
		switch code := field[at]; code {
		case dhcpv4.OptionPad.Code():
			at++
		case dhcpv4.OptionEnd.Code():
			at = len(field)
		default:
			if at+2 > len(field) || at+2+int(field[at+1]) > len(field) {
				return fmt.Errorf("option %d runs past the end", code)
			}
			at += 2 + int(field[at+1])
		}
	}
	return opts.FromBytes(field)
}

// lease turns an offer or an ACK into the lease it promises, counted from sent.
// It refuses what cannot be a host's address on an ordinary network.
func (r reply) lease(sent time.Time) (Lease, error) {
	a := r.yours
	if !isHost(a) {
		return Lease{}, fmt.Errorf("netlink: read lease: %v is no host's address", a)
	}
	if r.time <= 0 {
		return Lease{}, errors.New("netlink: read lease: no lease time")
	}
	if a == r.server {
		return Lease{}, fmt.Errorf("netlink: read lease: %v is the server's own", a)
	}
	p := r.prefix()
	if isEdge(p, a) {
		return Lease{}, fmt.Errorf("netlink: read lease: %v is its network's own or broadcast address", p)
	}
	l := r.with
	l.Prefix, l.Server, l.Start = p, r.server, sent
	if r.time != forever {
		l.Expiry = sent.Add(r.time)
	}
	return l, nil
}

// prefix is the address that is offered, and its network.
func (r reply) prefix() netip.Prefix {
	if !r.yours.Is4() {
		return netip.Prefix{}
	}
	if r.bits == 0 {
		return netip.PrefixFrom(r.yours, classBits(r.yours))
	}
	return netip.PrefixFrom(r.yours, r.bits)
}

// isEdge reports whether a is the network's own address or its broadcast address,
// neither of which a host of the network has.
func isEdge(network netip.Prefix, a netip.Addr) bool {
	return network.Bits() < 31 && (a == network.Masked().Addr() || a == lastAddr(network))
}

// isGateway reports whether a can be a router's IPv4 address. Networks that give
// every host a network of its own have them at a link-local one.
func isGateway(a netip.Addr) bool { return isHost(a) || a.Is4() && a.IsLinkLocalUnicast() }

// isHost reports whether a can be one IPv4 host's address: not this network,
// loopback, link-local, multicast, reserved or broadcast (RFC 6890).
func isHost(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	b := a.As4()
	return b[0] != 0 && b[0] < 224 && !a.IsLoopback() && !a.IsLinkLocalUnicast()
}

// classBits is the prefix length of a's class (RFC 791), for servers that send
// no mask.
func classBits(a netip.Addr) int {
	switch b := a.As4()[0]; {
	case b < 128:
		return 8
	case b < 192:
		return 16
	}
	return 24
}

// lastAddr returns the broadcast address of p.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|uint32(uint64(0xffffffff)>>p.Bits()))
	return netip.AddrFrom4(b)
}
