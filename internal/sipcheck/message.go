package sipcheck

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

const (
	// MaxMessage is how long a message may be, in bytes; a datagram cannot be
	// longer.
	MaxMessage = 65535
	// maxFields is how many header fields it may have.
	maxFields = 256
	// maxToken is how long tags, branches and Call-IDs may be, in bytes: they are
	// kept for as long as a call.
	maxToken = 1024
)

// ErrNoMessage says that nothing can be made of some bytes, not even an answer to
// them.
var ErrNoMessage = errors.New("sipcheck: read message: not SIP")

// A Field is one header field, with its long name and in one line.
type Field struct{ Name, Value string }

// A Message is a request or a response, as it came.
type Message struct {
	Method, URI, Version string // of a request
	Status               int    // of a response; 0: it is a request
	Reason               string
	Fields               []Field
	Body                 []byte

	broken bool // some line is no header field, or the start line is no start line
}

// Read reads one datagram, or one whole message of a stream. The message may still
// be one that is to be refused; an error says that it is none.
func Read(b []byte) (*Message, error) {
	b = trimNewlines(b)
	if len(b) > MaxMessage {
		return nil, ErrNoMessage
	}
	head, body, whole := cutHead(b)
	lines := unfold(head)
	if len(lines) == 0 {
		return nil, ErrNoMessage
	}
	m := &Message{Body: body, broken: !whole}
	if !m.start(lines[0]) {
		return nil, ErrNoMessage
	}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		name = strings.TrimRight(name, blanks)
		if !ok || !isToken(name) || len(m.Fields) == maxFields {
			m.broken = true
			continue
		}
		m.Fields = append(m.Fields, Field{longName(name), strings.Trim(value, blanks)})
	}
	return m, nil
}

const blanks = " \t"

// start reads the start line. What is neither a request's nor a response's is no
// SIP; what is one badly is refused later (RFC 4475, 3.1.2.8 to 3.1.2.10).
func (m *Message) start(line string) bool {
	first, rest, _ := strings.Cut(line, " ")
	if hasPrefixFold(first, "SIP/") {
		code, reason, _ := strings.Cut(rest, " ")
		m.Version, m.Reason = first, strings.Map(printable, reason)
		n, err := strconv.ParseUint(code, 10, 16)
		m.Status = int(n)
		return err == nil && m.Status >= 100 && m.Status <= 699
	}
	end := strings.LastIndex(strings.TrimRight(line, blanks), " ")
	if end < 0 || !hasPrefixFold(line[end+1:], "SIP/") {
		return false
	}
	m.Method, m.Version = first, line[end+1:]
	m.URI = strings.TrimPrefix(line[:end], first)
	if !strings.HasPrefix(m.URI, " ") {
		return false
	}
	m.URI = m.URI[1:]
	if trimmed := strings.TrimRight(m.Version, blanks); trimmed != m.Version {
		m.Version, m.broken = trimmed, true
	}
	return true
}

// printable makes a blank of a control character: a reason phrase is for people
// alone (RFC 3261, 7.2).
func printable(c rune) rune {
	if c < ' ' || c == 0x7f {
		return ' '
	}
	return c
}

// cutHead parts the header from the body. Lines may end with LF alone, as from
// tools of which people are fond.
func cutHead(b []byte) (head, body []byte, whole bool) {
	if end, next := headEnd(b); end >= 0 {
		return b[:end], b[next:], true
	}
	return b, nil, false
}

// headEnd is where the empty line begins that ends a header, and where what
// follows it does; -1: it is not there.
func headEnd(b []byte) (end, next int) {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return -1, -1
		}
		at += i + 1
		switch {
		case at < len(b) && b[at] == '\n':
			return at, at + 1
		case at+1 < len(b) && b[at] == '\r' && b[at+1] == '\n':
			return at, at + 2
		}
	}
}

// unfold gives the lines of a header, each with those that continue it
// (RFC 3261, 7.3.1).
func unfold(head []byte) []string {
	var lines []string
	for line := range strings.Lines(string(head)) {
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if len(lines) > 1 && line != "" && strings.ContainsRune(blanks, rune(line[0])) {
			last := &lines[len(lines)-1]
			*last = strings.TrimRight(*last, blanks) + " " + strings.Trim(line, blanks)
			continue
		}
		lines = append(lines, line)
	}
	return lines
}

