package sip

import (
	"context"
	"errors"
	"runtime/debug"

	gosip "github.com/emiago/sipgo/sip"
)

// contain ends a panic of what: it is reported and goes no further. It is to be
// deferred; after says how to go on after a panic, and may be nil.
func (a *Agent) contain(what string, after func()) {
	cause := recover()
	if cause == nil {
		return
	}
	stack := debug.Stack()
	a.log.Error("sip: panic", "in", what, "cause", cause, "stack", string(stack))
	if a.cfg.Panicked != nil {
		a.cfg.Panicked(what, cause, stack)
	}
	if after != nil {
		after()
	}
}

// serve is handle whose panic costs the peer its request and nobody else
// anything.
func (a *Agent) serve(req *gosip.Request, tx *gosip.ServerTx) {
	defer a.contain("request", func() {
		defer a.contain("answer to a request", nil)
		if !req.IsAck() {
			a.respond(tx, req, 500, nil)
		}
	})
	a.handle(req, tx)
}

// try runs f in the call's goroutine. When that panics, the call ends as well as
// it still can, and try reports false: what was half done is not to be waited for.
func (c *Call) try(ctx context.Context, f func(context.Context)) (ok bool) {
	defer c.a.contain("call", func() { c.abort(ctx) })
	f(ctx)
	c.publish()
	return true
}

// abort ends a call that has failed in itself, and tells the peer.
func (c *Call) abort(ctx context.Context) {
	defer c.a.contain("end of a call", func() { c.end(0, ReasonFailed) })
	if c.state == starting && c.incoming {
		c.reject(500, ReasonFailed)
		return
	}
	c.hangUp(ctx, ReasonFailed)
}

// aside runs f beside the call's goroutine, which waits for it at its end.
func (c *Call) aside(f func()) {
	c.work.Go(func() {
		defer c.a.contain("call", func() { c.box.post(c.abort) })
		f()
	})
}

// parsers are sipgo's parsers of header fields, of which one that panics loses its
// message and not the phone.
func (a *Agent) parsers() map[string]gosip.HeaderParser {
	out := make(map[string]gosip.HeaderParser)
	for name, parse := range gosip.DefaultHeadersParser() {
		out[name] = func(name []byte, text string) (h gosip.Header, err error) {
			defer a.contain("header", func() { h, err = nil, errUnread })
			return parse(name, text)
		}
	}
	return out
}

var errUnread = errors.New("sip: parse header: panic")
