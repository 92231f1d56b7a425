package directory

import (
	"strings"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/exchange"
)

// A resource is one that /.well-known/core lists (RFC 6690). Its resource type is
// this project's own: paths and bodies have the shape of a resource directory's
// (RFC 9176), and are others.
type resource struct{ path, kind, more string }

// resources are all that there is.
func resources() []resource {
	return []resource{
		{"/" + wire.PathDirectory, "flexphone.rd", ";ct=60"},
		{"/" + wire.PathLookup, "flexphone.rd-lookup", ";ct=60;obs"},
		{"/" + wire.PathKnock, "flexphone.rd-knock", ""},
		{"/" + wire.PathLink, "flexphone.link", ";ct=60"},
	}
}

// linkFormat is application/link-format, RFC 6690 section 7.2.
const linkFormat = 40

// discover answers what there is here, or those of it that the query asks for
// (RFC 6690, section 4.1); of nothing it says so with an empty list.
func discover(m message.Message) exchange.Response {
	if accept, ok := wire.Uint(m, message.Accept); ok && accept != linkFormat {
		return problem(codes.NotAcceptable, wire.Problem{Reason: wire.ReasonMalformed, Detail: "only application/link-format is given"})
	}
	var out []string
	for _, l := range resources() {
		if l.matches(wire.Strings(m, message.URIQuery)) {
			out = append(out, "<"+l.path+`>;rt="`+l.kind+`"`+l.more)
		}
	}
	return exchange.Response{Code: codes.Content, Format: linkFormat, Payload: []byte(strings.Join(out, ","))}
}

// matches reports whether a resource is what each of the filters asks for.
func (l resource) matches(filters []string) bool {
	for _, f := range filters {
		name, want, _ := strings.Cut(f, "=")
		var is string
		switch name {
		case "href":
			is = l.path
		case "rt":
			is = l.kind
		case "ct":
			if strings.HasPrefix(l.more, ";ct=60") {
				is = "60"
			}
		default:
			return false
		}
		if prefix, any := strings.CutSuffix(want, "*"); any && strings.HasPrefix(is, prefix) || is == want {
			continue
		}
		return false
	}
	return true
}
