package netlink

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// What is read from each option: nothing that could not stand where it is used.

// Options that the codec has no name for.
const (
	optRapidCommit   = 80  // RFC 4039
	optZonePOSIX     = 100 // RFC 4833
	optZoneName      = 101
	optOnlySix       = 108 // RFC 8925
	optVoiceVLAN     = 132 // by custom of telephones: a number, in digits or as two or four bytes
	optTFTPServers   = 150 // RFC 5859
	optStoringServer = 160 // site-specific (RFC 3942): telephone provisioning by custom
	optOldRoutes     = 249 // what Windows servers called option 121 before it had a number
)

// options says of each option whether servers are asked for it, and how it is
// read. The order is that of asking, in which RFC 3442 wants classless routes
// before the router, and that of reading: of two that say the same, the first
// counts.
var options = []struct {
	code  uint8
	asked bool
	read  func(*reply, []byte)
}{
	{dhcpv4.OptionSubnetMask.Code(), true, func(r *reply, v []byte) {
		if len(v) == 4 {
			r.bits = prefixLen(binary.BigEndian.Uint32(v))
		}
	}},
	{dhcpv4.OptionClasslessStaticRoute.Code(), true, (*reply).readRoutes},
	{optOldRoutes, true, (*reply).readRoutes},
	{dhcpv4.OptionRouter.Code(), true, (*reply).readRouters},
	{dhcpv4.OptionStaticRoutingTable.Code(), true, (*reply).readClassful},
	{dhcpv4.OptionDomainNameServer.Code(), true, func(r *reply, v []byte) { r.dns = hosts(v) }},
	{dhcpv4.OptionDNSDomainSearchList.Code(), true, func(r *reply, v []byte) { r.domains = appendDomains(r.domains, encodedNames(v)...) }},
	{dhcpv4.OptionDomainName.Code(), true, func(r *reply, v []byte) { r.domains = appendDomains(r.domains, words(v)...) }},
	{dhcpv4.OptionInterfaceMTU.Code(), true, func(r *reply, v []byte) {
		if len(v) == 2 {
			if mtu := int(binary.BigEndian.Uint16(v)); mtu >= minMTU {
				r.mtu = mtu
			}
		}
	}},
	{dhcpv4.OptionNTPServers.Code(), true, func(r *reply, v []byte) { r.ntp = hosts(v) }},
	{dhcpv4.OptionBroadcastAddress.Code(), true, func(r *reply, v []byte) {
		if a := oneAddr(v); isHost(a) {
			r.broadcast = a
		}
	}},
	{dhcpv4.OptionHostName.Code(), true, func(r *reply, v []byte) { r.hostname = name(v) }},
	{dhcpv4.OptionVendorSpecificInformation.Code(), true, func(r *reply, v []byte) { r.vendor = v }},
	{dhcpv4.OptionBootfileName.Code(), true, func(r *reply, v []byte) { r.file = path(v) }},
	{optZoneName, true, func(r *reply, v []byte) { r.zone = zone(v) }},
	{optZonePOSIX, true, func(r *reply, v []byte) {
		if r.zone == "" {
			r.zone = zone(v)
		}
	}},
	{optVoiceVLAN, true, func(r *reply, v []byte) { r.vlan = vlanOf(v) }},
	{optStoringServer, true, func(r *reply, v []byte) {
		// Some servers can send addresses alone, and do so in four bytes.
		if a := oneAddr(v); isHost(a) && !isText(v) {
			v = []byte(a.String())
		}
		r.addStoring(serverText(v))
	}},
	{dhcpv4.OptionTFTPServerName.Code(), true, func(r *reply, v []byte) { r.addStoring(serverText(v)) }},
	{optTFTPServers, true, func(r *reply, v []byte) {
		for _, a := range hosts(v) {
			r.addStoring(a.String())
		}
	}},
	{dhcpv4.OptionIPAddressLeaseTime.Code(), true, func(r *reply, v []byte) { r.time = seconds(v) }},
	{dhcpv4.OptionServerIdentifier.Code(), true, func(r *reply, v []byte) { r.server = oneAddr(v) }},
	{dhcpv4.OptionRenewTimeValue.Code(), true, func(r *reply, v []byte) { r.t1 = seconds(v) }},
	{dhcpv4.OptionRebindingTimeValue.Code(), true, func(r *reply, v []byte) { r.t2 = seconds(v) }},
	{optRapidCommit, false, func(r *reply, _ []byte) { r.rapid = true }},
	{dhcpv4.OptionMessage.Code(), false, func(r *reply, v []byte) { r.complaint = printable(v) }},
	{optOnlySix, false, func(r *reply, v []byte) {
		if len(v) == 4 {
			r.onlySix = max(seconds(v), minOnlySix)
		}
	}},
}

func (r *reply) readOptions(opts dhcpv4.Options) {
	for _, o := range options {
		if v, ok := opts[o.code]; ok {
			o.read(r, v)
		}
	}
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
	if s != "" && len(r.storing) < maxStoring && !slices.Contains(r.storing, s) {
		r.storing = append(r.storing, s)
	}
}

