package netlink

import (
	"encoding/binary"
	"math/bits"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/rfc1035label"
)

// What is read from each option: nothing that could not stand where it is used.

func (r *reply) readOptions(opts dhcpv4.Options) {
	if v := opts[dhcpv4.OptionSubnetMask.Code()]; len(v) == 4 {
		r.bits = prefixLen(binary.BigEndian.Uint32(v))
	}
	r.router = firstHost(opts[dhcpv4.OptionRouter.Code()])
	r.dns = hosts(opts[dhcpv4.OptionDomainNameServer.Code()])
	r.domain = name(opts[dhcpv4.OptionDomainName.Code()])
	if v := opts[dhcpv4.OptionInterfaceMTU.Code()]; len(v) == 2 {
		// RFC 791: every host takes 576 bytes; less is a mistake or an attack.
		if mtu := int(binary.BigEndian.Uint16(v)); mtu >= 576 {
			r.mtu = mtu
		}
	}
	r.time = seconds(opts[dhcpv4.OptionIPAddressLeaseTime.Code()])
	r.t1 = seconds(opts[dhcpv4.OptionRenewTimeValue.Code()])
	r.t2 = seconds(opts[dhcpv4.OptionRebindingTimeValue.Code()])
	_, r.rapid = opts[optRapidCommit]
	r.complaint = printable(opts[dhcpv4.OptionMessage.Code()])
	for _, code := range []uint8{dhcpv4.OptionTFTPServerName.Code(), optStoringServer} {
		if r.storing = name(opts[code]); r.storing != "" {
			break
		}
	}
	if v := hosts(opts[optTFTPServers]); r.storing == "" && len(v) > 0 {
		r.storing = v[0].String()
	}
	if v := oneAddr(opts[dhcpv4.OptionBroadcastAddress.Code()]); isHost(v) {
		r.broadcast = v
	}
	r.hostname = name(opts[dhcpv4.OptionHostName.Code()])
	r.readSearch(opts[dhcpv4.OptionDNSDomainSearchList.Code()])
	r.ntp = hosts(opts[dhcpv4.OptionNTPServers.Code()])
	if r.zone = zone(opts[optZoneName]); r.zone == "" {
		r.zone = zone(opts[optZonePOSIX])
	}
	r.file = path(strings.TrimRight(string(opts[dhcpv4.OptionBootfileName.Code()]), "\x00"))
	r.vendor = opts[dhcpv4.OptionVendorSpecificInformation.Code()]
	r.vlan = vlanOf(opts[optVoiceVLAN])
	if v := opts[optOnlySix]; len(v) == 4 {
		r.onlySix = max(seconds(v), minOnlySix)
	}
	r.readOldRoutes(opts[dhcpv4.OptionStaticRoutingTable.Code()])
	r.readRoutes(opts[dhcpv4.OptionClasslessStaticRoute.Code()])
}

// readSearch reads option 119, whose names are compressed as in the DNS
// (RFC 3397). One that cannot be read is as if absent.
func (r *reply) readSearch(v []byte) {
	if len(v) == 0 {
		return
	}
	labels, err := rfc1035label.FromBytes(v)
	if err != nil {
		return
	}
	for _, s := range labels.Labels {
		if s = strings.TrimSuffix(s, "."); !isDomain(s) {
			r.search = nil
			return
		}
		if len(r.search) < 6 { // resolv.conf(5) of old
			r.search = append(r.search, s)
		}
	}
}

// readOldRoutes reads option 33, pairs of a destination and its router (RFC 2132
// §5.8): a host, or a network of its class when the host's bits are zero.
func (r *reply) readOldRoutes(v []byte) {
	if len(v)%8 != 0 {
		return
	}
	for ; len(v) >= 8 && len(r.routes) < 16; v = v[8:] {
		dst, via := oneAddr(v[:4]), oneAddr(v[4:8])
		if !isHost(dst) || !isHost(via) {
			continue // the default route is not allowed here
		}
		p := netip.PrefixFrom(dst, classBits(dst))
		if p.Masked().Addr() != dst {
			p = netip.PrefixFrom(dst, 32)
		}
		r.routes = append(r.routes, Route{Dst: p, Via: via})
	}
}

// Options that the codec has no name for.
const (
	optRapidCommit   = 80  // RFC 4039
	optZonePOSIX     = 100 // RFC 4833
	optZoneName      = 101
	optOnlySix       = 108 // RFC 8925
	optVoiceVLAN     = 132 // by custom of telephones: a number, in digits or as two or four bytes
	optTFTPServers   = 150 // RFC 5859
	optStoringServer = 160 // site-specific (RFC 3942): telephone provisioning by custom
)

