package registry

import (
	"context"
	"slices"

	"flexphone/netlink"
)

// Update takes a lease event. It never blocks; Run acts on the newest event.
// A gap without an address is not announced: there is nothing to say it from.
func (a *Announcer) Update(e netlink.Event) {
	a.mu.Lock()
	moved := e.Kind != netlink.Renewed || !a.have || !slices.Equal(a.lease.Addrs(), e.Lease.Addrs())
	switch e.Kind {
	case netlink.Bound, netlink.Renewed:
		a.lease, a.have = e.Lease, e.Lease.Addr().IsValid()
		if e.Kind == netlink.Bound {
			a.silent = false
		}
	case netlink.Lost:
		a.have = false
	default:
		a.mu.Unlock()
		return
	}
	if moved {
		a.version++
		if a.trying != nil {
			a.trying()
		}
	}
	a.mu.Unlock()
	a.hurry()
}

// Check has a registered phone ask at once whether the server is there, and still
// knows it: somebody is about to need it. It never blocks.
func (a *Announcer) Check() { a.ask(&a.check) }

// Again has an announcement that has failed tried again at once, as when the server
// is looked for elsewhere. It never blocks.
func (a *Announcer) Again() { a.ask(&a.again) }

// Announce has a registered phone announce itself again, since there is more to tell
// than its address. It never blocks.
func (a *Announcer) Announce() { a.ask(&a.more) }

// ask sets a wish, and has Run look at it.
func (a *Announcer) ask(wish *bool) {
	a.mu.Lock()
	*wish = true
	a.mu.Unlock()
	a.hurry()
}

// hurry has Run look at what is newest.
func (a *Announcer) hurry() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// take reports whether a wish is there, which is then granted.
func (a *Announcer) take(wish *bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	asked := *wish
	*wish = false
	return asked
}

// state returns the newest lease, and whether there is something to announce.
func (a *Announcer) state() (version int, lease netlink.Lease, active bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.version, a.lease, a.have && !a.silent
}

// begin takes the turn to send, and returns a context that ends when something
// newer than version comes. It does not succeed when that is so already.
func (a *Announcer) begin(ctx context.Context, version int) (context.Context, func(), bool) {
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.version != version || a.silent {
		<-a.turn
		return nil, nil, false
	}
	try, cancel := context.WithTimeout(ctx, attemptMost)
	a.trying = cancel
	return try, func() {
		a.mu.Lock()
		a.trying = nil
		a.mu.Unlock()
		cancel()
		<-a.turn
	}, true
}
