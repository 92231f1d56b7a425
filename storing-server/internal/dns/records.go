package dns

import (
	"strings"

	"github.com/miekg/dns"

	"flexphone/registry-client/wire"
)

func header(name string, kind uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

// queryOf reads whom a label names: a short number, 15 digits, or a MAC, with
// or without dashes.
func queryOf(label string) (wire.Query, bool) {
	if wire.ValidNumber(label) {
		return wire.Query{Number: label}, true
	}
	if m, err := wire.ParseDigits(label); err == nil {
		return wire.Query{MAC: m}, true
	}
	if m, err := wire.ParseMAC(label); err == nil {
		return wire.Query{MAC: m}, true
	}
	return wire.Query{}, false
}

// A service is a transport of SIP, as RFC 3263, section 4.1 names it; an empty
// one is the phone itself.
type service struct {
	label  string // of SRV
	naptr  string
	secure bool
}

// services are in the order of preference.
func services() [3]service {
	return [3]service{
		{"_sips._tcp", "SIPS+D2T", true},
		{"_sip._udp", "SIP+D2U", false},
		{"_sip._tcp", "SIP+D2T", false},
	}
}

// serviceOf reads the labels before the phone's. exists is true for every name
// that there is, also for one with nothing at it but names below it.
func serviceOf(labels []string) (found service, exists bool) {
	name := strings.Join(labels, ".")
	switch name {
	case "", "_udp", "_tcp":
		return service{label: name}, true
	}
	for _, s := range services() {
		if s.label == name {
			return s, true
		}
	}
	return service{}, false
}

// port is where a phone has a service; zero: nowhere.
func (s service) port(row wire.Row) uint16 {
	if s.secure {
		return row.Ports.SIPS
	}
	return row.Ports.SIP
}

// records answers q for a phone that is online.
func records(q dns.Question, host string, at service, row wire.Row, ttl uint32) (out []dns.RR) {
	switch {
	case at.label == "" && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeAAAA):
		return addresses(q.Name, q.Qtype, row, ttl)
	case at.label == "" && q.Qtype == dns.TypeNAPTR:
		for i, s := range services() {
			if s.port(row) != 0 {
				out = append(out, &dns.NAPTR{
					Hdr: header(q.Name, dns.TypeNAPTR, ttl), Order: uint16(10 * (i + 1)), Preference: 10,
					Flags: "s", Service: s.naptr, Replacement: s.label + "." + host,
				})
			}
		}
	case q.Qtype == dns.TypeSRV && at.port(row) != 0 && at.naptr != "":
		return []dns.RR{&dns.SRV{Hdr: header(q.Name, dns.TypeSRV, ttl), Port: at.port(row), Target: host}}
	}
	return out
}

// extra is what will be asked next.
func extra(q dns.Question, host string, row wire.Row, ttl uint32) []dns.RR {
	if q.Qtype != dns.TypeSRV {
		return nil
	}
	return append(addresses(host, dns.TypeA, row, ttl), addresses(host, dns.TypeAAAA, row, ttl)...)
}

// addresses returns a phone's addresses of one family, in its order.
func addresses(name string, kind uint16, row wire.Row, ttl uint32) (out []dns.RR) {
	for _, a := range row.Addrs {
		switch {
		case a.Is4() && kind == dns.TypeA:
			out = append(out, &dns.A{Hdr: header(name, kind, ttl), A: a.AsSlice()})
		case a.Is6() && kind == dns.TypeAAAA:
			out = append(out, &dns.AAAA{Hdr: header(name, kind, ttl), AAAA: a.AsSlice()})
		}
	}
	return out
}
