package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// A Talk is a call between two of our phones, and when its steps were taken.
type Talk struct {
	Caller, Callee *Phone
	Address        netip.AddrPort // where the caller found the callee
	Codec          string
	Security       string // "private" or "not private"

	Dialed, Resolved, Rang, Answered, Established time.Time
}

// Call has the caller lift the handset and press the keys of number, and the
// callee answer as soon as it rings. It returns once both ends say that the
// call is established.
func Call(ctx context.Context, caller, callee *Phone, number string) (*Talk, error) {
	callee.Mark()
	t := &Talk{Caller: caller, Callee: callee}
	dialed, err := caller.Dial(ctx, number)
	if err != nil {
		return nil, err
	}
	ctx, over := caller.whileInCall(ctx)
	defer over()
	resolved, err := caller.Await(ctx, "resolved")
	if err != nil {
		return nil, err
	}
	rings, err := callee.Await(ctx, "ringing")
	if err != nil {
		return nil, err
	}
	t.Dialed, t.Resolved, t.Rang = dialed.Time, resolved.Time, rings.Time
	if t.Address, err = netip.ParseAddrPort(resolved.Field("address")); err != nil {
		return nil, fmt.Errorf("testbed: call %s: %w", number, err)
	}
	t.Answered = time.Now()
	if err := callee.OffHook(ctx); err != nil {
		return nil, err
	}
	if _, err := callee.Await(ctx, "established"); err != nil {
		return nil, err
	}
	established, err := caller.Await(ctx, "established")
	if err != nil {
		return nil, err
	}
	t.Established, t.Codec, t.Security = established.Time, established.Field("codec"), established.Field("security")
	return t, nil
}

// errOver is why nothing more comes of a call.
var errOver = errors.New("testbed: the call is over")

// whileInCall returns a context that is over, too, once the call that p has just begun has
// ended: what nobody brings about any more is not waited for, and why is told. over ends it.
func (p *Phone) whileInCall(ctx context.Context) (in context.Context, over func()) {
	p.mu.Lock()
	from := p.next
	p.mu.Unlock()
	in, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if e, _, err := p.events.await(in, from, func(e Event) bool { return e.Name == "ended" }); err == nil {
			cancel(fmt.Errorf("%w: %s: %v", errOver, p.Name, e))
		}
	}()
	return in, func() {
		cancel(nil)
		<-watched
	}
}

// HangUp puts the handsets back, by's first, and returns once both ends say
// that the call has ended.
func (t *Talk) HangUp(ctx context.Context, by *Phone) error {
	if err := by.OnHook(ctx); err != nil {
		return err
	}
	for _, p := range []*Phone{t.Caller, t.Callee} {
		if _, err := p.Await(ctx, "ended", "reason", "hangup"); err != nil {
			return err
		}
	}
	other := t.Caller
	if by == t.Caller {
		other = t.Callee
	}
	return other.OnHook(ctx)
}

// Understands waits until a phone has received n packets more of its call: what comes,
// comes where it should, and is understood.
func (p *Phone) Understands(ctx context.Context, n int) error {
	look := time.NewTicker(50 * time.Millisecond) // a phone tells nobody unasked
	defer look.Stop()
	before, err := p.received(ctx)
	for now := before; err == nil && now < before+n; {
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("testbed: %s does not understand what comes: %w", p.Name, context.Cause(ctx))
		}
		now, err = p.received(ctx)
		before = min(before, now) // a stream that begins anew
	}
	return err
}

// received returns how many packets of its call a phone has received.
func (p *Phone) received(ctx context.Context) (int, error) {
	s, err := p.Status(ctx)
	if err != nil {
		return 0, err
	}
	var call struct {
		Statistics struct {
			Received int `json:"packets_received"`
		} `json:"statistics"`
	}
	if s.Call == nil {
		return 0, fmt.Errorf("testbed: %s has no call any more", p.Name)
	}
	if err := json.Unmarshal(s.Call, &call); err != nil {
		return 0, fmt.Errorf("testbed: read status of %s: %w", p.Name, err)
	}
	return call.Statistics.Received, nil
}
