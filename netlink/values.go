package netlink

import (
	"encoding/binary"
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// How the value of an option is read: what is malformed is as if absent.

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
// At most eight: a longer list is of no use to anyone. Bytes behind the last whole
// address, as of servers that end a list with NUL, are none.
func hosts(v []byte) []netip.Addr {
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

// around is what servers' configuration files leave around a text.
const around = "\x00\t\n\r \""

// serverText reads what may name a storing server, or several of them: on lines of
// their own, it may be, or each with its NUL. Empty: nothing can.
func serverText(v []byte) string {
	s := strings.Map(func(c rune) rune {
		if strings.ContainsRune("\x00\t\n\r", c) {
			return ' '
		}
		return c
	}, strings.Trim(string(v), around))
	if len(s) > 255 || !isText([]byte(s)) {
		return ""
	}
	return s
}

// isText reports whether v is printable ASCII.
func isText(v []byte) bool {
	return !slices.ContainsFunc(v, func(c byte) bool { return c < ' ' || c > '~' })
}

// isAddresses reports whether v is rather IPv4 addresses than serverText. What both can
// be is one address if not all of it is printable, and several if all are of 10.0.0.0/8:
// then each begins with a newline.
func isAddresses(v []byte) bool {
	switch {
	case len(v) == 0 || len(v)%4 != 0:
		return false
	case len(v) == 4:
		return !isText(v)
	}
	private := true
	for i := 0; i < len(v); i += 4 {
		private = private && v[i] == 10
	}
	return private || serverText(v) == ""
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
		if label == "" || len(label) > 63 || !isLabel(label) {
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
	if !isVLAN(n) {
		return 0
	}
	return n
}

func isLabel(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// all reports whether ok holds for each of a list.
func all[T any](list []T, ok func(T) bool) bool {
	return !slices.ContainsFunc(list, func(v T) bool { return !ok(v) })
}

// isServer reports whether s is as serverText returns it.
func isServer(s string) bool { return s != "" && serverText([]byte(s)) == s }

// isMTU reports whether a network may have packets of at most n bytes.
func isMTU(n int) bool { return n >= minMTU && n <= 0xffff }

// isVLAN reports whether n is the number of a VLAN (IEEE 802.1Q §9.6).
func isVLAN(n int) bool { return n >= 1 && n <= 4094 }

// isRoute reports whether r leads to a network, other than all, in a way that can be.
func isRoute(r Route) bool {
	return r.Dst.IsValid() && r.Dst.Addr().Is4() && r.Dst == r.Dst.Masked() && r.Dst.Bits() > 0 && (!r.Via.IsValid() || isGateway(r.Via))
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
