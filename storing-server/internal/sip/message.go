package sip

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	gosip "github.com/emiago/sipgo/sip"
)

const (
	maxMessage = 16 << 10 // bytes; a request here takes 500
	maxHeaders = 128
	maxHops    = 70  // Via headers, as many as Max-Forwards begins with
	maxToken   = 256 // bytes of a tag, a Call-ID or a branch
	maxURI     = 256 // bytes of a Contact, which is kept
	allowed    = "INVITE, ACK, CANCEL, OPTIONS, REGISTER"
	serverName = "Flexphone storing server"

	portSIP, portSIPS = 5060, 5061 // RFC 3261, section 19.1.2
)

// others are the methods of other RFCs, refused with 405; what is in neither
// list is 501 (RFC 3261, sections 21.4.6 and 21.5.2).
const others = " BYE UPDATE INFO REFER SUBSCRIBE NOTIFY PUBLISH MESSAGE PRACK "

// A header is a line of a response.
type header struct{ name, value string }

// A reply is how a request is answered. Code 0: not at all.
type reply struct {
	code    int
	headers []header
}

func answer(code int, headers ...header) reply { return reply{code, headers} }

// reasons are the texts of the codes that are used here.
func reason(code int) string {
	switch code {
	case 200:
		return "OK"
	case 302:
		return "Moved Temporarily"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 416:
		return "Unsupported URI Scheme"
	case 420:
		return "Bad Extension"
	case 423:
		return "Interval Too Brief"
	case 480:
		return "Temporarily Unavailable"
	case 481:
		return "Call/Transaction Does Not Exist"
	case 482:
		return "Loop Detected"
	case 483:
		return "Too Many Hops"
	case 500:
		return "Server Internal Error"
	case 501:
		return "Not Implemented"
	case 503:
		return "Service Unavailable"
	case 505:
		return "Version Not Supported"
	}
	return "Refused"
}

// check is what the parser leaves open: whether a request is one at all
// (RFC 3261, section 8.2; RFC 4475). refused is nil for one that is. ok is
// false for one that cannot even be answered.
func check(req *gosip.Request) (refused *reply, ok bool) {
	no := func(code int, headers ...header) (*reply, bool) {
		r := answer(code, headers...)
		return &r, true
	}
	all := req.Headers()
	if len(all) > maxHeaders {
		return nil, false
	}
	for _, h := range all {
		if strings.ContainsFunc(h.Value(), func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return nil, false
		}
	}
	via, from, to, id, seq := req.Via(), req.From(), req.To(), req.CallID(), req.CSeq()
	if via == nil || from == nil || to == nil || id == nil || seq == nil {
		return nil, false
	}
	vias := req.GetHeaders("Via")
	if via.ProtocolName != "SIP" || via.ProtocolVersion != "2.0" {
		return nil, false
	}
	for _, h := range vias { // all of them stand in the answer
		if v, ok := h.(*gosip.ViaHeader); !ok || v.Host == "" || v.Transport == "" {
			return nil, false
		}
	}
	if req.SipVersion != "SIP/2.0" {
		return no(505)
	}
	for _, name := range []string{"From", "To", "Call-ID", "CSeq"} {
		if len(req.GetHeaders(name)) != 1 {
			return no(400)
		}
	}
	for _, name := range []string{"Max-Forwards", "Content-Length", "Expires"} {
		if len(req.GetHeaders(name)) > 1 {
			return no(400)
		}
	}
	branch, _ := via.Params.Get("branch")
	fromTag, _ := from.Params.Get("tag")
	toTag, tagged := to.Params.Get("tag")
	switch {
	case fromTag == "", tagged && toTag == "",
		len(fromTag) > maxToken, len(toTag) > maxToken, len(branch) > maxToken, len(id.Value()) > maxToken,
		branch == gosip.RFC3261BranchMagicCookie,
		seq.MethodName != req.Method, seq.SeqNo >= 1<<31:
		return no(400)
	}
	if n := req.ContentLength(); n != nil && int(*n) != len(req.Body()) {
		return no(400)
	}
	if req.Recipient.Scheme != "sip" && req.Recipient.Scheme != "sips" {
		return no(416)
	}
	if req.Recipient.Host == "" || !plain(req.Recipient.String()) || !plain(to.Address.String()) || len(req.Recipient.Headers) > 0 {
		return no(400)
	}
	if len(vias) > maxHops || repeated(vias) {
		return no(482)
	}
	if need := values(req, "Require"); need != "" && req.Method != gosip.ACK && req.Method != gosip.CANCEL {
		return no(420, header{"Unsupported", need})
	}
	return nil, true
}

