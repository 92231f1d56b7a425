package directory

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"flexphone/firmware/internal/sip"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

// A mood is how what the directory asks misbehaves.
type mood string

const (
	well   mood = ""
	no     mood = "says no"
	late   mood = "is late" // by lateBy
	silent mood = "says nothing"
	busy   mood = "asks to wait for a second"    // once
	full   mood = "asks to wait for ten seconds" // always
)

// lateBy is less than a person is made to wait.
const lateBy = time.Second

var errNo = errors.New("no")

// meet waits, and says, what somebody in mood m does.
func meet(ctx context.Context, m mood) error {
	wait := lateBy
	switch m {
	case well:
		return nil
	case no:
		return errNo
	case silent:
		wait = time.Hour
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A world is a storing server and the ways to phones, in simulated time.
type world struct {
	*Directory
	start time.Time

	resolve, observe mood
	knocks           map[string]mood // by address; absent: it takes connections
	routes           map[string]bool // by address; nil: there is one to each
	rows             []wire.Row
	changes          []wire.Row // what Observe tells

	mu       sync.Mutex
	asked    []wire.Query
	prepared []sip.Target
	relay    mood          // of the relay
	relayed  time.Duration // when it was begun; 0: it was not, or at once
}

func (w *world) Resolve(ctx context.Context, q wire.Query) (wire.Row, error) {
	w.ask(q)
	switch w.resolve {
	case busy:
		w.resolve = well
		return wire.Row{}, &registry.BusyError{After: time.Second}
	case full:
		return wire.Row{}, &registry.BusyError{After: 10 * time.Second}
	}
	if err := meet(ctx, w.resolve); err != nil {
		return wire.Row{}, err
	}
	for _, r := range w.rows {
		if q.Number != "" && q.Number == r.Number || q.Number == "" && q.MAC == r.MAC {
			return r, nil
		}
	}
	return wire.Row{}, registry.ErrUnknown
}

func (w *world) Observe(ctx context.Context, q wire.Query, told func(wire.Row, bool)) error {
	w.ask(q)
	if err := meet(ctx, w.observe); err != nil {
		return err
	}
	for _, r := range w.changes {
		told(r, r.MAC.Valid())
	}
	<-ctx.Done()
	return ctx.Err()
}

func (w *world) ask(q wire.Query) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, q)
}

// took is how much time has gone by.
func (w *world) took() time.Duration { return time.Since(w.start) }

// in runs script in a world with these rows.
func in(t *testing.T, script func(t *testing.T, w *world), rows ...wire.Row) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{start: time.Now(), rows: rows, knocks: map[string]mood{}}
		w.Directory = New(w, Config{Path: filepath.Join(t.TempDir(), "phones.json"), Log: slog.New(slog.DiscardHandler), Prepare: func(ctx context.Context, to sip.Target) error {
			w.mu.Lock()
			w.prepared = append(w.prepared, to)
			if to.Way == sip.Relayed {
				w.relayed = w.took()
			}
			w.mu.Unlock()
			if to.Way == sip.Relayed {
				return meet(ctx, w.relay)
			}
			return meet(ctx, w.knocks[to.Addr.Addr().String()])
		}})
		w.source = func(dst netip.Addr) netip.Addr {
			switch {
			case w.routes != nil && !w.routes[dst.String()]:
				return netip.Addr{}
			case dst.Is4():
				return netip.MustParseAddr("192.0.2.1")
			}
			return netip.MustParseAddr("2001:db8::1")
		}
		w.knock = func(ctx context.Context, at netip.AddrPort) error { return meet(ctx, w.knocks[at.Addr().String()]) }
		script(t, w)
	})
}

var theMAC = wire.MAC{2, 0, 0x5e, 0, 0x53, 2}

// rowOf is the row of 102 at these addresses.
func rowOf(addrs ...string) wire.Row {
	r := wire.Row{MAC: theMAC, Number: "102", Ports: wire.Ports{SIP: 5060, SIPS: 5061}, Fingerprint: wire.Fingerprint{1}, State: wire.Online}
	for _, a := range addrs {
		r.Addrs = append(r.Addrs, netip.MustParseAddr(a))
	}
	return r
}

// with is r with a change.
func with(r wire.Row, change func(*wire.Row)) wire.Row {
	change(&r)
	return r
}
