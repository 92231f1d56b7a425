package wire

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Numbers that both sides must agree upon.
const (
	DefaultPort = 5684 // CoAP over DTLS, RFC 7252 section 12.7

	FormatCBOR    = 60  // Content-Format of bodies, RFC 8949 section 9.3
	FormatProblem = 257 // Content-Format of Problem, RFC 9290 section 4.1

	// ConnectionIDLength is the length of the server's connection IDs in
	// bytes. Clients ask for none, and take any length.
	ConnectionIDLength = 8
)

// Segments of the paths.
const (
	PathDirectory = "rd"        // POST and DELETE
	PathLookup    = "rd-lookup" // GET, followed by one of the kinds and a key
	LookupMAC     = "mac"       // 12 hexadecimal digits
	LookupNumber  = "number"    // 3 to 8 digits
	LookupAddr    = "addr"      // an address as RFC 5952 writes it, or dotted
	PathKnock     = "rd-knock"  // GET
	PathPair      = "pair"      // POST
)

// queryAfter is the name of the query of GET /rd-knock.
const queryAfter = "after"

// MaxKnock is the longest that a server is asked to wait before it knocks: less than
// the ten minutes after which it may end a session that is silent.
const MaxKnock = 9 * time.Minute

// KnockQuery returns the URI query of a knock after d, in whole seconds.
func KnockQuery(d time.Duration) string {
	return queryAfter + "=" + strconv.FormatInt(int64(d/time.Second), 10)
}

// ParseKnock reads the URI queries of GET /rd-knock: after how long to knock, from one
// second to MaxKnock.
func ParseKnock(queries []string) (time.Duration, error) {
	if len(queries) != 1 {
		return 0, fmt.Errorf("wire: parse knock: %d queries: %w", len(queries), ErrInvalid)
	}
	text, ok := strings.CutPrefix(queries[0], queryAfter+"=")
	n, err := strconv.ParseUint(text, 10, 16)
	if d := time.Duration(n) * time.Second; ok && err == nil && d > 0 && d <= MaxKnock {
		return d, nil
	}
	return 0, fmt.Errorf("wire: parse knock: %q: %w", clip(queries[0]), ErrInvalid)
}

// Names of the query of DELETE /rd.
const (
	queryEndpoint = "ep" // RFC 9176's endpoint name: a URN
	querySequence = "seq"
)

// queryTicket is the name of the query of a lookup in another region.
const queryTicket = "by"

// Query returns t as the URI query of a lookup: by= and base64url without padding
// (RFC 4648, section 5).
func (t Ticket) Query() string {
	return queryTicket + "=" + base64.RawURLEncoding.EncodeToString([]byte(t))
}

// ParseTicket finds the ticket among the URI queries of a lookup; empty: there is none
// that can be read.
func ParseTicket(queries []string) Ticket {
	for _, q := range queries {
		text, ok := strings.CutPrefix(q, queryTicket+"=")
		if !ok || len(text) > base64.RawURLEncoding.EncodedLen(MaxTicket) {
			continue
		}
		if b, err := base64.RawURLEncoding.DecodeString(text); err == nil {
			return Ticket(b)
		}
	}
	return ""
}

// Path returns the segments of the lookup for q, which must be valid.
func (q Query) Path() []string {
	switch {
	case q.MAC != MAC{}:
		return []string{PathLookup, LookupMAC, q.MAC.Hex()}
	case q.Number != "":
		return []string{PathLookup, LookupNumber, q.Number}
	}
	return []string{PathLookup, LookupAddr, q.Addr.String()}
}

// ParseQuery reads the segments of a lookup.
func ParseQuery(path []string) (Query, error) {
	if len(path) != 3 || path[0] != PathLookup {
		return Query{}, fmt.Errorf("wire: parse lookup: %d segments: %w", len(path), ErrInvalid)
	}
	var q Query
	switch key := path[2]; path[1] {
	case LookupMAC:
		m, err := ParseMAC(key)
		if err != nil {
			return Query{}, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		q.MAC = m
	case LookupNumber:
		q.Number = key
	case LookupAddr:
		a, err := netip.ParseAddr(key)
		if err != nil {
			return Query{}, fmt.Errorf("wire: parse lookup: address %q: %w", clip(key), ErrInvalid)
		}
		q.Addr = a
	default:
		return Query{}, fmt.Errorf("wire: parse lookup: kind %q: %w", clip(path[1]), ErrInvalid)
	}
	return q, q.Validate()
}

// A Withdrawal is what DELETE /rd carries: the phone cannot be called any more.
type Withdrawal struct {
	MAC      MAC
	Sequence uint64 // higher than the row's
}

// Validate reports why w cannot be taken.
func (w Withdrawal) Validate() error {
	if !w.MAC.Valid() {
		return fmt.Errorf("wire: withdrawal: MAC %v is not unicast: %w", w.MAC, ErrInvalid)
	}
	if w.Sequence == 0 || w.Sequence > MaxSequence {
		return fmt.Errorf("wire: withdrawal: sequence %d out of 1 to %d: %w", w.Sequence, uint64(MaxSequence), ErrInvalid)
	}
	return nil
}

// Queries returns w as URI queries: ep=urn:dev:mac:… and seq=….
func (w Withdrawal) Queries() []string {
	return []string{
		queryEndpoint + "=" + w.MAC.URN(),
		querySequence + "=" + strconv.FormatUint(w.Sequence, 10),
	}
}

// ParseWithdrawal reads the URI queries of DELETE /rd.
func ParseWithdrawal(queries []string) (Withdrawal, error) {
	var w Withdrawal
	var seenEndpoint, seenSequence bool
	for _, q := range queries {
		name, value, _ := strings.Cut(q, "=")
		var err error
		switch name {
		case queryEndpoint:
			if seenEndpoint {
				return Withdrawal{}, fmt.Errorf("wire: parse withdrawal: ep stands twice: %w", ErrInvalid)
			}
			seenEndpoint = true
			w.MAC, err = ParseURN(value)
		case querySequence:
			if seenSequence {
				return Withdrawal{}, fmt.Errorf("wire: parse withdrawal: seq stands twice: %w", ErrInvalid)
			}
			seenSequence = true
			w.Sequence, err = strconv.ParseUint(value, 10, 64)
		}
		if err != nil {
			return Withdrawal{}, fmt.Errorf("wire: parse withdrawal: %s %q: %w", clip(name), clip(value), ErrInvalid)
		}
	}
	return w, w.Validate()
}
