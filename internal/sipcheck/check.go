package sipcheck

import (
	"slices"
	"strconv"
	"strings"
)

// A Flaw is what is wrong with a message. The zero Flaw is none.
type Flaw struct {
	Code int    // the status with which a request that has it is refused
	What string // for a log
}

// A check is one thing that can be wrong with a message.
type check struct {
	code  int
	what  string
	wrong func(*Message) bool
}

// Each list is walked from its top, and the first check that fails decides. What a
// status says about a message has to be true of it, so that what would make the
// message another one comes first. Sections are of RFC 3261 where no other is named.
var (
	requests = append([]check{
		{505, "another version of SIP (7.1)", func(m *Message) bool { return isVersion(m.Version) && !isOurs(m.Version) }},
		{400, "no version (7.1)", func(m *Message) bool { return !isOurs(m.Version) }},
		{400, "a method that is no token (7.1)", func(m *Message) bool { return !isToken(m.Method) }},
		{400, "blanks or brackets in the request URI (RFC 4475, 3.1.2.5 and 3.1.2.7)", func(m *Message) bool {
			return strings.ContainsAny(m.URI, blanks+`<>"`) || !strings.Contains(m.URI, ":")
		}},
		{416, "a request URI of a scheme that is not called (8.2.2.1)", func(m *Message) bool { return !isSIP(m.URI) }},
		{400, "a request URI that is none (19.1.1)", func(m *Message) bool { return !isURI(m.URI) }},
		{400, "headers in the request URI (19.1.1)", func(m *Message) bool { u, _ := readURI(m.URI); return u.headers != "" }},
	}, everything...)
	responses = append([]check{
		{400, "another version of SIP (7.2)", func(m *Message) bool { return !isOurs(m.Version) }},
		{400, "not exactly one Via (8.1.3.3)", func(m *Message) bool { return len(m.Values("Via")) != 1 }},
	}, everything...)

	everything = []check{
		{400, "a line that is no header field (7.3.1), or no end of them", func(m *Message) bool { return m.broken }},
		{400, "control characters (25.1)", func(m *Message) bool { return slices.ContainsFunc(m.Fields, uncontrolled) }},
		{400, "From, To, Call-ID or CSeq not exactly once (8.1.1)", func(m *Message) bool {
			return slices.ContainsFunc(once, func(n string) bool { return m.Count(n) != 1 })
		}},
		{400, "twice what stands once (7.3.1)", func(m *Message) bool {
			return slices.ContainsFunc(atMostOnce, func(n string) bool { return m.Count(n) > 1 })
		}},
		{400, "no Via, or one that is none (20.42)", func(m *Message) bool { _, ok := m.vias(); return !ok }},
		{400, "a Via of another version (20.42)", func(m *Message) bool {
			all, _ := m.vias()
			return slices.ContainsFunc(all, func(v via) bool { return !isOurs(v.version) })
		}},
		{400, "a branch that is empty but for its cookie (8.1.1.7)", func(m *Message) bool { return m.branch() == cookie }},
		{400, "a From that is none (20.20)", func(m *Message) bool { return !isParty(m.Get("From")) }},
		{400, "a To that is none (20.39)", func(m *Message) bool { return !isParty(m.Get("To")) }},
		{400, "a Call-ID that is none (20.8)", func(m *Message) bool { return !isCallID(m.Get("Call-ID")) }},
		{400, "a CSeq that is none (20.16)", func(m *Message) bool { _, _, ok := seqOf(m.Get("CSeq")); return !ok }},
		{400, "a CSeq of another method (8.2.2)", func(m *Message) bool { _, is, _ := seqOf(m.Get("CSeq")); return m.IsRequest() && is != m.Method }},
		{400, "a body that is shorter than it says (18.3)", func(m *Message) bool { return m.Count("Content-Length") > 0 && !m.fits() }},
		{400, "Max-Forwards that is no number up to 255 (20.22)", func(m *Message) bool { return m.Count("Max-Forwards") > 0 && !isHops(m.Get("Max-Forwards")) }},
		{400, "a Date that is not in GMT (20.17)", func(m *Message) bool { return m.Count("Date") > 0 && !strings.HasSuffix(m.Get("Date"), " GMT") }},
		{400, "a Contact that is none (20.10)", func(m *Message) bool { return !areAddresses(m.Values("Contact"), true) }},
		{400, "a route that is none (20.30, 20.34)", func(m *Message) bool {
			return !areAddresses(m.Values("Route"), false) || !areAddresses(m.Values("Record-Route"), false)
		}},
	}

	once       = []string{"From", "To", "Call-ID", "CSeq"}
	atMostOnce = []string{"Max-Forwards", "Content-Length", "Content-Type", "Content-Disposition", "Date", "Expires"}
)

