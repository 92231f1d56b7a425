//go:build !nobrowser

package browser

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// quiet has what pion says in the log of details: what matters is said by whoever
// calls it.
type quiet struct{ log *slog.Logger }

// NewLogger implements logging.LoggerFactory.
func (q quiet) NewLogger(scope string) logging.LeveledLogger { return scoped{q.log, scope} }

type scoped struct {
	log   *slog.Logger
	scope string
}

func (s scoped) say(format string, args ...any) {
	if s.log.Enabled(context.Background(), slog.LevelDebug) {
		s.log.Debug("webrtc: "+s.scope, "says", fmt.Sprintf(format, args...))
	}
}

func (s scoped) Trace(string)                      {}
func (s scoped) Tracef(string, ...any)             {}
func (s scoped) Debug(string)                      {}
func (s scoped) Debugf(string, ...any)             {}
func (s scoped) Info(m string)                     { s.say("%s", m) }
func (s scoped) Infof(format string, args ...any)  { s.say(format, args...) }
func (s scoped) Warn(m string)                     { s.say("%s", m) }
func (s scoped) Warnf(format string, args ...any)  { s.say(format, args...) }
func (s scoped) Error(m string)                    { s.say("%s", m) }
func (s scoped) Errorf(format string, args ...any) { s.say(format, args...) }
