package sipcheck

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Answer writes the response to m, which came from a source: without a
// transaction, as one that remembers nothing answers (RFC 3261, 8.2.7), so that
// whoever repeats m gets the same again. It is nil for what has no answer: a
// response, an ACK, and a request without any Via. What is broken in m stands in
// the response as it came, for whoever sent it to know it by.
func (m *Message) Answer(from netip.AddrPort, code int, reason string, more ...Field) []byte {
	if !m.IsRequest() || m.Method == "ACK" || len(m.Values("Via")) == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "SIP/2.0 %d %s\r\n", code, reason)
	if !m.echoVias(&b, from) {
		return nil
	}
	for _, name := range once {
		value := m.Get(name)
		if m.Count(name) == 0 || uncontrolled(Field{name, value}) {
			continue
		}
		if name == "To" {
			value += m.toTag()
		}
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
	}
	for _, f := range more {
		fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
	}
	b.WriteString("Content-Length: 0\r\n\r\n")
	return []byte(b.String())
}

// echoVias writes the way that m has come, and where it came from. It reports
// whether there is any.
func (m *Message) echoVias(b *strings.Builder, from netip.AddrPort) (found bool) {
	all, ok := m.vias()
	if !ok {
		for _, f := range m.Fields {
			if f.Name == "Via" && !uncontrolled(f) {
				fmt.Fprintf(b, "Via: %s\r\n", f.Value)
				found = true
			}
		}
		return found
	}
	top := &all[0]
	if _, symmetric := top.params.get("rport"); symmetric || strings.Trim(top.host, "[]") != from.Addr().String() {
		top.params = received(top.params, from)
	}
	for _, v := range all {
		fmt.Fprintf(b, "Via: %s\r\n", v)
	}
	return true
}

// received says in a Via where its request came from (RFC 3261, 18.2.1; RFC 3581,
// 4).
func received(in params, from netip.AddrPort) params {
	var out params
	for _, p := range in {
		switch p.name {
		case "received":
			continue
		case "rport":
			p.value, p.valued = strconv.Itoa(int(from.Port())), true
		}
		out = append(out, p)
	}
	return append(out, param{"received", from.Addr().String(), true})
}

// toTag is the tag that a response to m adds to To: the same for the same request.
func (m *Message) toTag() string {
	a, ok := readAddress(m.Get("To"))
	if _, tagged := a.params.get("tag"); !ok || tagged {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{m.branch(), m.Get("Call-ID"), m.Get("From"), m.Get("CSeq")}, "\n")))
	return ";tag=" + hex.EncodeToString(sum[:8])
}

// Way is where the response to m goes by UDP (RFC 3261, 18.2.2; RFC 3581, 4): to
// the host that m came from, whatever it says.
func (m *Message) Way(from netip.AddrPort) netip.AddrPort {
	all, ok := m.vias()
	if !ok {
		return from
	}
	if _, symmetric := all[0].params.get("rport"); symmetric {
		return from
	}
	port := uint16(all[0].port)
	if port == 0 {
		port = 5060
	}
	return netip.AddrPortFrom(from.Addr(), port)
}
