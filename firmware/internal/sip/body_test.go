package sip

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	gosip "github.com/emiago/sipgo/sip"
)

// desc is the description in the bodies below.
const desc = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 5000 RTP/AVP 8\r\n"

// A bodied is a message with a body in a test: header lines, an empty line, and
// the body, with LF for line ends. "%" stands for desc.
func bodied(text string) *gosip.Request {
	lines, body, _ := strings.Cut(text, "\n\n")
	req := gosip.NewRequest(gosip.INVITE, gosip.Uri{Scheme: "sip", Host: "192.0.2.1"})
	for line := range strings.SplitSeq(lines, "\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			req.AppendHeader(gosip.NewHeader(name, value))
		}
	}
	body = strings.ReplaceAll(body, "\n", "\r\n")
	body = strings.ReplaceAll(body, "@", base64.StdEncoding.EncodeToString([]byte(desc)))
	req.SetBody([]byte(strings.ReplaceAll(body, "%", desc)))
	return req
}

const (
	mixed       = "Content-Type: multipart/mixed;boundary=b\n\n"
	alternative = "Content-Type: multipart/alternative; boundary=\"b\"\n\n"
	partSDP     = "--b\nContent-Type: application/sdp\n\n%\n"
	isup        = "--b\nContent-Type: application/isup;version=itu-t92+;base=etsi121\nContent-Disposition: signal;handling=optional\n\nxx\n"
	end         = "--b--\n"
)

// bodies are messages by what is to be said to them: 0 takes the description, 1
// takes the message without one.
var bodies = map[string]int{
	"Content-Type: application/sdp\n\n%":                                                 0,
	"c: application/sdp\n\n%":                                                            0,
	"c: APPLICATION/SDP ; charset=utf-8\n\n%":                                            0,
	"Content-Type: application/sdp\nContent-Disposition: session\n\n%":                   0,
	"Content-Type: application/sdp\nContent-Disposition: Session;handling=required\n\n%": 0,
	"Content-Type: application/sdp\nContent-Encoding: identity\n\n%":                     0,
	"Content-Type: application/sdp;;=\n\n%":                                              0,
	"Content-Type: application/sdp\n\n":                                                  1,
	"\n\n":                                                                               1,
	"\n\n%":                                                                              400,
	"Content-Type: application/sdp\nContent-Encoding: gzip\n\n%":                         415,
	"c: application/sdp\ne: gzip\n\n%":                                                   415,
	"Content-Type: application/sdp\nContent-Disposition: early-session\n\n%":             415,
	"Content-Type: application/sdp\nContent-Disposition: early-session;handling=optional\n\n%": 1,
	"Content-Type: application/isup\n\nxx":                                                     415,
	"Content-Type: application/isup\nContent-Disposition: signal;handling=optional\n\nxx":      1,
	"Content-Type: image/png\nContent-Disposition: icon;handling=OPTIONAL\n\nxx":               1,
	"Content-Type: image/png\nContent-Disposition: icon;handling=required\n\nxx":               415,
	mixed + partSDP + end:                                                                          0,
	"c: multipart/mixed;boundary=b\n\n" + partSDP + end:                                            0,
	mixed + partSDP + isup + end:                                                                   0,
	mixed + isup + partSDP + end:                                                                   0,
	mixed + "preamble\n" + partSDP + isup + end + "epilogue":                                       0,
	mixed + partSDP + "--b\nContent-Type: text/plain\n\nhi\n" + end:                                0,
	mixed + partSDP + "--b\nContent-Type: application/pidf+xml\nContent-ID: <x@y>\n\n<x/>\n" + end: 0,
	mixed + "--b\nContent-Type: application/resource-lists+xml\nContent-Disposition: recipient-list\n\n<x/>\n" + partSDP + end: 0,
	mixed + partSDP + "--b\n\nplain text\n" + end:                                                                0,
	mixed + partSDP + "--b\nContent-Type: application/x\nContent-Disposition: x;handling=required\n\nx\n" + end:  415,
	mixed + partSDP + "--b\nContent-Type: application/x\nContent-Disposition: x; Handling=Required\n\nx\n" + end: 415,
	mixed + partSDP + "--b\nContent-Type: application/sdp\nContent-Disposition: early-session\n\nv=0\n" + end:    0,
	mixed + "--b\nContent-Type: application/sdp\nContent-Disposition: early-session\n\nv=0\n" + partSDP + end:    0,
	mixed + isup + end: 1,
	mixed + "--b\nContent-Type: text/plain\n\nhi\n" + end:                                                                                                                        415,
	mixed + "--b\nContent-Type: application/sdp\nContent-Transfer-Encoding: base64\n\n@\n" + end:                                                                                 0,
	mixed + "--b\nContent-Type: application/sdp\nContent-Transfer-Encoding: binary\n\n%\n" + end:                                                                                 0,
	mixed + "--b\nContent-Type: application/sdp\nContent-Encoding: deflate\n\n%\n" + end:                                                                                         415,
	mixed + "--b\nContent-Type: application/sdp\nContent-Encoding: deflate\nContent-Disposition: session;handling=optional\n\n%\n" + partSDP + end:                               0,
	"Content-Type: multipart/mixed;boundary=b\n\n" + strings.TrimSuffix(partSDP, "\n"):                                                                                           0, // its end is missing
	"Content-Type: multipart/mixed\n\n" + partSDP + end:                                                                                                                          400,
	"Content-Type: multipart/mixed;boundary=other\n\n" + partSDP + end:                                                                                                           400,
	"Content-Type: multipart/mixed;boundary=" + strings.Repeat("b", 71) + "\n\n" + partSDP + end:                                                                                 400,
	mixed + strings.Repeat(isup, maxParts+1) + end:                                                                                                                               400,
	"Content-Type: multipart/x-new;boundary=b\n\n" + partSDP + isup + end:                                                                                                        0,
	"Content-Type: multipart/signed;boundary=b\n\n" + partSDP + "--b\nContent-Type: application/pkcs7-signature\nContent-Disposition: attachment;handling=optional\n\nx\n" + end: 0,
	"Content-Type: multipart/related;boundary=b;type=\"application/sdp\"\n\n" + partSDP + "--b\nContent-Type: image/png\nContent-ID: <i>\n\nx\n" + end:                           0,
	alternative + partSDP + end: 0,
	alternative + "--b\nContent-Type: text/plain\n\nhi\n" + partSDP + end:                                                                                                                               0,
	alternative + partSDP + "--b\nContent-Type: application/sdpng\n\nx\n" + end:                                                                                                                         0,
	alternative + partSDP + "--b\nContent-Type: application/sdpng\nContent-Disposition: session;handling=required\n\nx\n" + end:                                                                         0,
	alternative + "--b\nContent-Type: application/sdp\n\nv=0\n" + partSDP + end:                                                                                                                         0, // the last is the best
	alternative + "--b\nContent-Type: text/plain\n\nhi\n--b\nContent-Type: text/html\n\nhi\n" + end:                                                                                                     415,
	mixed + "--b\nContent-Type: multipart/alternative;boundary=c\n\n--c\nContent-Type: text/plain\n\nhi\n--c\nContent-Type: application/sdp\n\n%\n--c--\n" + isup + end:                                 0,
	mixed + "--b\nContent-Type: multipart/mixed;boundary=c\n\n--c\nContent-Type: multipart/related;boundary=d\n\n--d\nContent-Type: application/sdp\n\n%\n--d--\n--c--\n" + end:                         0,
	mixed + partSDP + "--b\nContent-Type: multipart/mixed;boundary=c\nContent-Disposition: x;handling=optional\n\n--c\nContent-Type: x/y\nContent-Disposition: x;handling=required\n\nx\n--c--\n" + end: 0,
	mixed + partSDP + "--b\nContent-Type: multipart/mixed;boundary=c\nContent-Disposition: x;handling=required\n\n--c\nContent-Type: x/y\n\nx\n--c--\n" + end:                                           415,
}

