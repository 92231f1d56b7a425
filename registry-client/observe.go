package registry

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
)

// freshFor is after how long a notification is newer whatever its number says
// (RFC 7641, section 3.4).
const freshFor = 128 * time.Second

// A subscription is a running observation. It keeps the newest notification
// alone: who is slow misses states, never the last one.
type subscription struct {
	token  uint64
	news   chan struct{} // one slot
	mu     sync.Mutex
	newest message.Message
	number uint32
	at     time.Time
	fresh  bool // newest was not taken yet
}

// deliver keeps m unless it was overtaken by a newer one.
func (s *subscription) deliver(m message.Message) {
	number, numbered := wire.Uint(m, message.Observe)
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if numbered && !s.at.IsZero() && !newer(s.number, number, now.Sub(s.at)) {
		return
	}
	s.newest, s.fresh, s.at = m, true, now
	if numbered {
		s.number = number & (1<<24 - 1)
	}
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// newer is the comparison of RFC 7641, section 3.4.
func newer(have, got uint32, after time.Duration) bool {
	have, got = have&(1<<24-1), got&(1<<24-1)
	return have < got && got-have < 1<<23 ||
		have > got && have-got > 1<<23 ||
		after > freshFor
}

// take returns the newest notification if it was not taken before.
func (s *subscription) take() (message.Message, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := s.fresh
	s.fresh = false
	return s.newest, fresh
}

// forget ends the observation at this end: the next notification is answered
// with a reset.
func (s *session) forget(sub *subscription) {
	s.mu.Lock()
	delete(s.observed, sub.token)
	s.mu.Unlock()
}

// observe is Observe at the client's own server.
func (c *Client) observe(ctx context.Context, q wire.Query, ticket wire.Ticket, told func(row wire.Row, current bool)) error {
	if err := q.Validate(); err != nil {
		return fmt.Errorf("registry: observe: %w", err)
	}
	var last wire.Row // zero: none is current
	wait := retryFirst
	for {
		err := c.observeOnce(ctx, q, ticket, func(m message.Message) error {
			wait = retryFirst
			if m.Code != codes.Content {
				return refusal(m)
			}
			row, err := wire.DecodeRow(m.Payload)
			if err != nil {
				return err
			}
			if !sameRow(row, last) {
				last = row
				told(row, true)
			}
			return nil
		})
		last = wire.Row{}
		told(last, false)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(err, ErrUnreachable) {
			return fmt.Errorf("registry: observe %v: %w", q, err)
		}
		c.log.Debug("observation interrupted", "query", q.String(), "retry", wait, "err", err)
		if err := c.untilRenewed(ctx, jitter(wait)); err != nil {
			return err
		}
		wait = min(2*wait, retryMost)
	}
}

// untilRenewed waits for d, or until somebody has made another session.
func (c *Client) untilRenewed(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	c.mu.Lock()
	renewed := c.renewed
	c.mu.Unlock()
	select {
	case <-t.C:
	case <-renewed:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// observeOnce observes q as long as one session lasts. Whatever may pass is
// reported as ErrUnreachable.
func (c *Client) observeOnce(ctx context.Context, q wire.Query, ticket wire.Ticket, tell func(message.Message) error) error {
	r := request{code: codes.GET, options: lookupOptions(q, true, ticket), observe: true}
	m, s, sub, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer s.forget(sub)
	if err := s.follow(ctx, sub, m, tell); ctx.Err() == nil {
		return err
	}
	s.cancelObserve(sub, q)
	return ctx.Err()
}

// follow tells the response and then what is notified, as long as the session
// lasts. The response was delivered to sub as well, and perhaps something newer
// over it already: what sub holds is told too.
func (s *session) follow(ctx context.Context, sub *subscription, response message.Message, tell func(message.Message) error) error {
	if err := tell(response); err != nil {
		return err
	}
	for {
		select {
		case <-sub.news:
			n, fresh := sub.take()
			if !fresh {
				continue
			}
			if err := tell(n); err != nil {
				return err
			}
		case <-s.done:
			return fmt.Errorf("%w: %w", ErrUnreachable, errSessionLost)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// cancelObserve tells the server, in one datagram that nobody waits for; if it
// is lost, the next notification is reset (RFC 7641, section 3.6).
func (s *session) cancelObserve(sub *subscription, q wire.Query) {
	s.mu.Lock()
	s.nextID++
	id := s.nextID
	s.mu.Unlock()
	out, err := wire.EncodeMessage(message.Message{
		Type: message.NonConfirmable, MessageID: int32(id), Code: codes.GET,
		Token:   binary.BigEndian.AppendUint64(nil, sub.token),
		Options: append(message.Options{wire.UintOption(message.Observe, 1)}, lookupOptions(q, false, "")...),
	})
	if err == nil {
		_, _ = s.write(out)
	}
}

func sameRow(a, b wire.Row) bool {
	return slices.Equal(a.Addrs, b.Addrs) &&
		a.MAC == b.MAC && a.Number == b.Number && a.Ports == b.Ports && a.Fingerprint == b.Fingerprint &&
		a.Sequence == b.Sequence && a.Expiry.Equal(b.Expiry) && a.State == b.State && a.Reach == b.Reach && a.Since.Equal(b.Since)
}

// jitter returns between half of d and d, so that phones do not retry in step.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}
