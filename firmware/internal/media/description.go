package media

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"flexphone/firmware/internal/sip"
)

// A description is a session description as it came. Whatever line is unknown,
// misplaced or malformed is passed over: it is meant for others, or it costs
// its stream alone (RFC 8866, section 5; RFC 3264, section 6). Other telephones
// send lines of other standards, of standards to be, and of nobody's.
type description struct {
	section
	when    []sdp.TimeDescription // its t= lines that can be read
	streams []mediaLine
}

// A section is what the session and each stream may say.
type section struct {
	connection string          // value of its first c= line; empty: none
	attributes []sdp.Attribute // keys in lower case
	noReports  bool            // b=RR:0 (RFC 3556)
}

// An origin is where a description came from.
type origin struct {
	host   netip.Addr                     // its sender; may be invalid
	source func(to netip.Addr) netip.Addr // our address for what goes to to; invalid: there is no route
	passed bool                           // it was told of a pass for a relay, where either family may come
}

// reaches reports whether anything can be sent to addr. Of the sender's family
// it can, or will again when the network is back.
func (o origin) reaches(addr netip.Addr) bool {
	if o.passed || !o.host.IsValid() || addr.IsUnspecified() || addr.Is4() == o.host.Is4() {
		return true
	}
	return o.source(addr).IsValid()
}

// A mediaLine is an m= line and what follows it.
type mediaLine struct {
	section
	name sdp.MediaName // can be sent back; Port is the one offered, 0 if that is none
}

// readDescription reads b, in which neither order nor line ends matter.
func readDescription(b []byte) (*description, error) {
	if len(b) > maxSDP {
		return nil, fmt.Errorf("%w: %d bytes", sip.ErrDescription, len(b))
	}
	d := new(description)
	at, begun := &d.section, false
	for line := range strings.FieldsFuncSeq(string(b), func(r rune) bool { return r == '\r' || r == '\n' }) {
		key, value, ok := strings.Cut(line, "=")
		if key = strings.TrimLeft(key, " \t\ufeff"); !ok || len(strings.TrimSpace(key)) != 1 {
			continue
		}
		value = strings.TrimSpace(value)
		switch key[0] {
		case 'v':
			begun = true
		case 't':
			d.when = appendTime(d.when, value)
		case 'm':
			if len(d.streams) == maxStreamLines {
				return nil, fmt.Errorf("%w: more than %d m= lines", sip.ErrNoMedia, maxStreamLines)
			}
			d.streams = append(d.streams, mediaLine{name: mediaName(value)})
			at = &d.streams[len(d.streams)-1].section
		default:
			at.add(key[0], value)
		}
	}
	if !begun && len(d.streams) == 0 {
		return nil, fmt.Errorf("%w: no v= and no m= line", sip.ErrDescription)
	}
	return d, nil
}

func (s *section) add(key byte, value string) {
	switch key {
	case 'c':
		if s.connection == "" {
			s.connection = value
		}
	case 'b':
		kind, most, _ := strings.Cut(value, ":")
		if n, err := strconv.ParseUint(strings.TrimSpace(most), 10, 64); err == nil && n == 0 && strings.EqualFold(strings.TrimSpace(kind), "RR") {
			s.noReports = true // whoever only listens sends none
		}
	case 'a':
		name, rest, _ := strings.Cut(value, ":")
		s.attributes = append(s.attributes, sdp.Attribute{Key: strings.ToLower(strings.TrimSpace(name)), Value: strings.TrimSpace(rest)})
	}
}

// appendTime keeps a t= line: the answer's are the offer's (RFC 3264, 6).
func appendTime(when []sdp.TimeDescription, value string) []sdp.TimeDescription {
	f := strings.Fields(value)
	if len(f) != 2 {
		return when
	}
	start, err1 := strconv.ParseUint(f[0], 10, 64)
	stop, err2 := strconv.ParseUint(f[1], 10, 64)
	if err1 != nil || err2 != nil {
		return when
	}
	return append(when, sdp.TimeDescription{Timing: sdp.Timing{StartTime: start, StopTime: stop}})
}

// mediaName reads an m= line so that it can be refused with its own words, each
// of which is made printable; what is missing is made up.
func mediaName(value string) sdp.MediaName {
	f := strings.Fields(value)
	for i := range f {
		f[i] = strings.Map(func(r rune) rune {
			if r <= ' ' || r > '~' {
				return '-'
			}
			return r
		}, f[i])
	}
	for i, missing := range []string{"unknown", "0", "unknown", "0"} {
		if len(f) == i {
			f = append(f, missing)
		}
	}
	port, _, _ := strings.Cut(f[1], "/")
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		n = 0
	}
	return sdp.MediaName{Media: f[0], Port: sdp.RangedPort{Value: int(n)}, Protos: strings.Split(f[2], "/"), Formats: f[3:]}
}

// refused is s as an answer that does not want it has it (RFC 3264, 6).
func (s mediaLine) refused() *sdp.MediaDescription {
	name := s.name
	name.Port = sdp.RangedPort{}
	return &sdp.MediaDescription{MediaName: name}
}

// address is where a stream is to be sent. Names are not looked up: a telephone
// may have no name server, and nobody may have it ask one. A name, or no c=
// line at all, stands for the host that the message came from, which is where
// the media of a telephone are.
func (d *description) address(s mediaLine, from netip.Addr) (netip.Addr, bool) {
	value := s.connection
	if value == "" {
		value = d.connection
	}
	if f := strings.Fields(value); len(f) > 0 {
		if addr, ok := literal(f[len(f)-1]); ok {
			return addr, !addr.IsMulticast() && addr != netip.AddrFrom4([4]byte{255, 255, 255, 255})
		}
	}
	from = from.Unmap().WithZone("")
	return from, from.IsValid()
}

// literal is an address as c= and a=rtcp write it, or as they should not.
func literal(s string) (netip.Addr, bool) {
	s, _, _ = strings.Cut(s, "/") // a multicast address has its TTL
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return addr.Unmap().WithZone(""), err == nil
}
