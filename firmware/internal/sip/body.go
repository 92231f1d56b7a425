package sip

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/netip"
	"strings"

	gosip "github.com/emiago/sipgo/sip"
)

const (
	sdpType = "application/sdp" // of what a LocalMedia writes and reads

	// taken are the bodies that we take, as Accept says it (RFC 5621, 3.1).
	taken = sdpType + ", multipart/mixed, multipart/alternative, multipart/related"

	maxParts = 32 // of one multipart body, and of those within it
	maxDepth = 4  // of multipart bodies in each other
)

var errBadBody = errors.New("malformed body")

// A part is a body, or a part of one: what it is and how it is to be taken.
type part struct {
	kind        string // Content-Type
	disposition string // Content-Disposition (RFC 3261, 20.11)
	encoding    string // Content-Encoding
	transfer    string // Content-Transfer-Encoding, of parts only
	content     []byte
}

// found is what a search through a body has found.
type found struct {
	description []byte // the first session description; nil: none
	needed      bool   // something else says that it must be understood
	unknown     bool   // something else is there and does not say so
	encoded     bool   // what is needed or unknown is so for its encoding
	parts       int
}

// A letter is a message as far as its body matters.
type letter interface {
	headed
	Body() []byte
	Source() string
}

// bodyOf finds the session description in a request, which may be a part of its
// body among others: signalling of telephone exchanges, a place, a picture. A
// part that must be understood and is not refuses the request. One that does not
// say whether it must be counts as needed only where there is no description
// beside it: strictly it always is (RFC 3261, 20.11), but those who send such
// parts do not mean that.
func bodyOf(msg letter) (description []byte, r refusal) {
	f, err := look(msg)
	switch {
	case err != nil:
		return nil, refuse(400)
	case f.needed || f.unknown && f.description == nil:
		headers := []gosip.Header{gosip.NewHeader("Accept", taken)}
		if f.encoded {
			headers = append(headers, gosip.NewHeader("Accept-Encoding", "identity"))
		}
		return nil, refuse(415, headers...)
	}
	return f.description, refusal{}
}

// descriptionIn is the session description in a message that cannot be refused,
// or has been looked at before.
func descriptionIn(msg letter) []byte {
	f, _ := look(msg)
	return f.description
}

func look(msg letter) (found, error) {
	var f found
	if len(msg.Body()) == 0 {
		return f, nil
	}
	p := part{kind: valueOf(msg, "Content-Type"), disposition: valueOf(msg, "Content-Disposition"),
		encoding: valueOf(msg, "Content-Encoding"), content: msg.Body()}
	if p.kind == "" {
		return f, errBadBody
	}
	err := f.search(p, maxDepth)
	return f, err
}

// hostOfSender is the host that msg came from. Of a relayed one only itself says it;
// the zero Addr: it does not.
func hostOfSender(msg letter) netip.Addr {
	from := sourceOf(msg.Source()).Addr()
	if !isRelayed(from) {
		return from
	}
	for _, h := range msg.Headers() {
		if c, ok := h.(*gosip.ContactHeader); ok {
			if at, _, ok := hop(c.Address); ok {
				return at.Addr().Unmap()
			}
		}
	}
	return netip.Addr{}
}

// search looks through p and the parts of it.
func (f *found) search(p part, depth int) error {
	kind, params := typeOf(p.kind)
	disposition, how := typeOf(p.disposition)
	if encoded := p.encoding != "" && !strings.EqualFold(strings.TrimSpace(p.encoding), "identity"); encoded {
		f.miss(how["handling"])
		f.encoded = f.encoded || !strings.EqualFold(how["handling"], "optional")
		return nil
	}
	switch {
	case strings.HasPrefix(kind, "multipart/"):
		return f.searchParts(p, kind, params, how["handling"], depth)
	case kind == sdpType && (disposition == "" || disposition == "session"):
		if f.description == nil {
			f.description = decoded(p)
		}
	default:
		f.miss(how["handling"])
	}
	return nil
}

