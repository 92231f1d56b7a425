package registry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
)

// A StaleError is ErrStale with the number that the row holds.
type StaleError struct{ Sequence uint64 }

// Error implements error.
func (e *StaleError) Error() string { return fmt.Sprintf("%v: the row has %d", ErrStale, e.Sequence) }

// Is makes a StaleError an ErrStale.
func (e *StaleError) Is(target error) bool { return target == ErrStale }

// busyMost bounds what a server may ask a phone to wait.
const busyMost = 5 * time.Minute

// A BusyError is ErrUnreachable with how long the server asks to wait: it
// answers, and can do no more now.
type BusyError struct{ After time.Duration }

// Error implements error.
func (e *BusyError) Error() string {
	return fmt.Sprintf("storing server is busy: it asks to wait for %v", e.After)
}

// Is makes a BusyError an ErrUnreachable.
func (e *BusyError) Is(target error) bool { return target == ErrUnreachable }

// An ElsewhereError is ErrUnknown with whom to ask: another region's storing server.
type ElsewhereError struct {
	To     wire.Referral
	Ticket wire.Ticket // to be shown there
}

// Error implements error.
func (e *ElsewhereError) Error() string {
	return fmt.Sprintf("another region's storing server keeps that row: %s", e.To.Server)
}

// Is makes an ElsewhereError an ErrUnknown.
func (e *ElsewhereError) Is(target error) bool { return target == ErrUnknown }

// refusal turns an answer of class 4 or 5 into an error that callers know.
func refusal(m message.Message) error {
	p, err := wire.DecodeProblem(m.Payload)
	if err != nil {
		p = wire.Problem{}
	}
	code := fmt.Sprintf("server says %d.%02d", m.Code>>5, m.Code&31)
	if p.Detail != "" {
		code += " " + strconv.Quote(p.Detail)
	}
	switch {
	case p.Reason == wire.ReasonStale:
		return fmt.Errorf("%s: %w", code, &StaleError{p.Sequence})
	case p.Reason == wire.ReasonForeign, p.Reason == wire.ReasonIdentity:
		return fmt.Errorf("%s: %w", code, ErrForeign)
	case p.Reason == wire.ReasonElsewhere && p.Elsewhere != wire.Referral{}:
		return fmt.Errorf("%s: %w", code, &ElsewhereError{p.Elsewhere, p.Ticket})
	case m.Code == codes.NotFound:
		return fmt.Errorf("%s: %w", code, ErrUnknown)
	case m.Code == codes.Forbidden, m.Code == codes.Unauthorized:
		return fmt.Errorf("%s: %w", code, ErrRefused)
	case m.Code>>5 == 5, m.Code == wire.CodeTooManyRequests:
		seconds, _ := wire.Uint(m, message.MaxAge)
		// It may pass.
		return fmt.Errorf("%s: %w", code, &BusyError{After: min(time.Duration(seconds)*time.Second, busyMost)})
	}
	return errors.New(code)
}

// unreachable marks an error as one that may pass.
func unreachable(err error) error {
	if errors.Is(err, ErrUnreachable) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}