// readRouters reads option 3: the first that can be a router here.
func (r *reply) readRouters(v []byte) {
	if r.classless || len(v)%4 != 0 {
		return
	}
	for ; len(v) >= 4 && !r.router.IsValid(); v = v[4:] {
		if a := oneAddr(v[:4]); r.canRoute(a) {
			r.router = a
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
		if !r.router.IsValid() {
			r.router = via
		}
		return
	}
	if dst.Addr().IsLoopback() || dst.Addr().IsUnspecified() && dst.Bits() > 8 {
		r.leaveOut("route to %v via %v", dst, via)
		return
	}
	same := func(have Route) bool { return have.Dst == dst }
	if p := r.prefix(); p.IsValid() && dst == p.Masked() || len(r.routes) >= maxRoutes || slices.ContainsFunc(r.routes, same) {
		return
	}
	r.routes = append(r.routes, Route{Dst: dst, Via: via})
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
	if r.classless || len(v)%8 != 0 {
		return
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

// hosts reads a list of addresses, each once, without those that are no host's.
// At most eight: a longer list is of no use to anyone.
func hosts(v []byte) []netip.Addr {
	if len(v)%4 != 0 {
		return nil
	}
	var out []netip.Addr
	for ; len(v) >= 4 && len(out) < 8; v = v[4:] {
		if a := oneAddr(v[:4]); isHost(a) && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

func seconds(v []byte) time.Duration {
	if len(v) != 4 {
		return 0
	}
	return time.Duration(binary.BigEndian.Uint32(v)) * time.Second
}

// name reads a host's name: what could not stand in a resolv.conf or a dial string
// is as if absent.
func name(v []byte) string {
	s := strings.TrimRight(string(v), "\x00")
	if len(s) > 255 || !isName(s) {
		return ""
	}
	return s
}

// around is what servers' configuration files leave around a text.
const around = "\x00\t\n\r \""

// serverText reads what may name a storing server; empty: nothing can.
func serverText(v []byte) string {
	s := strings.Trim(string(v), around)
	if len(s) > 255 || !isText([]byte(s)) {
		return ""
	}
	return s
}

// isText reports whether v is printable ASCII.
func isText(v []byte) bool {
	return !slices.ContainsFunc(v, func(c byte) bool { return c < ' ' || c > '~' })
}

// words reads option 15, which holds one domain by RFC 2132 §3.17 and several
// by custom.
func words(v []byte) []string {
	return strings.FieldsFunc(string(v), func(c rune) bool { return strings.ContainsRune(around+",;", c) })
}

// encodedNames reads a list of names as in the DNS (RFC 1035 §3.1, and 4.1.4 for
// the pointers of RFC 3397; those of RFC 3646 and 8106 have none). What cannot be
// read ends it.
func encodedNames(b []byte) (out []string) {
	for at := 0; at < len(b) && b[at] != 0; {
		s, next, ok := encodedName(b, at)
		if !ok {
			return out
		}
		out, at = append(out, s), next
	}
	return out
}

// encodedName reads the name at b[at:], and returns where the next one begins.
func encodedName(b []byte, at int) (s string, next int, ok bool) {
	var labels []string
	for size, limit := 0, at; at < len(b); {
		n := int(b[at])
		switch {
		case n == 0:
			if next == 0 {
				next = at + 1
			}
			return strings.Join(labels, "."), next, true
		case n >= 0xc0: // to before what was read: thus it ends
			if at+2 > len(b) {
				return "", 0, false
			}
			if next == 0 {
				next = at + 2
			}
			if at = (n&0x3f)<<8 | int(b[at+1]); at >= limit {
				return "", 0, false
			}
			limit = at
		case n > 63 || at+1+n > len(b) || size+n > 255:
			return "", 0, false
		default:
			labels, at, size = append(labels, string(b[at+1:at+1+n])), at+1+n, size+1+n
		}
	}
	return "", 0, false
}

// appendDomains adds what can stand in a list of domains, each once.
func appendDomains(list []string, more ...string) []string {
	for _, s := range more {
		s = strings.TrimSuffix(s, ".")
		same := func(have string) bool { return strings.EqualFold(have, s) }
		if isDomain(s) && len(list) < maxDomains && !slices.ContainsFunc(list, same) {
			list = append(list, s)
		}
	}
	return list
}

// isDomain reports whether s can stand in a list of domains: labels of letters,
// digits, hyphens and underscores, with dots between them (RFC 1035 §2.3.4; the
// underscore by custom).
func isDomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || !isName(label) || strings.ContainsAny(label, ":[]") {
			return false
		}
	}
	return true
}

// vlanOf reads a VLAN's number as servers write it; 0 for none.
func vlanOf(v []byte) int {
	n := 0
	text := strings.Trim(string(v), around)
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
func path(v []byte) string {
	s := strings.TrimRight(string(v), "\x00")
	if len(s) > 255 || !isText([]byte(s)) || strings.Contains(s, " ") {
		return ""
	}
	return s
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
