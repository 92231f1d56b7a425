package sip

import (
	"strings"
	"unicode"

	gosip "github.com/emiago/sipgo/sip"
)

// allowed are the methods that a phone takes, as its Allow header says.
const allowed = "INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO, REFER"

// refused are the methods of other RFCs, which a phone refuses with 405; what is
// in neither list is 501 (RFC 3261, 21.4.6 and 21.5.2).
const refused = " REGISTER SUBSCRIBE NOTIFY PUBLISH MESSAGE "

// A refusal is why a request is not taken. The zero refusal means that it is.
type refusal struct {
	code    int
	headers []gosip.Header
}

func refuse(code int, headers ...gosip.Header) refusal { return refusal{code, headers} }

func (r refusal) taken() bool { return r.code == 0 }

// maxToken bounds tags and Call-IDs, which are kept for as long as a call.
const maxToken = 1024 // bytes

// check is what is left to say of a request that the screen has let through:
// whether a dialog can be made of it, and whether its body is known (RFC 3261,
// 8.2.2 and 8.2.3).
func check(req *gosip.Request) refusal {
	if r := checkContact(req); !r.taken() {
		return r
	}
	return checkBody(req)
}

// isAddress tells a URI that names somebody from a text that the parser let by.
func isAddress(u gosip.Uri) bool {
	if strings.ContainsFunc(u.String(), func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`<>"`, r) }) {
		return false
	}
	if strings.Contains(u.UriParams.String(), "?") { // it would begin headers when it is read again (RFC 3261, 19.1.1)
		return false
	}
	switch u.Scheme {
	case "sip", "sips":
		return u.Host != ""
	case "tel":
		return u.Raw() != ""
	}
	return false
}

// checkContact wants one Contact where a dialog is made (RFC 3261, 8.1.1.8).
func checkContact(req *gosip.Request) refusal {
	n := countOf(req, "Contact")
	if req.Method != gosip.INVITE && (req.Method != gosip.UPDATE || n == 0) {
		return refusal{}
	}
	if n != 1 {
		return refuse(400)
	}
	c := req.Contact()
	if c == nil || !reachable(c.Address) || len(c.Address.Headers) > 0 {
		return refuse(400)
	}
	return refusal{}
}

// checkBody wants a body in which a session is described, and no extensions that we do not have.
func checkBody(req *gosip.Request) refusal {
	if req.Method == gosip.ACK || req.Method == gosip.CANCEL { // neither can be refused like that
		return refusal{}
	}
	if names := unknownOptions(req); len(names) > 0 {
		return refuse(420, gosip.NewHeader("Unsupported", strings.Join(names, ", ")))
	}
	if req.Method != gosip.INVITE && req.Method != gosip.UPDATE {
		return refusal{}
	}
	if accept := values(req, "Accept"); len(accept) > 0 && !accepts(accept) {
		return refuse(406)
	}
	if r := checkSession(req); !r.taken() {
		return r
	}
	_, r := bodyOf(req)
	return r
}

func accepts(kinds []string) bool {
	for _, k := range kinds {
		if isType(k, sdpType) || isType(k, "application/*") || isType(k, "*/*") {
			return true
		}
	}
	return false
}

func isType(value, want string) bool {
	kind, _, _ := strings.Cut(value, ";")
	return strings.EqualFold(strings.TrimSpace(kind), want)
}

// compact are the short forms of the headers that are looked at here.
var compact = map[string]string{
	"from": "f", "to": "t", "call-id": "i", "contact": "m", "via": "v", "content-length": "l",
	"content-type": "c", "content-encoding": "e", "supported": "k",
}

func is(h gosip.Header, name string) bool {
	return strings.EqualFold(h.Name(), name) || compact[strings.ToLower(name)] != "" && strings.EqualFold(h.Name(), compact[strings.ToLower(name)])
}

func countOf(msg headed, name string) int {
	n := 0
	for _, h := range msg.Headers() {
		if is(h, name) {
			n++
		}
	}
	return n
}

type headed interface{ Headers() []gosip.Header }

// values are the comma-separated values of all headers of that name.
func values(msg headed, name string) []string {
	var out []string
	for _, h := range msg.Headers() {
		if !is(h, name) {
			continue
		}
		for v := range strings.SplitSeq(h.Value(), ",") {
			if v = strings.TrimSpace(v); v != "" {
				out = append(out, v)
			}
		}
	}
	return out
}

const maxShown = 64 // runes of a name from the network that are shown

// shown is text from the network as it may go to a display or a log.
func shown(s string) string {
	out := make([]rune, 0, min(len(s), maxShown))
	for _, r := range s {
		if len(out) == maxShown {
			break
		}
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			out = append(out, r)
		}
	}
	return strings.TrimSpace(string(out))
}