func TestBodies(t *testing.T) {
	for text, want := range bodies {
		req := bodied(text)
		b, r := bodyOf(req)
		switch {
		case want < 400 && !r.taken():
			t.Errorf("refused with %d:\n%s", r.code, text)
		case want >= 400 && r.code != want:
			t.Errorf("%d, want %d:\n%s", r.code, want, text)
		case want == 0 && strings.TrimSpace(string(b)) != strings.TrimSpace(desc):
			t.Errorf("found %q in\n%s", b, text)
		case want > 0 && b != nil && want != 1, want == 1 && b != nil:
			t.Errorf("found %q in\n%s", b, text)
		}
		if r.code != 415 {
			continue
		}
		accept := func(name string) bool {
			return slices.ContainsFunc(r.headers, func(h gosip.Header) bool { return h.Name() == name })
		}
		if encoded := strings.Contains(text, "gzip") || strings.Contains(text, "deflate"); !accept("Accept") || accept("Accept-Encoding") != encoded {
			t.Errorf("says %v to\n%s", r.headers, text)
		}
	}
}

// FuzzBody: whatever the header and the body, what is found is found again
// within another body, and nothing is both found and refused.
func FuzzBody(f *testing.F) {
	for text := range bodies {
		req := bodied(text)
		f.Add(valueOf(req, "Content-Type"), valueOf(req, "Content-Disposition"), valueOf(req, "Content-Encoding"), req.Body())
	}
	f.Fuzz(func(t *testing.T, kind, disposition, encoding string, body []byte) {
		req := gosip.NewRequest(gosip.INVITE, gosip.Uri{Scheme: "sip", Host: "192.0.2.1"})
		for name, value := range map[string]string{"Content-Type": kind, "Content-Disposition": disposition, "Content-Encoding": encoding} {
			if value != "" {
				req.AppendHeader(gosip.NewHeader(name, value))
			}
		}
		req.SetBody(body)
		b, r := bodyOf(req)
		if !r.taken() {
			if b != nil || r.code != 400 && r.code != 415 {
				t.Fatalf("refused with %d, and found %q", r.code, b)
			}
			return
		}
		if b == nil || bytes.Contains(b, []byte("--outer")) {
			return
		}
		wrapped := gosip.NewRequest(gosip.INVITE, gosip.Uri{Scheme: "sip", Host: "192.0.2.1"})
		wrapped.AppendHeader(gosip.NewHeader("c", "multipart/mixed; boundary=outer"))
		wrapped.SetBody([]byte("--outer\r\nContent-Type: application/sdp\r\n\r\n" + string(b) + "\r\n--outer--\r\n"))
		if again, r := bodyOf(wrapped); !r.taken() || !bytes.Equal(again, b) {
			t.Fatalf("found %q, and then %q, %d", b, again, r.code)
		}
	})
}
