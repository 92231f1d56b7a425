package wire

import "fmt"

// A Reason says to a program why a request was refused.
type Reason uint8

// The reasons, as they are sent.
const (
	ReasonNone        Reason = iota // the code says it all
	ReasonUnknown                   // 4.04: no such row
	ReasonStale                     // 4.09: the row's sequence is as high or higher
	ReasonForeign                   // 4.03: another key owns the row
	ReasonPolicy                    // 4.03: the operator forbids it
	ReasonIdentity                  // 4.01: the certificate does not name this MAC
	ReasonMalformed                 // 4.00: the request cannot be meant
	ReasonBusy                      // 4.29: too many requests
	ReasonUnavailable               // 5.03: it cannot be stored now
	ReasonElsewhere                 // 4.04 or 4.03: another region's server keeps that row
)

// MaxDetail bounds a problem's detail, in bytes.
const MaxDetail = 256

// A Problem is the body of every answer of class 4 and 5: concise problem
// details (RFC 9290).
type Problem struct {
	Reason   Reason
	Detail   string // one line for people, in English
	Sequence uint64 // with ReasonStale: the row's; else zero
	// Elsewhere is with ReasonElsewhere: whom to ask, or where to announce.
	Elsewhere Referral
	Ticket    Ticket // to be shown there; empty: none
}

// problemBody has our own details under a URI for their key, as RFC 9290
// wants custom ones kept apart.
type problemBody struct {
	Detail string         `cbor:"-2,keyasint,omitempty"`
	Ours   problemDetails `cbor:"flexphone:rd"`
}

type problemDetails struct {
	Reason   uint8  `cbor:"1,keyasint"`
	Sequence uint64 `cbor:"5,keyasint,omitempty"`
	referralBody
	Ticket []byte `cbor:"22,keyasint,omitempty"`
}

// EncodeProblem returns p as a body. A longer Detail than MaxDetail is cut.
func EncodeProblem(p Problem) ([]byte, error) {
	return encode("problem", problemBody{
		Detail: cutDetail(p.Detail),
		Ours:   problemDetails{Reason: uint8(p.Reason), Sequence: p.Sequence, referralBody: referralOf(p.Elsewhere), Ticket: []byte(p.Ticket)},
	})
}

// DecodeProblem reads what EncodeProblem wrote. A body without our details has
// ReasonNone.
func DecodeProblem(b []byte) (Problem, error) {
	var body problemBody
	if err := decode("problem", b, &body); err != nil {
		return Problem{}, err
	}
	if len(body.Detail) > MaxDetail {
		return Problem{}, fmt.Errorf("wire: decode problem: detail of %d bytes: %w", len(body.Detail), ErrInvalid)
	}
	to, err := body.Ours.referral()
	if err != nil {
		return Problem{}, err
	}
	if len(body.Ours.Ticket) > MaxTicket {
		return Problem{}, fmt.Errorf("wire: decode problem: ticket of %d bytes: %w", len(body.Ours.Ticket), ErrInvalid)
	}
	return Problem{Reason: Reason(body.Ours.Reason), Detail: body.Detail, Sequence: body.Ours.Sequence, Elsewhere: to, Ticket: Ticket(body.Ours.Ticket)}, nil
}

// cutDetail cuts s to MaxDetail bytes without splitting a rune.
func cutDetail(s string) string {
	if len(s) <= MaxDetail {
		return s
	}
	end := 0
	for i := range s {
		if i > MaxDetail {
			break
		}
		end = i
	}
	return s[:end]
}
