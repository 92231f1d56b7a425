package sipcheck

import (
	"net/netip"
	"strconv"
	"strings"
)

// isToken tells a token (RFC 3261, 25.1).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !isAlnum(r) && !strings.ContainsRune("-.!%*_+`'~", r)
	})
}

func isAlnum(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

// outside calls f with each byte of s that stands neither in a quoted string nor
// between angle brackets, and with the brackets themselves, until f says false. It
// reports whether quotes and brackets are closed.
func outside(s string, f func(i int, c byte) bool) bool {
	quoted, bracket := false, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quoted && c == '\\':
			i++
		case c == '"' && !bracket:
			quoted = !quoted
		case quoted:
		case c == '<':
			if bracket {
				return false
			}
			bracket = true
			if !f(i, c) {
				return true
			}
		case c == '>':
			if !bracket {
				return false
			}
			bracket = false
			if !f(i, c) {
				return true
			}
		case bracket:
		default:
			if !f(i, c) {
				return true
			}
		}
	}
	return !quoted && !bracket
}

func balanced(s string) bool { return outside(s, func(int, byte) bool { return true }) }

// indexOutside is where c first stands outside quotes and brackets; -1: nowhere.
func indexOutside(s string, c byte) int {
	at := -1
	outside(s, func(i int, is byte) bool {
		if is == c {
			at = i
		}
		return at < 0
	})
	return at
}

// splitOutside parts s at sep, where that stands outside quotes and brackets, and
// takes the blanks away.
func splitOutside(s string, sep byte) []string {
	var out []string
	for {
		i := indexOutside(s, sep)
		if i < 0 {
			return append(out, strings.Trim(s, blanks))
		}
		out = append(out, strings.Trim(s[:i], blanks))
		s = s[i+1:]
	}
}

type param struct {
	name, value string
	valued      bool // there is a value, though it may be empty
}

type params []param

func (p params) get(name string) (value string, ok bool) {
	for _, one := range p {
		if one.name == name {
			return one.value, true
		}
	}
	return "", false
}

// readParams reads what follows a value, with its first semicolon. Names are
// compared without case (RFC 3261, 7.3.1). One empty parameter at the very end is
// overlooked, as many leave it.
func readParams(s string) (out params, ok bool) {
	s = strings.Trim(s, blanks)
	if s == "" {
		return nil, true
	}
	if s[0] != ';' {
		return nil, false
	}
	all := splitOutside(s[1:], ';')
	for i, one := range all {
		if one == "" && i == len(all)-1 && i > 0 {
			break
		}
		name, value, valued := strings.Cut(one, "=")
		name, value = strings.ToLower(strings.TrimRight(name, blanks)), strings.TrimLeft(value, blanks)
		if !isToken(name) || strings.ContainsAny(value, blanks) && !strings.HasPrefix(value, `"`) {
			return nil, false
		}
		out = append(out, param{name, value, valued})
	}
	return out, true
}

// write writes the parameters without those whose values are quoted: they mean
// nothing to us, and much to a parser that is confused by them.
func (p params) write(b *strings.Builder) {
	for _, one := range p {
		if strings.ContainsAny(one.value, `"<>,;`) {
			continue
		}
		b.WriteString(";" + one.name)
		if one.valued {
			b.WriteString("=" + one.value)
		}
	}
}

// An address is what From, To, Contact and the routes hold: a name-addr or an
// addr-spec (RFC 3261, 20.10).
type address struct {
	name   string // as it came, quotes and all
	uri    string
	params params
}

func readAddress(s string) (a address, ok bool) {
	if !balanced(s) {
		return address{}, false
	}
	begin := indexOutside(s, '<')
	if begin < 0 { // without brackets all parameters are the header's
		uri, rest := s, ""
		if i := strings.IndexByte(s, ';'); i >= 0 {
			uri, rest = s[:i], s[i:]
		}
		a.uri = strings.Trim(uri, blanks)
		a.params, ok = readParams(rest)
		return a, ok && isURI(a.uri) && !strings.ContainsAny(a.uri, "?,")
	}
	end := begin + strings.IndexByte(s[begin:], '>')
	a.name, a.uri = strings.Trim(s[:begin], blanks), s[begin+1:end]
	a.params, ok = readParams(s[end+1:])
	return a, ok && isURI(a.uri) && isName(a.name)
}

// isName tells a display name: one quoted string, or words. Letters beyond ASCII
// are taken in words as well.
func isName(s string) bool {
	if strings.HasPrefix(s, `"`) {
		return len(s) > 1 && indexOutside(s, s[len(s)-1]) < 0 && onlyQuoted(s)
	}
	return !strings.ContainsAny(s, `",;<>\`)
}

// onlyQuoted reports whether s is one quoted string and nothing else.
func onlyQuoted(s string) bool {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i == len(s)-1
		}
	}
	return false
}

func (a address) String() string {
	var b strings.Builder
	if a.name != "" {
		b.WriteString(a.name + " ")
	}
	b.WriteString("<" + tidyURI(a.uri) + ">")
	a.params.write(&b)
	return b.String()
}

// isURI tells a URI of any scheme: one that has a scheme, no blanks, quotes or
// brackets, and only whole escapes (RFC 3986, 2.1).
func isURI(s string) bool {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || rest == "" || !isToken(scheme) || !isAlpha(scheme[0]) {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c <= ' ' || c == 0x7f || strings.IndexByte(`<>"`, c) >= 0:
			return false
		case c == '%':
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return false
			}
		}
	}
	if s := strings.ToLower(scheme); s == "sip" || s == "sips" {
		_, ok := readURI(s + ":" + rest)
		return ok
	}
	return true
}

