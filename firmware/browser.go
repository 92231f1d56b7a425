//go:build !nobrowser

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"

	"flexphone/firmware/internal/browser"
	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/sip"
)

// browsers are calls from browsers, as call control sees them.
type browsers struct{ line *browser.Line }

func newBrowsers(own func() (tls.Certificate, bool), around *neighbourhood, panicked func(string, any, []byte), log *slog.Logger) *browsers {
	missed := func(ctx context.Context) {
		if client, ok := around.server(); ok {
			_, _ = client.Alive(ctx) // a NAT that has forgotten the phone hears of it
		}
	}
	return &browsers{browser.New(browser.Config{Own: own, Addrs: around.addrs, STUN: around.mirrors, Missed: missed, Log: log, Panicked: panicked})}
}

// take takes the links that accept brings, until it brings no more.
func (b *browsers) take(ctx context.Context, accept func(context.Context) (net.Conn, error)) {
	for {
		conn, err := accept(ctx)
		if err != nil {
			return
		}
		go b.line.Take(ctx, conn) // it ends soon, or with ctx
	}
}

// incoming waits for the next call.
func (b *browsers) incoming(ctx context.Context) (phone.Call, error) {
	c, err := b.line.Incoming(ctx)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// lines are all ways by which this phone calls and is called.
type lines struct {
	*line
	browsers *browsers
	waiting  chan came // what both brought at a time
}

type came struct {
	call phone.Call
	err  error
}

func newLines(l *line, b *browsers) *lines { return &lines{l, b, make(chan came, 1)} }

// Invite implements phone.Line.
func (l *lines) Invite(ctx context.Context, to sip.Target, local sip.LocalMedia) (phone.Call, error) {
	if !to.Browser {
		return l.line.Invite(ctx, to, local)
	}
	return l.browsers.line.Call(ctx, func(ctx context.Context) (net.Conn, error) { return l.line.cfg.Relay.Dial(ctx, to.User) }), nil
}

// Incoming implements phone.Line, which has one reader: the next call, by whichever
// way it comes.
func (l *lines) Incoming(ctx context.Context) (phone.Call, error) {
	select {
	case c := <-l.waiting:
		return c.call, c.err
	default:
	}
	both, stop := context.WithCancel(ctx)
	defer stop()
	got := make(chan came, 2)
	for _, from := range []func(context.Context) (phone.Call, error){l.line.Incoming, l.browsers.incoming} {
		go func() {
			call, err := from(both)
			got <- came{call, err}
		}()
	}
	first := <-got
	stop()
	second := <-got
	switch {
	case first.call == nil && second.call != nil: // an error, and a call before it was asked to stop
		first, second = second, first
	case second.call == nil && errors.Is(second.err, context.Canceled) && ctx.Err() == nil:
		return first.call, first.err // it was only asked to stop
	}
	if second.call != nil {
		l.waiting <- second
	}
	return first.call, first.err
}
