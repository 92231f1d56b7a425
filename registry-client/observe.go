package registry

import (
	"context"
	"errors"
	"fmt"
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

// Observe implements Server. It outlives lost sessions and servers that are
// away for a while: it then asks again until the server answers, and calls
// changed only with what it has not told yet. It returns ctx's error once ctx
// is done, and an error that wraps ErrUnknown, ErrRefused or ErrServerKey when
// there is nothing (any more) to observe.
func (c *Client) Observe(ctx context.Context, q wire.Query, changed func(wire.Row)) error {
	if err := q.Validate(); err != nil {
		return fmt.Errorf("registry: observe: %w", err)
	}
	var last wire.Row
	tell := func(m message.Message) error {
		if m.Code != codes.Content {
			return refusal(m)
		}
		row, err := wire.DecodeRow(m.Payload)
		if err != nil {
			return err
		}
		if !sameRow(row, last) {
			last = row
			changed(row)
		}
		return nil
	}
	wait := retryFirst
	for {
		err := c.observeOnce(ctx, q, func(m message.Message) error {
			wait = retryFirst
			return tell(m)
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(err, ErrUnreachable) {
			return fmt.Errorf("registry: observe %v: %w", q, err)
		}
		c.log.Debug("observation interrupted", "query", q.String(), "retry", wait, "err", err)
		if err := sleep(ctx, jitter(wait)); err != nil {
			return err
		}
		wait = min(2*wait, retryMost)
	}
}

// observeOnce observes q as long as one session lasts. Whatever may pass is
// reported as ErrUnreachable.
func (c *Client) observeOnce(ctx context.Context, q wire.Query, tell func(message.Message) error) error {
	r := request{code: codes.GET, options: lookupOptions(q, true), observe: true}
	m, s, sub, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer s.forget(sub)
	if err := tell(m); err != nil {
		return err
	}
	sub.take() // the response was delivered here too
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
			c.cancelObserve(s, sub, q)
			return ctx.Err()
		}
	}
}

// cancelObserve tells the server, in one datagram that nobody waits for; if it
// is lost, the next notification is reset (RFC 7641, section 3.6).
func (c *Client) cancelObserve(s *session, sub *subscription, q wire.Query) {
	opts := lookupOptions(q, false)
	opts = append(message.Options{wire.UintOption(message.Observe, 1)}, opts...)
	s.withdraw(sub.token, opts)
}

func sameRow(a, b wire.Row) bool {
	if len(a.Addrs) != len(b.Addrs) {
		return false
	}
	for i := range a.Addrs {
		if a.Addrs[i] != b.Addrs[i] {
			return false
		}
	}
	return a.MAC == b.MAC && a.Number == b.Number && a.Ports == b.Ports && a.Fingerprint == b.Fingerprint &&
		a.Sequence == b.Sequence && a.Expiry.Equal(b.Expiry) && a.State == b.State && a.Since.Equal(b.Since)
}
