package sip

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// A TLS connection stays when its last call is over, so that the next one rings
// after one round trip instead of three: who has just talked often calls again.
const (
	idleTime = 2 * time.Minute
	// acceptedMore is for how much longer who took a connection keeps it than who
	// made it: the one who will use it lets it go.
	acceptedMore = 10 * time.Second
	// maxIdle bounds how many connections of ours stay without a call. Each takes
	// about 50 kB at both ends.
	maxIdle = 8
)

// wakeTime is how long a connection that has been idle may leave the first request
// unacknowledged before another is made: the peer may have been switched off.
const wakeTime = time.Second

// idle lets the link end unless a call begins on it.
func (l *link) idle() {
	d := idleTime
	if !l.dialled {
		d += acceptedMore
	}
	_ = l.SetReadDeadline(time.Now().Add(d)) // fails only when it is closed
}

// busy lets it live as long as its calls do.
func (l *link) busy() { _ = l.SetReadDeadline(time.Time{}) } // fails only when it is closed

// hold keeps k for a call.
func (l *links) hold(k *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.take(k)
}

// take is hold; l.mu is held.
func (l *links) take(k *link) {
	k.calls++
	k.busy()
	if k.stream != nil {
		k.stream.calls.Add(1)
	}
}

// release lets k go, which a call has held. Without calls it may yet bring the
// next one.
func (l *links) release(k *link) {
	l.mu.Lock()
	k.calls--
	if k.stream != nil {
		k.stream.calls.Add(-1)
	}
	var out *link
	if k.calls == 0 {
		l.clock++
		k.rests = l.clock
		k.idle()
		out = l.surplus()
	}
	l.mu.Unlock()
	if out != nil {
		out.Close()
	}
}

// surplus is the connection of ours that has been without a call for the longest
// time, if too many are; l.mu is held.
func (l *links) surplus() *link {
	n, oldest := 0, (*link)(nil)
	for _, k := range l.byRemote {
		if !k.dialled || k.calls > 0 {
			continue
		}
		if n++; oldest == nil || k.rests < oldest.rests {
			oldest = k
		}
	}
	if n <= maxIdle {
		return nil
	}
	return oldest
}

// watch has it found out in time that the phone at the other end of k is cut off, while
// somebody waits for it or it waits here: nothing is sent meanwhile. Over TCP the kernel
// asks, and does so as long as k lives; over the relay it is two messages each time, and ends
// with enough.
func (l *links) watch(k *link, quiet time.Duration) (enough func()) {
	secure, ok := k.Conn.(*tls.Conn)
	if !ok {
		return func() {}
	}
	switch c := transportOf(secure).(type) {
	case *net.TCPConn:
		_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: quiet, Interval: l.timers.look}) // fails only when it is closed
	case *relayedConn:
		set := func() {
			if len(k.quiets) == 0 {
				c.KeepAlive(0, 0)
			} else {
				c.KeepAlive(slices.Min(k.quiets), l.timers.far)
			}
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		k.quiets = append(k.quiets, quiet)
		set()
		return func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			i := slices.Index(k.quiets, quiet)
			k.quiets = slices.Delete(k.quiets, i, i+1)
			set()
		}
	}
	return func() {}
}

// transportOf is what c runs over.
func transportOf(c *tls.Conn) net.Conn {
	if s, ok := c.NetConn().(*stream); ok {
		return s.Conn
	}
	return c.NetConn()
}

// open is a link to the phone at that place; nil if there is none. Who made it, and over
// what, does not matter: what proves the phone is its key. A direct one comes before a
// relayed one. l.mu is held.
func (l *links) open(to place) *link {
	good := func(k *link) bool { return k.fingerprint == to.pin && k.alive() && k.here() }
	if k := l.byRemote[to.addr]; k != nil && good(k) {
		return k
	}
	var relayed *link
	for _, k := range l.byRemote {
		switch {
		case !good(k):
		case k.user != "":
			if to.way != Direct { // else it is to be found out whether the address answers
				relayed = k
			}
		case !k.dialled && k.remote.Addr() == to.addr.Addr():
			return k
		}
	}
	return relayed
}

// A dialling is a connection that is being made. sipgo finds connections by their
// remote address, so that two at a time would be mistaken for each other. A relayed one
// has an address of its own, and need not wait for one that is made at the phone's.
type dialling struct {
	pin  [32]byte
	done chan struct{} // closed when it is made, or err says why it is not
	err  error
}

// A spot is where one connection at a time is made.
type spot struct {
	addr netip.AddrPort
	user string // of who is reached by the relay alone
}

func (p place) spot() spot {
	if p.way == Relayed {
		return spot{user: p.user}
	}
	return spot{addr: p.addr}
}

// dial returns a link to the phone at that place, held for the caller: one that is
// open, or else a new one. idle: it carried no call.
func (l *links) dial(ctx context.Context, to place) (k *link, idle bool, err error) {
	addr, spot := to.addr, to.spot()
	for {
		l.mu.Lock()
		if k := l.open(to); k != nil {
			idle = k.calls == 0
			l.take(k)
			l.mu.Unlock()
			if idle {
				l.wake(k)
			}
			return k, idle, nil
		}
		d := l.dialling[spot]
		if d == nil {
			break
		}
		l.mu.Unlock()
		select {
		case <-d.done:
		case <-ctx.Done():
			return nil, false, fmt.Errorf("sip: connect to %v: %w", addr, ctx.Err())
		}
		if d.err != nil && d.pin == to.pin {
			return nil, false, d.err
		}
	}
	d := &dialling{pin: to.pin, done: make(chan struct{})}
	l.dialling[spot] = d
	old := l.byRemote[addr]
	if old != nil && old.calls > 0 {
		old = nil
	}
	l.mu.Unlock()
	if old != nil { // of another key, or from an address that we had
		old.Close()
	}
	k, err = l.connectTo(ctx, to)
	if ctx.Err() == nil { // else it says nothing about the peer
		d.err = err
	}
	l.mu.Lock()
	delete(l.dialling, spot)
	l.mu.Unlock()
	close(d.done)
	return k, false, err
}

// wake has the kernel find out soon whether anybody is left at the other end.
func (l *links) wake(k *link) {
	c, ok := k.Conn.(*tls.Conn)
	if !ok || endStalled(c.NetConn(), min(wakeTime, l.timers.stall)) != nil {
		return // then it takes as long as in a call
	}
	time.AfterFunc(l.timers.stall, func() { _ = endStalled(c.NetConn(), l.timers.stall) }) // fails only when it is closed
}

func (t Target) place() place { return place{t.Addr, t.Pin, t.User, t.Way} }

// Prepare connects with the phone that t means, which must have a Pin, so that a
// call to it in the next two minutes need not wait for that. The phone does not
// hear of it. It returns when there is a connection, or why there is none.
func (a *Agent) Prepare(ctx context.Context, t Target) error {
	k, _, err := a.tls.dial(ctx, t.place())
	if err != nil {
		return err
	}
	a.tls.release(k)
	return nil
}

// Prepared reports whether there is a connection with the phone that t means.
func (a *Agent) Prepared(t Target) bool {
	if t.Pin == [32]byte{} {
		return false
	}
	a.tls.mu.Lock()
	defer a.tls.mu.Unlock()
	return a.tls.open(t.place()) != nil
}
