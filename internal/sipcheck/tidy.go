package sipcheck

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Tidy writes m, in which Check has found nothing, as a strict parser reads it.
// What it means does not change, with one exception: a request without a branch,
// as RFC 2543 knew them, gets one that its retransmissions, its CANCEL and its ACK
// get as well, because transactions are found by it (RFC 3261, 17.2.3).
func (m *Message) Tidy() []byte {
	var b strings.Builder
	if m.IsRequest() {
		fmt.Fprintf(&b, "%s %s SIP/2.0\r\n", m.Method, tidyURI(m.URI))
	} else {
		fmt.Fprintf(&b, "SIP/2.0 %d %s\r\n", m.Status, m.Reason)
	}
	body := m.Body
	for _, f := range m.Fields {
		switch f.Name {
		case "Via":
			m.tidyVias(&b, f.Value)
		case "From", "To":
			if a, ok := readAddress(f.Value); ok {
				fmt.Fprintf(&b, "%s: %s\r\n", f.Name, a)
			}
		case "Contact", "Route", "Record-Route":
			tidyAddresses(&b, f, m.Status/100 == 3)
		case "CSeq":
			n, method, _ := seqOf(f.Value)
			fmt.Fprintf(&b, "CSeq: %d %s\r\n", n, method)
		case "Max-Forwards":
			n, _ := strconv.ParseUint(f.Value, 10, 8)
			fmt.Fprintf(&b, "Max-Forwards: %d\r\n", n)
		case "Content-Length": // what a datagram holds beyond it is discarded (18.3)
			if n, err := strconv.ParseUint(f.Value, 10, 31); err == nil && int(n) < len(body) {
				body = body[:n]
			}
		case "Refer-To", "Referred-By": // of no use here, and of many forms
		case "Content-Encoding":
			if !strings.EqualFold(f.Value, "identity") { // which says nothing
				fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
			}
		case "Content-Type":
			if f.Value != "" {
				fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
			}
		default:
			fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
		}
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(body))
	b.Write(body)
	return []byte(b.String())
}

func (m *Message) tidyVias(b *strings.Builder, value string) {
	for _, s := range splitOutside(value, ',') {
		v, ok := readVia(s)
		if !ok {
			continue
		}
		// An INVITE shares these with its ACK and its CANCEL.
		if branch, has := v.params.get("branch"); m.IsRequest() && (!has || branch == "") {
			sum := sha256.Sum256([]byte(strings.Join([]string{s, m.Get("Call-ID"), m.Get("From"), strconv.FormatUint(uint64(m.Seq()), 10)}, "\n")))
			v.params = slices.DeleteFunc(v.params, func(p param) bool { return p.name == "branch" })
			v.params = append(v.params, param{"branch", cookie + "-" + hex.EncodeToString(sum[:8]), true})
		}
		fmt.Fprintf(b, "Via: %s\r\n", v)
	}
}

// tidyAddresses writes addresses a line each. Parameters of Contact concern
// registrars, but for how good each is of those that a response redirects to
// (RFC 3261, 20.10). Contacts that SIP does not reach (8.1.1.8), of which a parser
// may take some for broken ones of SIP, concern registrars as well.
func tidyAddresses(b *strings.Builder, f Field, redirects bool) {
	for _, s := range splitOutside(f.Value, ',') {
		a, ok := readAddress(s)
		switch {
		case ok && f.Name == "Contact" && !isSIP(a.uri):
		case ok && f.Name == "Contact":
			q, _ := a.params.get("q")
			if _, err := strconv.ParseFloat(q, 32); redirects && err == nil {
				fmt.Fprintf(b, "%s: <%s>;q=%s\r\n", f.Name, tidyURI(a.uri), q)
				continue
			}
			fmt.Fprintf(b, "%s: <%s>\r\n", f.Name, tidyURI(a.uri))
		case ok:
			fmt.Fprintf(b, "%s: %s\r\n", f.Name, a)
		case s == "*":
			fmt.Fprintf(b, "%s: *\r\n", f.Name)
		}
	}
}
