package web

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"flexphone/registry-client/wire"
)

const (
	// watchersMost is how many pages are told of changes at the same time.
	watchersMost = 100
	// calm is the least time between two changes of one page: eyes are not
	// faster.
	calm = 250 * time.Millisecond
	// heartbeat keeps what stands between from closing a connection, and finds
	// out whether the login still lasts.
	heartbeat = 15 * time.Second
)

// A hub tells open pages that one of their rows has changed. Nothing is queued:
// whoever is woken reads the rows again.
type hub struct {
	open atomic.Int32

	mu       sync.Mutex
	watchers map[*watcher]struct{}
}

// A watcher is a page that shows the rows from one MAC to another.
type watcher struct {
	first, last wire.MAC
	wake        chan struct{} // one slot
}

// changed wakes the pages that show one of qs. It does not block.
func (h *hub) changed(qs []wire.Query) {
	if h.open.Load() == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		if slices.ContainsFunc(qs, func(q wire.Query) bool {
			return q.MAC != wire.MAC{} && slices.Compare(w.first[:], q.MAC[:]) <= 0 && slices.Compare(q.MAC[:], w.last[:]) <= 0
		}) {
			select {
			case w.wake <- struct{}{}:
			default:
			}
		}
	}
}

// watch returns nil when too many watch already.
func (h *hub) watch(first, last wire.MAC) *watcher {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.watchers) >= watchersMost {
		return nil
	}
	w := &watcher{first, last, make(chan struct{}, 1)}
	h.watchers[w] = struct{}{}
	h.open.Add(1)
	return w
}

func (h *hub) leave(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
	h.open.Add(-1)
}

// stream sends what render makes, again whenever one of the rows from first to
// last has changed, as server-sent events, for as long as still says that they
// may be seen.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, first, last wire.MAC, still func() bool, render func() ([]byte, error)) {
	page := s.hub.watch(first, last)
	if page == nil {
		http.Error(w, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	defer s.hub.leave(page)
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", eventStream)
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		_ = out.SetWriteDeadline(time.Now().Add(2 * heartbeat)) // an unbuffered test's writer has none
		text, err := render()
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", bytes.ReplaceAll(text, []byte("\n"), []byte("\ndata: "))); err != nil || out.Flush() != nil {
			return
		}
		pause := time.NewTimer(calm)
		select {
		case <-pause.C:
		case <-r.Context().Done():
			return
		}
	wait:
		for {
			select {
			case <-page.wake:
				break wait
			case <-beat.C:
				_ = out.SetWriteDeadline(time.Now().Add(2 * heartbeat))
				if !still() {
					return
				}
				if _, err := w.Write([]byte(": still here\n\n")); err != nil || out.Flush() != nil {
					return
				}
			case <-s.ending:
				return
			case <-r.Context().Done():
				return
			}
		}
	}
}
