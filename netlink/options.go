package netlink

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Options that the codec has no name for.
const (
	optRapidCommit   = 80  // RFC 4039
	optOnlySix       = 108 // RFC 8925
	optVoiceVLAN     = 132 // by custom of telephones: a number, in digits or as two or four bytes
	optTFTPServers   = 150 // RFC 5859
	optStoringServer = 160 // site-specific (RFC 3942): telephone provisioning by custom
	optOldRoutes     = 249 // what Windows servers called option 121 before it had a number
)

// An option is something that a server says beside the address. All that is known
// of it is its row in the table, and the field of Lease that it is read into.
type option struct {
	code  uint8
	asked bool // in the parameter request list
	// read takes its value into a reply, whatever that is: nothing that could not
	// stand where it is used.
	read func(*reply, []byte)
	// stored reports whether a lease file says what read could have said; nil: the
	// file keeps nothing of it, or another row with the same field says it.
	stored func(Lease) bool
}

// options is the table of them. The order is that of asking, in which RFC 3442
// wants classless routes before the router, and that of reading: of two that say
// the same, the first counts.
var options = []option{
	{dhcpv4.OptionSubnetMask.Code(), true, func(r *reply, v []byte) {
		if len(v) == 4 {
			r.bits = prefixLen(binary.BigEndian.Uint32(v))
		}
	}, nil},
	{dhcpv4.OptionClasslessStaticRoute.Code(), true, (*reply).readRoutes, func(l Lease) bool { return all(l.Routes, isRoute) }},
	{optOldRoutes, true, (*reply).readRoutes, nil},
	{dhcpv4.OptionRouter.Code(), true, (*reply).readRouters, func(l Lease) bool { return !l.Router.IsValid() || isGateway(l.Router) }},
	{dhcpv4.OptionStaticRoutingTable.Code(), true, (*reply).readClassful, nil},
	{dhcpv4.OptionDomainNameServer.Code(), true, func(r *reply, v []byte) {
		r.with.DNS = hosts(v)
	}, func(l Lease) bool { return all(l.DNS, isHost) }},
	{dhcpv4.OptionDNSDomainSearchList.Code(), true, func(r *reply, v []byte) {
		r.with.Domains = appendDomains(r.with.Domains, encodedNames(v)...)
	}, func(l Lease) bool { return all(l.Domains, isDomain) }},
	{dhcpv4.OptionDomainName.Code(), true, func(r *reply, v []byte) {
		r.with.Domains = appendDomains(r.with.Domains, words(v)...)
	}, nil},
	{dhcpv4.OptionInterfaceMTU.Code(), true, func(r *reply, v []byte) {
		if len(v) == 2 && isMTU(int(binary.BigEndian.Uint16(v))) {
			r.with.MTU = int(binary.BigEndian.Uint16(v))
		}
	}, func(l Lease) bool { return l.MTU == 0 || isMTU(l.MTU) }},
	{dhcpv4.OptionBroadcastAddress.Code(), true, func(r *reply, v []byte) {
		if a, p := oneAddr(v), r.prefix(); isHost(a) && p.Contains(a) && a != r.yours {
			r.with.Broadcast = a
		}
	}, func(l Lease) bool { return !l.Broadcast.IsValid() || isHost(l.Broadcast) }},
	{optVoiceVLAN, true, func(r *reply, v []byte) {
		r.with.VoiceVLAN = vlanOf(v)
	}, func(l Lease) bool { return l.VoiceVLAN == 0 || isVLAN(l.VoiceVLAN) }},
	{optStoringServer, true, (*reply).readStoring, func(l Lease) bool { return all(l.StoringServers, isServer) }},
	{dhcpv4.OptionTFTPServerName.Code(), true, (*reply).readStoring, nil},
	{optTFTPServers, true, func(r *reply, v []byte) {
		for _, a := range hosts(v) {
			r.addStoring(a.String())
		}
	}, nil},
	{dhcpv4.OptionIPAddressLeaseTime.Code(), true, func(r *reply, v []byte) { r.time = seconds(v) }, nil},
	{dhcpv4.OptionServerIdentifier.Code(), true, func(r *reply, v []byte) { r.server = oneAddr(v) }, nil},
	{dhcpv4.OptionRenewTimeValue.Code(), true, func(r *reply, v []byte) { r.t1 = seconds(v) }, nil},
	{dhcpv4.OptionRebindingTimeValue.Code(), true, func(r *reply, v []byte) { r.t2 = seconds(v) }, nil},
	{optRapidCommit, false, func(r *reply, _ []byte) { r.rapid = true }, nil},
	{dhcpv4.OptionMessage.Code(), false, func(r *reply, v []byte) { r.complaint = printable(v) }, nil},
	{optOnlySix, false, func(r *reply, v []byte) {
		if len(v) == 4 {
			r.onlySix = max(seconds(v), minOnlySix)
		}
	}, nil},
}

