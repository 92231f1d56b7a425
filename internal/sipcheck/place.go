package sipcheck

import (
	"net/url"
	"strings"
)

// A Contact is one value of Contact, as a registrar reads it: where somebody is
// called, and by which parameters (RFC 3261, 20.10).
type Contact struct {
	URI    string // with its scheme and its parameters' names in lower case
	params params
}

// ReadContact reads one value of Contact other than *. ok is false for what is none.
func ReadContact(value string) (c Contact, ok bool) {
	a, ok := readAddress(value)
	return Contact{tidyURI(a.uri), a.params}, ok
}

// Param is a parameter of the contact, such as expires, by its name in lower case.
func (c Contact) Param(name string) (value string, ok bool) { return c.params.get(name) }

// A Place is what a SIP URI names, in its parts (RFC 3261, 19.1.1).
type Place struct {
	Scheme   string // "sip" or "sips"
	User     string // with its escapes; empty: none
	Password string // likewise
	Host     string // a name or an address, without brackets
	Port     uint16 // 0: not given
	Headers  bool   // it names headers, which mean nothing in most places
	params   params
}

// ReadPlace reads a SIP or SIPS URI. ok is false for what is none.
func ReadPlace(uri string) (p Place, ok bool) {
	if !isSIP(uri) || !isURI(uri) {
		return Place{}, false
	}
	u, ok := readURI(uri)
	if !ok {
		return Place{}, false
	}
	host, port, ok := hostPort(u.host)
	p = Place{Scheme: strings.ToLower(u.scheme), Host: strings.Trim(host, "[]"), Port: uint16(port), Headers: u.headers != ""}
	p.User, p.Password, _ = strings.Cut(strings.TrimSuffix(u.user, "@"), ":")
	for one := range strings.SplitSeq(strings.TrimPrefix(u.rest, ";"), ";") {
		name, value, valued := strings.Cut(one, "=")
		p.params = append(p.params, param{strings.ToLower(name), value, valued})
	}
	return p, ok
}

// Param is a parameter of the URI, such as transport, by its name in lower case.
func (p Place) Param(name string) (value string, ok bool) { return p.params.get(name) }

// PlainUser is the user without escapes: %31%30%31 is 101 (RFC 3261, 19.1.4).
func (p Place) PlainUser() string {
	plain, err := url.PathUnescape(p.User)
	if err != nil { // cannot be: ReadPlace takes whole escapes alone
		return p.User
	}
	return plain
}

// User is the user, without escapes, that the URI in From or To names; "" if it
// names none.
func (m *Message) User(name string) string {
	a, _ := readAddress(m.Get(name))
	p, _ := ReadPlace(a.uri)
	return p.PlainUser()
}

// Circles reports whether a request has passed one place twice, or more places
// than one that goes anywhere (RFC 3261, 16.3 and 20.22).
func (m *Message) Circles() bool {
	const most = 70 // as Max-Forwards begins
	all, _ := m.vias()
	seen := make(map[string]bool)
	for _, v := range all {
		branch, _ := v.params.get("branch")
		key := strings.ToLower(v.host) + " " + branch
		if branch != "" && seen[key] {
			return true
		}
		seen[key] = true
	}
	return len(all) > most
}
