package sip

import (
	"context"
	"time"
)

// Hurry makes the timers of RFC 3261 run in milliseconds, so that 64*T1 is
// 320 ms.
func Hurry(c *Config) {
	c.timers = standard()
	c.timers.t1, c.timers.t2 = 5*time.Millisecond, 40*time.Millisecond
	c.timers.silence = 200 * time.Millisecond
	c.timers.connect, c.timers.stall = time.Second, 100*time.Millisecond
	c.timers.glare = 100 * time.Microsecond
}

// Break makes the goroutine of c panic.
func Break(c *Call) { c.box.post(func(context.Context) { panic("broken") }) }

// Waiting counts the calls to a that nobody has taken from Incoming.
func Waiting(a *Agent) int { return len(a.incoming) }

// Absent is how it is found out that nobody on the link has an address.
var Absent = absent

// ErrAbsent is what it says then.
var ErrAbsent = errAbsent
