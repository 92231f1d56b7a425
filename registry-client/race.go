package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// How long one address is waited for before the next is tried beside it.
const (
	// attemptDelay is RFC 8305's Connection Attempt Delay, section 5.
	attemptDelay = 250 * time.Millisecond
	// groupDelay is before servers that are named less certainly: longer than a
	// handshake takes at the other end of the world.
	groupDelay = 1 * time.Second
)

// A target is an address at which a storing server may be.
type target struct {
	server string // host:port
	addr   netip.AddrPort
}

// A candidate is a server to try, with its addresses that were not tried yet.
type candidate struct {
	server  string
	group   int
	looking bool
	addrs   []netip.AddrPort
}

// A race tries all addresses of all servers (Happy Eyeballs, RFC 8305): the next
// when the one before has failed, or has not answered for a while; the first that
// shakes hands has won. This is its pure half.
type race struct {
	candidates []candidate
	group      int       // of the last that was tried
	earliest   time.Time // for the next one of that group
	begun      time.Time
}

// next returns what to try now. Else it returns when to ask again; zero: when
// something has happened.
func (r *race) next(now time.Time) (t target, ok bool, at time.Time) {
	i := slices.IndexFunc(r.candidates, func(c candidate) bool { return len(c.addrs) > 0 })
	if i < 0 {
		return target{}, false, time.Time{}
	}
	c := &r.candidates[i]
	due := r.earliest
	before := slices.ContainsFunc(r.candidates[:i], func(b candidate) bool { return b.looking && b.group < c.group })
	switch {
	case before && due.Before(r.begun.Add(groupDelay)):
		due = r.begun.Add(groupDelay)
	case c.group > r.group && !due.IsZero():
		due = due.Add(groupDelay - attemptDelay)
	}
	if now.Before(due) {
		return target{}, false, due
	}
	t = target{c.server, c.addrs[0]}
	c.addrs = c.addrs[1:]
	r.group, r.earliest = c.group, now.Add(attemptDelay)
	return t, true, time.Time{}
}

// failed makes the next due at once.
func (r *race) failed() { r.earliest = time.Time{} }

// over reports whether there is nothing to try, now or later.
func (r *race) over() bool {
	return !slices.ContainsFunc(r.candidates, func(c candidate) bool { return c.looking || len(c.addrs) > 0 })
}

// dialAny shakes hands with the first server that answers.
func (c *Client) dialAny(ctx context.Context, locals []netip.Addr) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeMost)
	type found struct {
		candidate int
		addrs     []netip.AddrPort
		err       error
	}
	type outcome struct {
		session *session
		err     error
	}
	finds, outcomes := make(chan found), make(chan outcome)
	looking, dialing := 0, 0
	defer func() { // who lost
		cancel()
		for ; looking > 0; looking-- {
			<-finds
		}
		for ; dialing > 0; dialing-- {
			if o := <-outcomes; o.err == nil {
				o.session.close()
			}
		}
	}()
	r := race{candidates: c.candidates(), begun: time.Now()}
	for i, cand := range r.candidates {
		r.candidates[i].looking = true
		looking++
		go func() {
			addrs, err := c.lookup(ctx, cand.server, locals)
			finds <- found{i, addrs, err}
		}()
	}
	timer := time.NewTimer(handshakeMost)
	defer timer.Stop()
	var failure error
	fail := func(err error) {
		if err != nil && !errors.Is(failure, ErrServerKey) {
			failure = err
		}
	}
	for {
		t, ok, at := r.next(time.Now())
		switch {
		case ok:
			dialing++
			go func() {
				s, err := c.dial(ctx, t, locals)
				outcomes <- outcome{s, err}
			}()
			continue
		case !at.IsZero():
			timer.Reset(time.Until(at))
		case dialing == 0 && r.over():
			if failure == nil {
				failure = unreachable(ErrNoServer)
			}
			return nil, failure
		}
		select {
		case f := <-finds:
			looking--
			r.candidates[f.candidate].looking, r.candidates[f.candidate].addrs = false, f.addrs
			if f.err != nil {
				fail(unreachable(f.err))
			}
		case o := <-outcomes:
			dialing--
			if o.err == nil {
				return o.session, nil
			}
			fail(o.err)
			r.failed()
		case <-timer.C:
		case <-ctx.Done():
			fail(unreachable(ctx.Err()))
			return nil, failure
		}
	}
}

// candidates returns the servers in the order to try them: by group, and in each
// from the one whose turn it is.
func (c *Client) candidates() (out []candidate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, group := range c.groups {
		at := max(slices.Index(group, c.server), 0)
		for _, server := range slices.Concat(group[at:], group[:at]) {
			out = append(out, candidate{server: server, group: i})
		}
	}
	return out
}

// lookup returns the addresses of a server in the order to try them: at the end
// those to whose family none of locals belongs, and the one that has left us alone
// last.
func (c *Client) lookup(ctx context.Context, server string, locals []netip.Addr) ([]netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(server)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{a}
	} else if addrs, err = c.cfg.Resolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	usable := c.cfg.Order(addrs)
	if len(usable) == 0 {
		return nil, fmt.Errorf("%s: no way to %v from here", host, addrs)
	}
	c.mu.Lock()
	shunned := c.shunned
	c.mu.Unlock()
	worse := func(a netip.Addr) int {
		switch {
		case netip.AddrPortFrom(a, uint16(port)) == shunned:
			return 2
		case len(locals) > 0 && !slices.ContainsFunc(locals, func(l netip.Addr) bool { return l.Is4() == a.Is4() }):
			return 1
		}
		return 0
	}
	usable = slices.Clone(usable)
	slices.SortStableFunc(usable, func(a, b netip.Addr) int { return worse(a) - worse(b) })
	var out []netip.AddrPort
	for _, a := range usable {
		out = append(out, netip.AddrPortFrom(a, uint16(port)))
	}
	return out, nil
}
