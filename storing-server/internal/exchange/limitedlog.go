package exchange

import (
	"log/slog"
	"sync"
	"time"
)

// logEvery is how often one kind of event is logged at the most.
const logEvery = 10 * time.Second

// A limitedLog logs that something was turned away, at a limited rate: a flood of
// datagrams makes no flood of lines. All are counted in the metrics.
type limitedLog struct {
	log *slog.Logger

	mu    sync.Mutex
	kinds map[string]*loggedKind
}

type loggedKind struct {
	last  time.Time
	since int // not logged
}

func newLimitedLog(log *slog.Logger) *limitedLog {
	return &limitedLog{log: log, kinds: map[string]*loggedKind{}}
}

// say logs one event of kind, which is one of a few constants.
func (c *limitedLog) say(kind string, attrs ...any) {
	now := time.Now()
	c.mu.Lock()
	k := c.kinds[kind]
	if k == nil {
		k = &loggedKind{}
		c.kinds[kind] = k
	}
	k.since++
	if !k.last.IsZero() && now.Sub(k.last) < logEvery {
		c.mu.Unlock()
		return
	}
	times := k.since
	k.last, k.since = now, 0
	c.mu.Unlock()
	c.log.Warn("turned away", append([]any{"reason", kind, "times", times}, attrs...)...)
}
