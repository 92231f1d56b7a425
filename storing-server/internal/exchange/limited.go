package exchange

import (
	"log/slog"
	"sync"
	"time"
)

// cryEvery is how often one kind of event is logged at the most.
const cryEvery = 10 * time.Second

// A crier logs that something was turned away, at a limited rate: a flood of
// datagrams makes no flood of lines. All are counted in the metrics.
type crier struct {
	log *slog.Logger

	mu    sync.Mutex
	kinds map[string]*cries
}

type cries struct {
	last  time.Time
	since int // not logged
}

func newCrier(log *slog.Logger) *crier { return &crier{log: log, kinds: map[string]*cries{}} }

// say logs one event of kind, which is one of a few constants.
func (c *crier) say(kind string, attrs ...any) {
	now := time.Now()
	c.mu.Lock()
	k := c.kinds[kind]
	if k == nil {
		k = &cries{}
		c.kinds[kind] = k
	}
	k.since++
	if !k.last.IsZero() && now.Sub(k.last) < cryEvery {
		c.mu.Unlock()
		return
	}
	times := k.since
	k.last, k.since = now, 0
	c.mu.Unlock()
	c.log.Warn("turned away", append([]any{"reason", kind, "times", times}, attrs...)...)
}
