package sip

import (
	"context"
	"runtime"
	"time"
)

// What follows changes one timer, which the test waits for, and leaves the others as
// they are: what has to come in time has all of it, on a busy machine as well.

// HurryAnswered makes an answer be repeated and given up in milliseconds: 64*T1 is
// 320 ms.
func HurryAnswered(c *Config) {
	c.timers = standard()
	c.timers.t1, c.timers.t2 = 5*time.Millisecond, 40*time.Millisecond
}

// LateACK looks for a way for an ACK again after longer than any test, unless there is a reason.
func LateACK(c *Config) {
	c.timers = standard()
	c.timers.t1 = time.Minute
}

// HurrySilence gives up an INVITE that brings nothing after a moment.
func HurrySilence(c *Config) {
	c.timers = standard()
	c.timers.silence = 200 * time.Millisecond
}

// HurryStall gives up a connection whose other end acknowledges nothing after a
// moment. It is the kernel that acknowledges.
func HurryStall(c *Config) {
	c.timers = standard()
	c.timers.stall = 100 * time.Millisecond
}

// HurryGlare tries again soon what both ends did at once.
func HurryGlare(c *Config) {
	c.timers = standard()
	c.timers.glare = 100 * time.Microsecond
}

// HurrySession counts a session in hundredths of seconds, and refreshes it long
// before it ends.
func HurrySession(c *Config) {
	c.timers = standard()
	c.timers.session, c.timers.refresh = 10*time.Millisecond, 0.005
}

// LateConnect lets a connection take longer than any test.
func LateConnect(c *Config) {
	c.timers = standard()
	c.timers.connect = time.Hour
}

// GlareWait is how long who made the Call-ID, or the other, waits after a 491.
func GlareWait(owner bool) time.Duration { return standard().glareWait(owner) }

// Break makes the goroutine of c panic.
func Break(c *Call) { c.box.post(func(context.Context) { panic("broken") }) }

// Pause keeps c from its work until resume is called; posted reports how much waits.
func Pause(c *Call) (resume func(), posted func() int) {
	begun, over := make(chan struct{}), make(chan struct{})
	c.box.post(func(context.Context) { close(begun); <-over })
	<-begun
	return func() { close(over) }, func() int {
		c.box.mu.Lock()
		defer c.box.mu.Unlock()
		return len(c.box.work)
	}
}

// Waiting counts the calls to a that nobody has taken from Incoming.
func Waiting(a *Agent) int { return len(a.incoming) }

// Absent is how it is found out that nobody on the link has an address.
var Absent = absent

// ErrAbsent is what it says then.
var ErrAbsent = errAbsent

// Kept counts the transactions of plain calls to a that are kept.
func Kept(a *Agent) int { return int(a.kept[anybody].now.Load()) }

// Streams counts the connections that others have open to a, plain and TLS.
func Streams(a *Agent) int {
	n := 0
	for _, g := range []*guard{a.tcp, a.tls.tcp.(*guard)} {
		g.mu.Lock()
		n += len(g.open)
		g.mu.Unlock()
	}
	return n
}

// Held counts the bytes of messages to a that are not whole yet.
func Held(a *Agent) int {
	a.screen.mu.Lock()
	defer a.screen.mu.Unlock()
	return a.screen.held
}

// HurryAnew gives up a caller that has left after a moment.
func HurryAnew(c *Config) {
	c.timers = standard()
	c.timers.anew = 200 * time.Millisecond
}

// CutLinks closes the connections of a over TLS.
func CutLinks(a *Agent) {
	a.tls.mu.Lock()
	var open []*link
	for _, k := range a.tls.byRemote {
		open = append(open, k)
	}
	a.tls.mu.Unlock()
	for _, k := range open {
		k.reset()
	}
}

// Quiet returns once c waits for no response, or is over.
func Quiet(c *Call) {
	for open := 1; open > 0; {
		if c.ask(func(context.Context) error { open = len(c.waits); return nil }) != nil {
			return
		}
		runtime.Gosched()
	}
}

// Tentative returns once c has taken a provisional response to its INVITE, or is over.
func Tentative(c *Call) {
	for heard := false; !heard; {
		if c.ask(func(context.Context) error { heard = c.out == nil || c.out.tentative; return nil }) != nil {
			return
		}
		runtime.Gosched()
	}
}
