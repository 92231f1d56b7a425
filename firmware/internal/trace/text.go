package trace

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	pion "github.com/pion/rtp"
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/audio"
)

// secretHeaders are those of SIP whose values are digests, or what these are made
// of (RFC 3261, 20.7, 20.27, 20.28, 20.44; RFC 8224).
var secretHeaders = []string{"authorization", "proxy-authorization", "www-authenticate", "proxy-authenticate",
	"authentication-info", "proxy-authentication-info", "identity", "y"}

// What may be secret in a URI: a password, and headers that it asks for (RFC 3261,
// 19.1.1).
var (
	password = regexp.MustCompile(`(?i)(sips?:[^:@;?<>\s]*):[^@<>\s]*@`)
	embedded = regexp.MustCompile(`(?i)((?:authori[sz]ation|authenticate|identity)=)[^&<>\s]*`)
)

// sipText is a message of SIP without what is secret in it.
func sipText(b []byte) string {
	head, body := split(newlines.Replace(string(b)))
	lines := strings.Split(head, "\n")
	out := make([]string, 0, len(lines)+1)
	secret := false
	for i, l := range lines {
		if i > 0 && strings.TrimLeft(l, " \t") != l { // the line before goes on (RFC 3261, 7.3.1)
			if secret {
				continue
			}
		} else if name, _, ok := strings.Cut(l, ":"); ok && i > 0 {
			name = strings.TrimSpace(name)
			if secret = slices.Contains(secretHeaders, strings.ToLower(name)); secret {
				l = name + ": " + blank
			}
		}
		l = password.ReplaceAllString(l, "$1:"+blank+"@")
		out = append(out, embedded.ReplaceAllString(l, "$1"+blank))
	}
	if len(body) > 0 {
		out = append(out, "", sdpText(body))
	}
	return strings.Join(out, "\n")
}

// newlines makes one of what anybody may take for one.
var newlines = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// split parts a message where its head ends: at the first empty line.
func split(text string) (head, body string) {
	head, body, _ = strings.Cut(strings.TrimLeft(text, "\n"), "\n\n")
	return strings.TrimRight(head, "\n"), body
}

// secretLines begin lines of a session description that hold keys or passwords
// (RFC 4568, RFC 4567, RFC 8839, RFC 4566 5.12).
var secretLines = []string{"a=crypto:", "a=key-mgmt:", "a=ice-pwd:", "k="}

// sdpText is a session description without what is secret in it, or the length of
// a body that is none: it may hold digits.
func sdpText(body string) string {
	if !strings.HasPrefix(body, "v=0") {
		return fmt.Sprintf("(a body of %d bytes)", len(body))
	}
	var out []string
	for l := range strings.SplitSeq(strings.TrimRight(body, "\n"), "\n") {
		if len(l) < 2 || l[1] != '=' {
			l = fmt.Sprintf("(a line of %d bytes)", len(l))
		}
		for _, s := range secretLines {
			if len(l) >= len(s) && strings.EqualFold(l[:len(s)], s) {
				l = s + blank
			}
		}
		out = append(out, l)
	}
	return strings.Join(out, "\n")
}

// Options of DHCP and DHCPv6 whose values may be secret: authentication (RFC 3118,
// RFC 8415 21.11), and what vendors put into theirs.
var (
	secretOptions4 = []dhcpv4.OptionCode{dhcpv4.OptionAuthentication, dhcpv4.OptionVendorSpecificInformation, dhcpv4.OptionVendorIdentifyingVendorSpecific}
	secretOptions6 = []dhcpv6.OptionCode{dhcpv6.OptionAuth, dhcpv6.OptionVendorOpts}
)

// dhcpText is a message of DHCP, of either version, without what is secret in it.
func dhcpText(b []byte) string {
	if four, err := dhcpv4.FromBytes(b); err == nil {
		for _, secret := range secretOptions4 {
			if four.Options.Has(secret) {
				four.UpdateOption(dhcpv4.OptGeneric(secret, []byte(blank)))
			}
		}
		return four.Summary()
	}
	six, err := dhcpv6.MessageFromBytes(b)
	if err != nil {
		return fmt.Sprintf("no message, %d bytes", len(b))
	}
	for _, secret := range secretOptions6 {
		if six.GetOneOption(secret) != nil {
			six.UpdateOption(&dhcpv6.OptionGeneric{OptionCode: secret, OptionData: []byte(blank)})
		}
	}
	return six.Summary()
}

// Keys of a body of CBOR (package wire): those that are shown, but for that of a
// token for enrolment.
const (
	tokenKey = 14
	lastKey  = 16
	problems = "flexphone:rd" // beside -2, a line of text (RFC 9290)
)

// coapText is a message of CoAP: what it asks or answers, and its body without a
// token.
func coapText(m message.Message) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%v %v id=%d", m.Type, m.Code, m.MessageID)
	if len(m.Token) > 0 { // whose answer it is: no secret, beside DTLS
		fmt.Fprintf(&s, " token=%x", []byte(m.Token))
	}
	if m.Code > codes.Empty && m.Code < codes.Created {
		if path, err := m.Options.Path(); err == nil {
			fmt.Fprintf(&s, " path=%s", path)
		}
		for _, o := range m.Options {
			if o.ID == message.URIQuery {
				fmt.Fprintf(&s, " query=%s", o.Value)
			}
		}
	}
	if n, err := m.Options.Observe(); err == nil {
		fmt.Fprintf(&s, " observe=%d", n)
	}
	if len(m.Payload) > 0 {
		s.WriteString(" body=" + cborText(m.Payload))
	}
	return s.String()
}

// cborText is a body in diagnostic notation (RFC 8949, 8).
func cborText(b []byte) string {
	var body map[any]cbor.RawMessage
	if err := cbor.Unmarshal(b, &body); err != nil {
		return fmt.Sprintf("(%d bytes)", len(b))
	}
	var fields []string
	for key, raw := range body {
		value := fmt.Sprintf("(%d bytes)", len(raw))
		switch n, numbered := key.(uint64); {
		case numbered && n == tokenKey:
			value = blank
		case numbered && n <= lastKey, key == int64(-2), key == problems:
			if text, err := cbor.Diagnose(raw); err == nil {
				value = text
			}
		}
		fields = append(fields, fmt.Sprintf("%v: %s", key, value))
	}
	slices.Sort(fields)
	return "{" + strings.Join(fields, ", ") + "}"
}

// rtpText is the header of a packet: what is said is nobody's business.
func rtpText(what audio.Protocol, b []byte) string {
	if what == audio.RTCP {
		if len(b) < 2 {
			return fmt.Sprintf("no report, %d bytes", len(b))
		}
		return fmt.Sprintf("rtcp type=%d bytes=%d", b[1], len(b))
	}
	var h pion.Header
	n, err := h.Unmarshal(b)
	if err != nil {
		return fmt.Sprintf("no packet, %d bytes", len(b))
	}
	return fmt.Sprintf("type=%d sequence=%d timestamp=%d ssrc=%08x marker=%v payload=%d", h.PayloadType, h.SequenceNumber, h.Timestamp, h.SSRC, h.Marker, len(b)-n)
}