// miss notes something that is not understood.
func (f *found) miss(handling string) {
	switch strings.ToLower(handling) {
	case "optional":
	case "required":
		f.needed = true
	default:
		f.unknown = true
	}
}

func (f *found) searchParts(p part, kind string, params map[string]string, handling string, depth int) error {
	if depth == 0 {
		f.miss(handling)
		return nil
	}
	parts, err := f.split(p.content, params["boundary"])
	if err != nil {
		return err
	}
	inner := found{parts: f.parts}
	for _, q := range parts {
		one := found{parts: inner.parts}
		if err := one.search(q, depth-1); err != nil {
			return err
		}
		inner.parts = one.parts
		if kind == "multipart/alternative" {
			// The last that is understood is the best (RFC 2046, 5.1.4), and the
			// others need not be.
			if one.description != nil && !one.needed {
				inner = one
			} else if inner.description == nil {
				inner.unknown, inner.encoded = true, inner.encoded || one.encoded
			}
			continue
		}
		if inner.description == nil {
			inner.description = one.description
		}
		inner.needed, inner.unknown = inner.needed || one.needed, inner.unknown || one.unknown
		inner.encoded = inner.encoded || one.encoded
	}
	f.parts = inner.parts
	if f.description == nil {
		f.description = inner.description
	}
	// A body that may be ignored as a whole needs none of its parts.
	if optional := strings.EqualFold(handling, "optional"); !optional {
		f.needed, f.unknown = f.needed || inner.needed, f.unknown || inner.unknown
		f.encoded = f.encoded || inner.encoded
		if inner.description == nil && strings.EqualFold(handling, "required") && inner.unknown {
			f.needed = true
		}
	}
	return nil
}

// split takes a multipart body apart (RFC 2046, 5.1). A last part whose end is
// missing ends with the body.
func (f *found) split(content []byte, boundary string) ([]part, error) {
	if boundary == "" || len(boundary) > 70 {
		return nil, errBadBody
	}
	var parts []part
	r := multipart.NewReader(bytes.NewReader(content), boundary)
	for {
		q, err := r.NextRawPart()
		if err == io.EOF || err != nil && len(parts) > 0 {
			return parts, nil
		} else if err != nil {
			return nil, errBadBody
		}
		if f.parts++; f.parts > maxParts {
			return nil, errBadBody
		}
		b, err := io.ReadAll(q)
		parts = append(parts, part{
			kind: q.Header.Get("Content-Type"), disposition: q.Header.Get("Content-Disposition"),
			encoding: q.Header.Get("Content-Encoding"), transfer: q.Header.Get("Content-Transfer-Encoding"), content: b,
		})
		if err != nil {
			return parts, nil
		}
	}
}

// decoded is p as it was before it was made fit for mail.
func decoded(p part) []byte {
	var r io.Reader
	switch strings.ToLower(strings.TrimSpace(p.transfer)) {
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, bytes.NewReader(p.content))
	case "quoted-printable":
		r = quotedprintable.NewReader(bytes.NewReader(p.content))
	default:
		return p.content
	}
	b, _ := io.ReadAll(r) // up to what cannot be decoded, which is the reader's to judge
	return b
}

// typeOf is a Content-Type or Content-Disposition in lower case, and its
// parameters. The parameters of one that is malformed are left out.
func typeOf(value string) (string, map[string]string) {
	kind, params, err := mime.ParseMediaType(value)
	if err != nil {
		kind, _, _ = strings.Cut(value, ";")
		kind, params = strings.ToLower(strings.TrimSpace(kind)), nil
	}
	return kind, params
}

// valueOf is the value of msg's first header of that name, long or compact.
func valueOf(msg headed, name string) string {
	for _, h := range msg.Headers() {
		if is(h, name) {
			return strings.TrimSpace(h.Value())
		}
	}
	return ""
}