func trimNewlines(b []byte) []byte { return bytes.TrimLeft(b, "\r\n") }

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// Get is the value of the first field of that long name; "" if there is none.
func (m *Message) Get(name string) string {
	for _, f := range m.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Count is how many fields of that long name there are.
func (m *Message) Count(name string) int {
	n := 0
	for _, f := range m.Fields {
		if f.Name == name {
			n++
		}
	}
	return n
}

// Values are the values of all fields of that long name, whether a line each or
// several in one (RFC 3261, 7.3.1). A field that is empty has none; one that is
// empty between commas is among them.
func (m *Message) Values(name string) []string {
	var out []string
	for _, f := range m.Fields {
		if f.Name == name && f.Value != "" {
			out = append(out, splitOutside(f.Value, ',')...)
		}
	}
	return out
}

// Tag is the tag of From or To; "" if it has none.
func (m *Message) Tag(name string) string {
	a, ok := readAddress(m.Get(name))
	if !ok {
		return ""
	}
	tag, _ := a.params.get("tag")
	return tag
}

// AddTag gives To a tag, as whoever answers m does. To has none, and Check has found
// nothing.
func (m *Message) AddTag(tag string) {
	for i := range m.Fields {
		if m.Fields[i].Name == "To" {
			m.Fields[i].Value += ";tag=" + tag
		}
	}
}

// Seq is the number in CSeq.
func (m *Message) Seq() uint32 {
	n, _, _ := seqOf(m.Get("CSeq"))
	return n
}

// IsRequest tells a request from a response.
func (m *Message) IsRequest() bool { return m.Status == 0 }

// names are header fields by their short names (RFC 3261, 7.3.3, and what has been
// registered since), and those whose case the rule of longName misses.
var names = map[string]string{
	"a": "Accept-Contact", "b": "Referred-By", "c": "Content-Type", "d": "Request-Disposition",
	"e": "Content-Encoding", "f": "From", "i": "Call-ID", "j": "Reject-Contact", "k": "Supported",
	"l": "Content-Length", "m": "Contact", "n": "Identity-Info", "o": "Event", "r": "Refer-To",
	"s": "Subject", "t": "To", "u": "Allow-Events", "v": "Via", "x": "Session-Expires", "y": "Identity",
	"call-id": "Call-ID", "cseq": "CSeq", "mime-version": "MIME-Version", "www-authenticate": "WWW-Authenticate",
	"min-se": "Min-SE", "rack": "RAck", "rseq": "RSeq",
}

// longName is how a field's name is written, however it came.
func longName(name string) string {
	lower := strings.ToLower(name)
	if long, ok := names[lower]; ok {
		return long
	}
	b := []byte(lower)
	for i := range b {
		if (i == 0 || b[i-1] == '-') && b[i] >= 'a' && b[i] <= 'z' {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b)
}

var (
	// ErrTooLong says that a stream brings a message that is longer than
	// MaxMessage.
	ErrTooLong = errors.New("sipcheck: read stream: message is too long")
	// ErrNoEnd says that a message in a stream does not say where it ends
	// (RFC 3261, 18.3), so that nothing after it can be read.
	ErrNoEnd = errors.New("sipcheck: read stream: no Content-Length, or one that is no number")
)

// Next tells how many bytes at the beginning of a stream are one whole message,
// with the newlines before it. 0: it is not there yet. With ErrNoEnd n is how long
// the header is, which may deserve an answer.
func Next(stream []byte) (n int, err error) {
	rest := trimNewlines(stream)
	before := len(stream) - len(rest)
	_, next := headEnd(rest)
	if next < 0 {
		if len(rest) > MaxMessage {
			return 0, ErrTooLong
		}
		return 0, nil
	}
	m, err := Read(rest[:next])
	if err != nil {
		return 0, err
	}
	if m.Count("Content-Length") != 1 {
		return before + next, ErrNoEnd
	}
	length, err := strconv.ParseUint(m.Get("Content-Length"), 10, 31)
	if err != nil {
		return before + next, ErrNoEnd
	}
	switch total := next + int(length); {
	case total > MaxMessage:
		return 0, ErrTooLong
	case total > len(rest):
		return 0, nil
	default:
		return before + total, nil
	}
}
