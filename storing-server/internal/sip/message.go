package sip

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"flexphone/internal/sipcheck"
)

const (
	maxMessage = 16 << 10 // bytes; a request here takes 500
	maxURI     = 256      // bytes of a Contact, which is kept
	allowed    = "INVITE, ACK, CANCEL, OPTIONS, REGISTER"
	serverName = "Flexphone storing server"

	portSIP, portSIPS = 5060, 5061 // RFC 3261, section 19.1.2
)

// others are the methods of other RFCs, refused with 405; what is in neither
// list is 501 (RFC 3261, sections 21.4.6 and 21.5.2).
const others = " BYE UPDATE INFO REFER SUBSCRIBE NOTIFY PUBLISH MESSAGE PRACK "

// A header is a line of a response.
type header = sipcheck.Field

// A reply is how a request is answered. Code 0: not at all.
type reply struct {
	code    int
	headers []header
}

func answer(code int, headers ...header) reply { return reply{code, headers} }

// reasons are the texts of the codes that are used here.
var reasons = map[int]string{
	200: "OK", 302: "Moved Temporarily",
	400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
	405: "Method Not Allowed", 416: "Unsupported URI Scheme", 420: "Bad Extension",
	423: "Interval Too Brief", 480: "Temporarily Unavailable",
	481: "Call/Transaction Does Not Exist", 482: "Loop Detected", 483: "Too Many Hops",
	500: "Server Internal Error", 501: "Not Implemented", 503: "Service Unavailable",
	505: "Version Not Supported",
}

// refusal says why a request is none that is looked at: sipcheck finds what is
// wrong with any (RFC 3261, section 8.2; RFC 4475), and the rest is what a
// redirect server adds. Code 0: it is looked at.
func refusal(req *sipcheck.Message) reply {
	if flaw := req.Check(); flaw.Code != 0 {
		return answer(flaw.Code)
	}
	if req.Circles() {
		return answer(482)
	}
	need := strings.Join(req.Values("Require"), ", ")
	if need != "" && req.Method != "CANCEL" { // which cannot be refused like that
		return answer(420, header{Name: "Unsupported", Value: need})
	}
	return reply{}
}

// plain reports whether a URI is kept and told as it is.
func plain(uri string) bool {
	return !strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>"`, r) })
}

// hostAddr reads the host of a URI, which must be an address: no name is
// looked up here.
func hostAddr(host string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(host)
	return a.Unmap(), err == nil && a.Zone() == ""
}

// uriOf is where a phone is called.
func uriOf(user string, at netip.AddrPort, params string) string {
	return "sip:" + user + "@" + net.JoinHostPort(at.Addr().String(), strconv.Itoa(int(at.Port()))) + params
}
