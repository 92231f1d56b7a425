package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"flexphone/storing-server/internal/trust"
)

const (
	// readyEvery is for how long an answer of Readiness holds: whoever asks more
	// often causes no more writes.
	readyEvery = 2 * time.Second
	// readyMost is how long a write may take before the server counts as one that
	// is of no use.
	readyMost = 5 * time.Second
	// healthMost bounds the connections of Health, and healthEach those of them
	// from one network.
	healthMost = 64
	healthEach = 16
)

// A Prober is what Readiness needs of a store.
type Prober interface {
	// Reachable reports whether the cluster that keeps the rows is in sight.
	Reachable() bool
	// Probe writes something that changes nothing.
	Probe(ctx context.Context) error
}

// A Readiness says whether a server is of use to phones: it listens once the
// rows are read, but the disk may be full or broken, or they may be kept by a
// cluster that it has lost sight of. So it writes something. It is safe for
// concurrent use.
type Readiness struct {
	rows Prober
	log  *slog.Logger

	mu    sync.Mutex
	asked time.Time
	last  error
}

// NewReadiness returns one of a store. What makes the server unready is logged
// once, and so is that it is ready again.
func NewReadiness(rows Prober, log *slog.Logger) *Readiness {
	return &Readiness{rows: rows, log: log}
}

// Err says why the server is of no use now; nil: it is.
func (r *Readiness) Err(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); r.asked.IsZero() || now.Sub(r.asked) >= readyEvery {
		err := r.ask(ctx)
		if ctx.Err() != nil {
			return err // who asked has gone; that says nothing
		}
		switch {
		case err != nil && r.last == nil:
			r.log.Error("not ready", "err", err)
		case err == nil && r.last != nil:
			r.log.Info("ready again")
		}
		r.asked, r.last = time.Now(), err
	}
	return r.last
}

func (r *Readiness) ask(ctx context.Context) error {
	if !r.rows.Reachable() {
		return errors.New("no connection to the cluster that keeps the rows")
	}
	ctx, cancel := context.WithTimeout(ctx, readyMost)
	defer cancel()
	if err := r.rows.Probe(ctx); err != nil {
		return fmt.Errorf("nothing can be written: %w", err)
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (r *Readiness) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if err := r.Err(req.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// health adds what machines ask for: whether the server lives, whether it is of
// use, and its metrics.
func health(mux *http.ServeMux, metrics http.Handler, ready *Readiness) {
	if metrics != nil {
		mux.Handle("GET /metrics", metrics)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	if ready != nil {
		mux.Handle("GET /readyz", ready)
	}
}

// Health answers these on a port of their own, where nobody who floods the
// pages is in their way.
type Health struct {
	listener net.Listener
	handler  http.Handler
	log      *slog.Logger
}

// ListenHealth opens the port. Nobody is answered before Serve.
func ListenHealth(ctx context.Context, address string, metrics http.Handler, ready *Readiness, log *slog.Logger) (*Health, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("web: listen for health on %s: %w", address, err)
	}
	mux := http.NewServeMux()
	health(mux, metrics, ready)
	return &Health{trust.NewConnections(healthMost, healthEach, nil).GiveWay().Listener(l, nil), mux, log}, nil
}

// Addr returns where it listens.
func (h *Health) Addr() net.Addr { return h.listener.Addr() }

// Close gives up one that does not serve.
func (h *Health) Close() { h.listener.Close() }

// Serve answers until ctx is done.
func (h *Health) Serve(ctx context.Context) error {
	return serveHTTP(ctx, h.listener, h.handler, nil, h.log, nil)
}
