//go:build nobrowser

package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
)

// browsers are none, in a program without them.
type browsers struct{}

func newBrowsers(func() (tls.Certificate, bool), *neighbourhood, func(string, any, []byte), *slog.Logger) *browsers {
	return nil
}

func (*browsers) take(ctx context.Context, accept func(context.Context) (net.Conn, error)) {
	for {
		conn, err := accept(ctx)
		if err != nil {
			return
		}
		conn.Close() // unanswered: the page says that this phone takes no calls from browsers
	}
}

func newLines(l *line, _ *browsers) *line { return l }
