package netlink_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flexphone/netlink"
	"flexphone/testbed/lab"
)

// ownerPatience is how long a client of another make may take; it is no measure.
const ownerPatience = 30 * time.Second

// A home is a cable with a provider at its far end.
type home struct {
	*lab.Cable
	t        *testing.T
	provider lab.Provider
	service  *lab.Service
	state    string // folder of the provider's leases
}

// newHome lays the cable, for a provider that gives o. It needs the provider's
// program.
func newHome(t *testing.T, provider lab.Provider, o lab.Offer) *home {
	t.Helper()
	cable, err := lab.NewCable(o.Server)
	if err != nil {
		t.Fatal(err)
	}
	h := &home{Cable: cable, t: t, provider: provider, state: t.TempDir()}
	t.Cleanup(func() {
		if h.service != nil {
			h.service.Stop()
		}
		cable.Close()
	})
	if err := cable.Bare(); err != nil {
		t.Fatal(err)
	}
	if h.service, err = provider.Start(cable, h.state, o); err != nil {
		t.Fatal(err)
	}
	return h
}

// replace has another provider, who gives o and knows of no lease, take the place
// of the one before.
func (h *home) replace(o lab.Offer) {
	h.t.Helper()
	h.service.Stop()
	err := os.Remove(filepath.Join(h.state, "leases"))
	if err == nil {
		err = h.SetFar(o.Server)
	}
	if err == nil {
		h.service, err = h.provider.Start(h.Cable, h.state, o)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// run runs what open makes of eth0 until the test ends.
func (h *home) run(open func(netlink.Config) (netlink.Source, error)) follower {
	h.t.Helper()
	s, err := open(netlink.Config{
		Interface: lab.NearName, Log: slog.New(slog.NewTextHandler(logWriter{h.t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(h.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Near.Do(func() error { return s.Run(ctx) }) }()
	h.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Errorf("Run: %v", err)
		}
	})
	return follower{s, h.t}
}

// A follower waits for the events of a Source.
type follower struct {
	netlink.Source
	t *testing.T
}

func (f follower) next() netlink.Event {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), ownerPatience)
	defer cancel()
	e, err := f.Next(ctx)
	if err != nil {
		f.t.Fatalf("no event: %v", err)
	}
	return e
}

func (f follower) want(kind netlink.EventKind) netlink.Event {
	f.t.Helper()
	e := f.next()
	if e.Kind != kind {
		f.t.Fatalf("event %v of %v (%s); want %v", e.Kind, e.Lease.Prefix, e.Reason, kind)
	}
	return e
}

// afterRenewals is next, past renewals.
func (f follower) afterRenewals() netlink.Event {
	f.t.Helper()
	e := f.next()
	for e.Kind == netlink.Renewed {
		e = f.next()
	}
	return e
}

type logWriter struct{ t *testing.T }

func (w logWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}
