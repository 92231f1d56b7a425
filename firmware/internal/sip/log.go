package sip

import (
	"context"
	"log/slog"
)

// demoted is sipgo's log: all of it at Debug, since what it calls an error is
// mostly somebody else's.
type demoted struct{ slog.Handler }

// Enabled says yes where Debug is wanted.
func (d demoted) Enabled(ctx context.Context, _ slog.Level) bool {
	return d.Handler.Enabled(ctx, slog.LevelDebug)
}

// Handle logs r at Debug.
func (d demoted) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return d.Handler.Handle(ctx, r)
}

// WithAttrs keeps the demotion.
func (d demoted) WithAttrs(as []slog.Attr) slog.Handler { return demoted{d.Handler.WithAttrs(as)} }

// WithGroup keeps the demotion.
func (d demoted) WithGroup(name string) slog.Handler { return demoted{d.Handler.WithGroup(name)} }