// cookie begins each branch since RFC 3261 (8.1.1.7).
const cookie = "z9hG4bK"

// Check says what is wrong with m. A request that has a flaw is to be answered, a
// response that has one is to be dropped.
func (m *Message) Check() Flaw {
	list := responses
	if m.IsRequest() {
		list = requests
	}
	for _, c := range list {
		if c.wrong(m) {
			return Flaw{c.code, c.what}
		}
	}
	return Flaw{}
}

func isOurs(version string) bool { return strings.EqualFold(version, "SIP/2.0") }

// isVersion tells SIP/ and two numbers.
func isVersion(s string) bool {
	major, minor, ok := strings.Cut(s[min(len("SIP/"), len(s)):], ".")
	_, err1 := strconv.ParseUint(major, 10, 32)
	_, err2 := strconv.ParseUint(minor, 10, 32)
	return hasPrefixFold(s, "SIP/") && ok && err1 == nil && err2 == nil
}

func isSIP(uri string) bool { return hasPrefixFold(uri, "sip:") || hasPrefixFold(uri, "sips:") }

// uncontrolled reports whether a field has control characters other than tabs,
// and than those that a quoted string escapes.
func uncontrolled(f Field) bool {
	quoted := false
	for i := 0; i < len(f.Value); i++ {
		switch c := f.Value[i]; {
		case quoted && c == '\\':
			i++
			if i < len(f.Value) && (f.Value[i] == '\r' || f.Value[i] == '\n') {
				return true
			}
		case c == '"':
			quoted = !quoted
		case c < ' ' && c != '\t' || c == 0x7f:
			return true
		}
	}
	return false
}

// isParty tells what may stand in From and To: who calls and is called.
func isParty(s string) bool {
	a, ok := readAddress(s)
	if !ok || !isSIP(a.uri) && !hasPrefixFold(a.uri, "tel:") {
		return false
	}
	tag, tagged := a.params.get("tag")
	return len(tag) <= maxToken && (!tagged || isToken(tag))
}

// isCallID tells a Call-ID. Its grammar takes nearly everything but blanks.
func isCallID(s string) bool { return s != "" && len(s) <= maxToken && !strings.ContainsAny(s, blanks) }

func isHops(s string) bool {
	_, err := strconv.ParseUint(s, 10, 8)
	return err == nil
}

// fits reports whether as much of a body is there as Content-Length says.
func (m *Message) fits() bool {
	n, err := strconv.ParseUint(m.Get("Content-Length"), 10, 31)
	return err == nil && int(n) <= len(m.Body)
}

func areAddresses(values []string, star bool) bool {
	return !slices.ContainsFunc(values, func(v string) bool {
		if star && v == "*" {
			return false
		}
		_, ok := readAddress(v)
		return !ok
	})
}

// vias are the values of Via, the newest first.
func (m *Message) vias() (all []via, ok bool) {
	for _, s := range m.Values("Via") {
		v, ok := readVia(s)
		if !ok {
			return nil, false
		}
		all = append(all, v)
	}
	return all, len(all) > 0
}

// branch is that of the newest Via.
func (m *Message) branch() string {
	all, ok := m.vias()
	if !ok {
		return ""
	}
	b, _ := all[0].params.get("branch")
	return b
}