func (r *reply) readOptions(opts dhcpv4.Options) {
	for _, o := range options {
		if v, ok := opts[o.code]; ok {
			o.read(r, v)
		}
	}
}

// isStored reports whether a lease file says of every option what a server could
// have said; else it names the first that it does not.
func isStored(l Lease) (code uint8, ok bool) {
	for _, o := range options {
		if o.stored != nil && !o.stored(l) {
			return o.code, false
		}
	}
	return 0, true
}

const (
	// minMTU is what every host takes (RFC 791); less is a mistake or an attack.
	minMTU = 576
	// maxDomains is what resolv.conf(5) of old held.
	maxDomains = 6
	// maxRoutes is more than any network needs that fits into one message.
	maxRoutes = 256
	// maxStoring bounds the candidates of options 66, 150 and 160.
	maxStoring = 8
)

func (r *reply) addStoring(s string) {
	if s != "" && len(r.with.StoringServers) < maxStoring && !slices.Contains(r.with.StoringServers, s) {
		r.with.StoringServers = append(r.with.StoringServers, s)
	}
}

// readStoring reads an option that names storing servers: as text, or as addresses of four
// bytes each, which is all that some servers can send.
func (r *reply) readStoring(v []byte) {
	if !isAddresses(v) {
		r.addStoring(serverText(v))
		return
	}
	for _, a := range hosts(v) {
		r.addStoring(a.String())
	}
}

// readRouters reads option 3: the first that can be a router here. Who names one and
// a piece of another has named one.
func (r *reply) readRouters(v []byte) {
	if r.classless {
		return
	}
	if len(v)%4 != 0 {
		r.leaveOut("routers of %d bytes", len(v))
	}
	for ; len(v) >= 4 && !r.with.Router.IsValid(); v = v[4:] {
		if a := oneAddr(v[:4]); r.canRoute(a) {
			r.with.Router = a
		} else {
			r.leaveOut("router %v", a)
		}
	}
}

// canRoute reports whether via can be a router for who has the address offered.
func (r *reply) canRoute(via netip.Addr) bool {
	p := r.prefix()
	return isGateway(via) && via != r.yours && !(p.IsValid() && isEdge(p, via))
}

func (r *reply) leaveOut(format string, args ...any) {
	if len(r.odd) < 8 {
		r.odd = append(r.odd, fmt.Sprintf(format, args...))
	}
}

// addRoute keeps a route that is possible and is the first to its destination.
// That to the own network is the link's.
func (r *reply) addRoute(dst netip.Prefix, via netip.Addr) {
	switch {
	case via.IsUnspecified():
		via = netip.Addr{} // on the link
	case !r.canRoute(via):
		r.leaveOut("route to %v via %v", dst, via)
		return
	}
	if dst.Bits() == 0 {
		if !r.with.Router.IsValid() {
			r.with.Router = via
		}
		return
	}
	if dst.Addr().IsLoopback() || dst.Addr().IsUnspecified() && dst.Bits() > 8 {
		r.leaveOut("route to %v via %v", dst, via)
		return
	}
	same := func(have Route) bool { return have.Dst == dst }
	if p := r.prefix(); p.IsValid() && dst == p.Masked() || len(r.with.Routes) >= maxRoutes || slices.ContainsFunc(r.with.Routes, same) {
		return
	}
	r.with.Routes = append(r.with.Routes, Route{Dst: dst, Via: via})
}

// readRoutes reads option 121. When it is well formed, options 3 and 33 are
// ignored, as RFC 3442 demands; when it is not, it is as if absent. One entry that
// cannot be is no reason to go without the others.
func (r *reply) readRoutes(v []byte) {
	if len(v) == 0 || r.classless {
		return
	}
	var list dhcpv4.Routes
	if list.FromBytes(v) != nil {
		r.leaveOut("malformed classless routes")
		return
	}
	r.classless = true
	for _, e := range list {
		ones, _ := e.Dest.Mask.Size()
		r.addRoute(netip.PrefixFrom(addrFrom(e.Dest.IP), ones).Masked(), addrFrom(e.Router))
	}
}

// readClassful reads option 33, pairs of a destination and its router (RFC 2132
// §5.8): a host, or a network of its class when the host's bits are zero. The
// default route is not allowed here.
func (r *reply) readClassful(v []byte) {
	if r.classless {
		return
	}
	if len(v)%8 != 0 {
		r.leaveOut("static routes of %d bytes", len(v))
	}
	for ; len(v) >= 8; v = v[8:] {
		dst, via := oneAddr(v[:4]), oneAddr(v[4:8])
		if dst.IsUnspecified() || via.IsUnspecified() {
			r.leaveOut("route to %v via %v", dst, via)
			continue
		}
		p := netip.PrefixFrom(dst, classBits(dst))
		if p.Masked().Addr() != dst || dst.IsMulticast() {
			p = netip.PrefixFrom(dst, 32)
		}
		r.addRoute(p, via)
	}
}