func isAlpha(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

// A sipURI is a SIP or SIPS URI in its parts (RFC 3261, 19.1.1).
type sipURI struct {
	scheme, user, host string // user with password and its '@'
	rest               string // parameters, with their first ';'
	headers            string // with their '?'
}

func readURI(s string) (u sipURI, ok bool) {
	u.scheme, s, _ = strings.Cut(s, ":")
	if i := strings.IndexByte(s, '@'); i >= 0 { // nothing but userinfo may hold one unescaped
		u.user, s = s[:i+1], s[i+1:]
		if u.user == "@" {
			return u, false
		}
	}
	if i := strings.IndexByte(s, '?'); i >= 0 {
		s, u.headers = s[:i], s[i:]
	}
	if i := strings.IndexByte(s, ';'); i >= 0 {
		s, u.rest = s[:i], s[i:]
	}
	u.host = s
	_, _, ok = hostPort(s)
	return u, ok && !strings.ContainsAny(u.headers+u.rest, "@")
}

// tidyURI writes parameter names of a SIP URI in lower case, and its scheme.
func tidyURI(s string) string {
	scheme, rest, _ := strings.Cut(s, ":")
	if scheme = strings.ToLower(scheme); scheme != "sip" && scheme != "sips" {
		return s
	}
	u, ok := readURI(scheme + ":" + rest)
	if !ok {
		return s
	}
	parts := strings.Split(u.rest, ";")
	for i, one := range parts {
		name, value, valued := strings.Cut(one, "=")
		parts[i] = strings.ToLower(name)
		if valued {
			parts[i] += "=" + value
		}
	}
	return scheme + ":" + u.user + u.host + strings.Join(parts, ";") + u.headers
}

// hostPort reads host[:port], where host is a name, an IPv4 address or an IPv6
// reference. Port is 0 where none is given.
func hostPort(s string) (host string, port int, ok bool) {
	host, rest := s, ""
	switch i := strings.IndexByte(s, ':'); {
	case strings.HasPrefix(s, "["):
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", 0, false
		}
		host, rest = s[:end+1], s[end+1:]
		a, err := netip.ParseAddr(s[1:end])
		if err != nil || !a.Is6() || a.Zone() != "" {
			return "", 0, false
		}
	case i >= 0:
		host, rest = s[:i], s[i:]
	}
	host, rest = strings.TrimRight(host, blanks), strings.Trim(rest, blanks)
	if !strings.HasPrefix(host, "[") && (host == "" || strings.ContainsFunc(host, func(r rune) bool {
		return !isAlnum(r) && r != '.' && r != '-' && r != '_'
	})) {
		return "", 0, false
	}
	if rest == "" {
		return host, 0, true
	}
	if rest[0] != ':' {
		return "", 0, false
	}
	n, err := strconv.ParseUint(strings.TrimLeft(rest[1:], blanks), 10, 16)
	return host, int(n), err == nil && n > 0
}

// A via is one value of Via (RFC 3261, 20.42 and 25.1).
type via struct {
	version, transport string // "SIP/2.0", "UDP"
	host               string
	port               int // 0: not given
	params             params
}

func readVia(s string) (v via, ok bool) {
	parts := strings.SplitN(s, "/", 3)
	if len(parts) != 3 {
		return via{}, false
	}
	name, version := strings.Trim(parts[0], blanks), strings.Trim(parts[1], blanks)
	rest := strings.TrimLeft(parts[2], blanks)
	i := strings.IndexAny(rest, blanks)
	if i < 0 || !strings.EqualFold(name, "SIP") || !isToken(version) {
		return via{}, false
	}
	v.version, v.transport = "SIP/"+version, strings.ToUpper(rest[:i])
	rest = strings.TrimLeft(rest[i:], blanks)
	end := len(rest)
	if j := indexOutside(rest, ';'); j >= 0 {
		end = j
	}
	v.host, v.port, ok = hostPort(strings.Trim(rest[:end], blanks))
	if !ok || !isToken(v.transport) || !balanced(rest) {
		return via{}, false
	}
	v.params, ok = readParams(rest[end:])
	return v, ok
}

func (v via) String() string {
	var b strings.Builder
	b.WriteString(v.version + "/" + v.transport + " " + v.host)
	if v.port != 0 {
		b.WriteString(":" + strconv.Itoa(v.port))
	}
	v.params.write(&b)
	return b.String()
}

// seqOf reads a CSeq (RFC 3261, 20.16); numbers end below 2^31 (8.1.1.5).
func seqOf(s string) (n uint32, method string, ok bool) {
	number, method, found := strings.Cut(strings.ReplaceAll(s, "\t", " "), " ")
	method = strings.Trim(method, blanks)
	seq, err := strconv.ParseUint(number, 10, 31)
	return uint32(seq), method, found && err == nil && isToken(method)
}