// readRoutes reads option 121. When it is well formed, the router option is
// ignored, as RFC 3442 demands; when it is not, it is as if absent.
func (r *reply) readRoutes(v []byte) {
	if len(v) == 0 {
		return
	}
	var list dhcpv4.Routes
	if list.FromBytes(v) != nil {
		return
	}
	router := netip.Addr{}
	var routes []Route
	for _, e := range list {
		ones, _ := e.Dest.Mask.Size()
		via := addrFrom(e.Router)
		dst := netip.PrefixFrom(addrFrom(e.Dest.IP), ones).Masked()
		switch {
		case via.IsUnspecified():
			via = netip.Addr{} // on the link
		case !isHost(via):
			return
		}
		if ones == 0 {
			if !router.IsValid() {
				router = via
			}
			continue
		}
		if dst.Addr().IsLoopback() || dst.Addr().IsMulticast() {
			return
		}
		routes = append(routes, Route{Dst: dst, Via: via})
	}
	r.router, r.routes = router, routes
}

// prefixLen returns the length of a contiguous mask, 0 for any other and for
// the empty one.
func prefixLen(mask uint32) int {
	n := bits.LeadingZeros32(^mask)
	if mask != uint32(uint64(0xffffffff)<<(32-n)) {
		return 0
	}
	return n
}

func addrFrom(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func oneAddr(v []byte) netip.Addr {
	if len(v) != 4 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(v))
}

// hosts reads a list of addresses, without those that are no host's. At most
// eight: a longer list is of no use to anyone.
func hosts(v []byte) []netip.Addr {
	if len(v)%4 != 0 {
		return nil
	}
	var out []netip.Addr
	for ; len(v) >= 4 && len(out) < 8; v = v[4:] {
		if a := oneAddr(v[:4]); isHost(a) {
			out = append(out, a)
		}
	}
	return out
}

func firstHost(v []byte) netip.Addr {
	if l := hosts(v); len(l) > 0 {
		return l[0]
	}
	return netip.Addr{}
}

func seconds(v []byte) time.Duration {
	if len(v) != 4 {
		return 0
	}
	return time.Duration(binary.BigEndian.Uint32(v)) * time.Second
}

// name reads a host or domain name, with a port perhaps: what could not stand
// in a resolv.conf or a dial string is as if absent.
func name(v []byte) string {
	s := strings.TrimRight(string(v), "\x00")
	if len(s) > 255 || !isName(s) {
		return ""
	}
	return s
}

// vlanOf reads a VLAN's number as servers write it; 0 for none.
func vlanOf(v []byte) int {
	n := 0
	text := strings.Trim(string(v), "\x00 ")
	switch k, err := strconv.Atoi(text); {
	case err == nil && text != "":
		n = k
	case len(v) == 1:
		n = int(v[0])
	case len(v) == 2:
		n = int(binary.BigEndian.Uint16(v))
	case len(v) == 4:
		n = int(min(binary.BigEndian.Uint32(v), 0xffff))
	}
	if n < 1 || n > 4094 {
		return 0
	}
	return n
}

// zone reads a time zone: a name such as Europe/Berlin, or a string such as
// CET-1CEST,M3.5.0,M10.5.0/3.
func zone(v []byte) string {
	s := strings.TrimRight(string(v), "\x00")
	if len(s) > 64 || strings.Contains(s, "..") || strings.HasPrefix(s, "/") {
		return ""
	}
	for _, c := range []byte(s) {
		if !isName(string(c)) && strings.IndexByte("/,+<>", c) < 0 {
			return ""
		}
	}
	return s
}

// path reads a file's name.
func path(s string) string {
	if len(s) > 255 {
		return ""
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return ""
		}
	}
	return s
}

// isDomain reports whether s can stand in a list of domains: labels with a dot
// between them, each of which has at least a byte.
func isDomain(s string) bool {
	return s != "" && len(s) < 256 && isName(s) && !strings.HasPrefix(s, ".") && !strings.HasSuffix(s, ".") && !strings.Contains(s, "..")
}

func isName(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', strings.IndexByte(".-_:[]", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// printable returns at most 80 bytes of v that a log can show.
func printable(v []byte) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return -1
		}
		return c
	}, string(v[:min(len(v), 80)]))
}
