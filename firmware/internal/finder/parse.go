package finder

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"flexphone/registry-client/wire"
)

// maxServers bounds how many servers are taken from one text.
const maxServers = 8

// A Server is a storing server as it was named.
type Server struct {
	Address string // host:port
	// Sure: it was named as coaps://, which nobody else's server is.
	Sure bool
}

// ErrForeign: what was named is no storing server, but for telephones of another
// make.
var ErrForeign = errors.New("not a storing server")

// Parse reads how somebody names storing servers: as host, host:port, an IPv4 or
// IPv6 address (with a port in brackets, as RFC 3986 has it), or coaps://host:port
// (RFC 7252, section 6.2), one or several with blanks, commas, semicolons or line
// ends between, in quotes or not, and with the NUL at the end that some DHCP
// servers send. The error says what was left out, and wraps ErrForeign where it is
// a URL of another kind; the servers are what remains, in their order.
func Parse(text string) ([]Server, error) {
	var servers []Server
	var wrong []error
	words := strings.FieldsFunc(text, func(r rune) bool {
		return r == ',' || r == ';' || r == 0 || unicode.IsSpace(r)
	})
	for _, word := range words {
		word = strings.Trim(word, `"'`)
		if word == "" {
			continue
		}
		s, err := parseOne(word)
		switch {
		case err != nil:
			wrong = append(wrong, err)
		case len(servers) < maxServers && !contains(servers, s):
			servers = append(servers, s)
		}
	}
	if len(servers) == 0 && len(wrong) == 0 {
		wrong = append(wrong, errors.New("it names no server"))
	}
	return servers, errors.Join(wrong...)
}

func contains(all []Server, s Server) bool {
	for _, a := range all {
		if a.Address == s.Address {
			return true
		}
	}
	return false
}

func parseOne(word string) (Server, error) {
	rest, sure := word, false
	if scheme, after, url := strings.Cut(word, "://"); url {
		if !strings.EqualFold(scheme, "coaps") {
			return Server{}, fmt.Errorf("%.80q: %w: want host, host:port or coaps://host:port", word, ErrForeign)
		}
		rest, sure = after, true
	}
	rest, _, _ = strings.Cut(rest, "/") // a path, which a storing server has none of
	if rest == "" {
		return Server{}, fmt.Errorf("%.80q: %w: it names no host", word, ErrForeign)
	}
	if !sure && strings.Contains(word, "/") {
		return Server{}, fmt.Errorf("%.80q: %w: want host, host:port or coaps://host:port", word, ErrForeign)
	}
	host, port := rest, strconv.Itoa(wire.DefaultPort)
	if a, err := netip.ParseAddr(strings.Trim(rest, "[]")); err == nil && strings.HasPrefix(rest, "[") == strings.HasSuffix(rest, "]") {
		if a.Is4() && rest != a.String() {
			return Server{}, fmt.Errorf("%.80q is neither a name nor an address", word)
		}
		host = a.Unmap().String()
		if !callable(a) {
			return Server{}, fmt.Errorf("%.80q is no address of a server", word)
		}
		return Server{net.JoinHostPort(host, port), sure}, nil
	}
	if h, p, err := net.SplitHostPort(rest); err == nil {
		host, port = h, p
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Server{}, fmt.Errorf("%.80q: port %.20q is not one of 1 to 65535", word, port)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if !callable(a) {
			return Server{}, fmt.Errorf("%.80q is no address of a server", word)
		}
		return Server{net.JoinHostPort(a.Unmap().String(), port), sure}, nil
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if !isHost(host) {
		return Server{}, fmt.Errorf("%.80q is neither a name nor an address", word)
	}
	return Server{net.JoinHostPort(host, port), sure}, nil
}

// callable reports whether a server can be at a. A zone is the name of an interface.
func callable(a netip.Addr) bool {
	odd := func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`[]/:%"`, r) }
	return !strings.ContainsFunc(a.Zone(), odd) && !a.IsUnspecified() && !a.IsMulticast() && a.Unmap() != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// isHost reports whether a name can be looked up: labels of letters, digits, hyphens
// and, as some name their machines, underscores; not all digits, which would be a
// mistyped address (RFC 1123, section 2.1).
func isHost(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, r := range label {
			if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
				return false
			}
		}
	}
	return strings.ContainsFunc(labels[len(labels)-1], func(r rune) bool { return r > '9' })
}
