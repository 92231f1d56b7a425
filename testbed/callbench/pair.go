package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"flexphone/internal/usage"
	"flexphone/testbed"
	"flexphone/testbed/ears"
)

// A pair is two telephones of one make. The first of them calls.
type pair interface {
	// call has the first call the second, who lifts the handset after so long.
	call(ctx context.Context, lift time.Duration) (setup, error)
	// hangUp ends the call, whatever it is like, and returns when both are ready again.
	hangUp(ctx context.Context) error
	// move gives an end another address.
	move(end int, to netip.Addr) error
	// settled waits until nothing is left to do after a move of these ends, but what
	// cannot be seen, and says whether sound is understood at both.
	settled(ctx context.Context, ends []int) error
	pids() [2]int
}

// A setup says when the steps of a call were taken.
type setup struct {
	dialed, rang, heardRing time.Time // at the caller, at the other, at the caller
	lifted                  time.Time
	security                string
}

// phones are a pair of ours.
type phones struct {
	ends   [2]*testbed.Phone
	number string // by which the second is called
}

func (p *phones) pids() [2]int { return [2]int{p.ends[0].Pid(), p.ends[1].Pid()} }

func (p *phones) move(end int, to netip.Addr) error { return p.ends[end].Move(to) }

func (p *phones) call(ctx context.Context, lift time.Duration) (s setup, err error) {
	caller, callee := p.ends[0], p.ends[1]
	caller.Mark()
	callee.Mark()
	if err := caller.Do(ctx, "dial", p.number); err != nil {
		return s, err
	}
	dialed, err := caller.Await(ctx, "dialed")
	if err != nil {
		return s, err
	}
	heard, err := caller.Await(ctx, "")
	for err == nil && heard.Name != "ringing" {
		if heard.Name == "ended" {
			return s, fmt.Errorf("callbench: %s does not ring: %v", callee.Name, heard)
		}
		heard, err = caller.Await(ctx, "")
	}
	if err != nil {
		return s, err
	}
	rang, err := callee.Await(ctx, "ringing")
	if err != nil {
		return s, err
	}
	s.dialed, s.rang, s.heardRing = dialed.Time, rang.Time, heard.Time
	if err := pause(ctx, time.Until(s.rang.Add(lift))); err != nil {
		return s, err
	}
	s.lifted = time.Now()
	if err := callee.Do(ctx, "answer"); err != nil {
		return s, err
	}
	for _, end := range p.ends {
		e, err := end.Await(ctx, "established")
		if err != nil {
			return s, err
		}
		s.security = e.Field("security")
	}
	return s, nil
}

func (p *phones) hangUp(ctx context.Context) error {
	for _, end := range p.ends {
		if err := end.Do(ctx, "hangup"); err != nil {
			return err
		}
	}
	for _, end := range p.ends {
		if err := awaitState(ctx, end, "standby"); err != nil {
			return err
		}
	}
	return nil
}

// awaitState waits until a phone is in that state.
func awaitState(ctx context.Context, p *testbed.Phone, state string) error {
	for {
		s, err := p.Status(ctx)
		if err != nil || s.State == state {
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("callbench: wait until %s is in %s: it is in %s: %w", p.Name, state, s.State, err)
		}
	}
}

// settled waits for the row of who has moved, and until packets are played that have
// come since: they came where they should, and were understood.
func (p *phones) settled(ctx context.Context, ends []int) error {
	for _, end := range ends {
		if _, err := p.ends[end].Await(ctx, "registered"); err != nil {
			return err
		}
	}
	var problems [2]error
	var both sync.WaitGroup
	for i, end := range p.ends {
		both.Go(func() { problems[i] = end.Understands(ctx, ears.Steady) })
	}
	both.Wait()
	return errors.Join(problems[:]...)
}

// restart switches an end off without a warning and on again, so that nobody has a
// connection to it. meanwhile, unless nil, is done to it while it is off.
func (p *phones) restart(ctx context.Context, end int, meanwhile func(*testbed.Phone) error) error {
	phone := p.ends[end]
	phone.PowerCut()
	if meanwhile != nil {
		if err := meanwhile(phone); err != nil {
			return err
		}
	}
	phone.Mark()
	if err := phone.PowerOn(ctx); err != nil {
		return err
	}
	_, err := phone.Await(ctx, "registered")
	return err
}

// baresips are a pair of baresip.
type baresips struct{ ends [2]*testbed.Baresip }

func (p *baresips) pids() [2]int { return [2]int{p.ends[0].Pid(), p.ends[1].Pid()} }

func (p *baresips) move(end int, to netip.Addr) error { return p.ends[end].Move(to) }

func (p *baresips) call(ctx context.Context, lift time.Duration) (s setup, err error) {
	caller, callee := p.ends[0], p.ends[1]
	caller.Mark()
	callee.Mark()
	s.security = plain
	s.dialed = time.Now()
	if err := caller.Dial(fmt.Sprintf("sip:%s@%s", callee.User(), callee.Addr)); err != nil {
		return s, err
	}
	rang, err := callee.Await(ctx, "CALL_INCOMING")
	if err != nil {
		return s, err
	}
	heard, err := caller.Await(ctx, "CALL_RINGING")
	if err != nil {
		return s, err
	}
	s.rang, s.heardRing = rang.Time, heard.Time
	if err := pause(ctx, time.Until(s.rang.Add(lift))); err != nil {
		return s, err
	}
	s.lifted = time.Now()
	if err := callee.Answer(); err != nil {
		return s, err
	}
	for _, end := range p.ends {
		if _, err := end.Await(ctx, "CALL_ESTABLISHED"); err != nil {
			return s, err
		}
	}
	return s, nil
}

// hangUp ends the call at both ends, since one cannot always tell the other.
func (p *baresips) hangUp(ctx context.Context) error {
	var problems [2]error
	var both sync.WaitGroup
	for i, end := range p.ends {
		both.Go(func() {
			if problems[i] = end.Hangup(); problems[i] == nil {
				_, problems[i] = end.Await(ctx, "CALL_CLOSED")
			}
		})
	}
	both.Wait()
	return errors.Join(problems[:]...)
}

// settled: baresip tells nobody.
func (p *baresips) settled(context.Context, []int) error { return nil }

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// cost is what a telephone takes in a call.
type cost struct {
	cpu    float64 // processor seconds in a minute
	server float64 // likewise, of the storing server, for the call
	memory int64   // bytes (PSS)
}

// weigh returns what each telephone of a pair that talks takes, from lasts of a call:
// the mean of both; and what the storing server takes, which has no other calls.
func weigh(ctx context.Context, p pair, server int, lasts time.Duration) (c cost, err error) {
	used := func() (sum time.Duration) {
		for _, pid := range p.pids() {
			sum += usage.Of(pid).CPU
		}
		return sum
	}
	begun, before, serving := time.Now(), used(), usage.Of(server).CPU
	if err := pause(ctx, lasts); err != nil {
		return c, err
	}
	perMinute := float64(time.Minute) / float64(time.Since(begun))
	c.cpu = (used() - before).Seconds() / 2 * perMinute
	c.server = (usage.Of(server).CPU - serving).Seconds() * perMinute
	for _, pid := range p.pids() {
		c.memory += usage.Proportional(pid) / 2
	}
	return c, nil
}
