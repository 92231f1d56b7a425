package sip

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	gosip "github.com/emiago/sipgo/sip"
)

// needed are the headers that an answer is made of, in both of their forms (RFC
// 3261, sections 7.3.3 and 8.2.6.2).
func needed(name string) bool {
	return slices.Contains([]string{"via", "v", "from", "f", "to", "t", "call-id", "i", "cseq"}, strings.ToLower(name))
}

// refuse answers a request that the parser does not take, such as one with a
// Contact that is none, with 400, where what an answer is made of can be read:
// who asks would else ask again and again (RFC 3261, section 21.4.1). Of what is
// no request, and of ACK, it is nothing.
func (s *Server) refuse(text []byte, from netip.AddrPort) ([]byte, netip.AddrPort) {
	m, err := s.parser.ParseSIP(bare(text))
	if err != nil {
		return nil, netip.AddrPort{}
	}
	req, ok := m.(*gosip.Request)
	if !ok || req.Method == gosip.ACK {
		return nil, netip.AddrPort{}
	}
	refused, ok := check(req)
	if !ok {
		return nil, netip.AddrPort{}
	}
	if refused == nil {
		r := answer(400)
		refused = &r
	}
	return s.composed(req, *refused, from)
}

// bare returns the first line of a message and those of its headers that are
// needed, and no body.
func bare(text []byte) []byte {
	head, _, _ := bytes.Cut(text, []byte("\r\n\r\n"))
	var out bytes.Buffer
	keep := true
	for i, line := range bytes.Split(head, []byte("\r\n")) {
		if folded := len(line) > 0 && (line[0] == ' ' || line[0] == '\t'); i > 0 && !folded { // RFC 3261, section 7.3.1
			name, _, _ := bytes.Cut(line, []byte(":"))
			keep = needed(strings.TrimRight(string(name), " \t"))
		}
		if keep {
			out.Write(line)
			out.WriteString("\r\n")
		}
	}
	out.WriteString("\r\n")
	return out.Bytes()
}