// repeated reports whether a request has passed the same place twice.
func repeated(vias []gosip.Header) bool {
	seen := map[string]bool{}
	for _, h := range vias {
		v, ok := h.(*gosip.ViaHeader)
		if !ok {
			continue
		}
		branch, _ := v.Params.Get("branch")
		key := strings.ToLower(v.SentBy()) + " " + branch
		if branch != "" && seen[key] {
			return true
		}
		seen[key] = true
	}
	return false
}

// plain reports whether a URI can stand between angle brackets.
func plain(uri string) bool {
	return !strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>"`, r) })
}

// values joins all of a request's headers of a name.
func values(req *gosip.Request, name string) string {
	var out []string
	for _, h := range req.GetHeaders(name) {
		out = append(out, h.Value())
	}
	return strings.Join(out, ", ")
}

// compose writes the response to req, which came from a source, and says where
// it goes over UDP (RFC 3261 section 18.2.2, RFC 3581 section 4).
func compose(req *gosip.Request, from netip.AddrPort, r reply, tag []byte) ([]byte, netip.AddrPort) {
	var b strings.Builder
	fmt.Fprintf(&b, "SIP/2.0 %d %s\r\n", r.code, reason(r.code))
	to := netip.AddrPortFrom(from.Addr(), portSIP)
	for i, h := range req.GetHeaders("Via") {
		v, ok := h.(*gosip.ViaHeader)
		if i > 0 || !ok {
			fmt.Fprintf(&b, "Via: %s\r\n", h.Value())
			continue
		}
		v = v.Clone()
		if v.Port > 0 && v.Port < 1<<16 {
			to = netip.AddrPortFrom(from.Addr(), uint16(v.Port))
		}
		_, symmetric := v.Params.Get("rport")
		if symmetric {
			v.Params.Add("rport", strconv.Itoa(int(from.Port())))
			to = from
		}
		if symmetric || strings.Trim(v.Host, "[]") != from.Addr().String() {
			v.Params.Add("received", from.Addr().String())
		}
		fmt.Fprintf(&b, "Via: %s\r\n", v.Value())
	}
	fmt.Fprintf(&b, "From: %s\r\nTo: %s", req.From().Value(), req.To().Value())
	if _, tagged := req.To().Params.Get("tag"); !tagged {
		fmt.Fprintf(&b, ";tag=%s", hex.EncodeToString(tag[:8]))
	}
	fmt.Fprintf(&b, "\r\nCall-ID: %s\r\nCSeq: %s\r\n", req.CallID().Value(), req.CSeq().Value())
	for _, h := range r.headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.name, h.value)
	}
	fmt.Fprintf(&b, "Server: %s\r\nContent-Length: 0\r\n\r\n", serverName)
	return []byte(b.String()), to
}

// hostAddr reads the host of a URI, which must be an address: no name is
// looked up here.
func hostAddr(host string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return a.Unmap(), err == nil && a.Zone() == ""
}

// uriOf is where a phone is called.
func uriOf(user string, at netip.AddrPort, params string) string {
	return "sip:" + user + "@" + net.JoinHostPort(at.Addr().String(), strconv.Itoa(int(at.Port()))) + params
}
