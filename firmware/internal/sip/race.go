package sip

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// RelayAfter is how long a phone may leave us without an answer at its addresses before
// it is tried by the relay as well. On most ways an answer takes less, and where it takes
// more the relay has lost nothing but a few packets.
const RelayAfter = 150 * time.Millisecond

// A place is where a phone is to be connected with.
type place struct {
	addr netip.AddrPort
	pin  [32]byte // zero: whoever is there
	user string   // by which the relay knows it
	way  Way
}

// An attempt is one way of connecting, as it has ended.
type attempt struct {
	c      *tls.Conn
	remote netip.AddrPort
	user   string // of who is reached by the relay
	err    error
}

// connectTo connects with the phone at to: at its address, and if nothing answers there
// soon, or somebody else does, by the relay as well (after RFC 8305). The first that
// has shaken hands is it, and the other one is closed: the phone hears of no call by
// that. The link is held for the caller.
func (l *links) connectTo(ctx context.Context, to place) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timers.connect)
	defer cancel()
	racing, enough := context.WithCancel(ctx)
	ends := make(chan attempt)
	running := 0
	defer func() {
		enough()
		for ; running > 0; running-- {
			if late := <-ends; late.err == nil {
				late.c.Close()
			}
		}
	}()
	begin := func(f func(context.Context, place) attempt) {
		running++
		go func() { ends <- f(racing, to) }()
	}
	mayRelay := to.way != Direct && l.relay != nil && to.user != ""
	if to.way != Relayed || !mayRelay {
		begin(l.direct)
	}
	var late <-chan time.Time
	relayIt := func() {
		if mayRelay {
			mayRelay, late = false, nil
			begin(l.relayed)
		}
	}
	switch {
	case running == 0:
		relayIt()
	case mayRelay:
		timer := time.NewTimer(RelayAfter)
		defer timer.Stop()
		late = timer.C
	}
	var failed error
	for running > 0 {
		select {
		case <-late:
			relayIt()
		case a := <-ends:
			running--
			if a.err == nil {
				return l.add(a.c, a.remote, a.user, true)
			}
			// Another phone at the address says most: where the one that is meant was.
			if failed == nil || errors.Is(a.err, errWrongKey) {
				failed = a.err
			}
			relayIt()
		}
	}
	return nil, failed
}

// direct connects at the address.
func (l *links) direct(ctx context.Context, to place) attempt {
	c, err := connect(ctx, to.addr)
	if err != nil {
		return attempt{err: fmt.Errorf("sip: connect to %v: %w", to.addr, err)}
	}
	secure := tls.Client(c, l.pinned(to.pin))
	return attempt{c: secure, remote: to.addr, err: l.shake(ctx, secure, to.addr)}
}

// relayed connects by the relay.
func (l *links) relayed(ctx context.Context, to place) attempt {
	c, err := l.relay.Dial(ctx, to.user)
	if err != nil {
		return attempt{err: fmt.Errorf("sip: connect to %s by the relay: %w", to.user, err)}
	}
	r, err := newRelayedConn(c, to.user)
	if err != nil {
		return attempt{err: err}
	}
	secure := tls.Client(r, l.pinned(to.pin))
	return attempt{c: secure, remote: r.at, user: to.user, err: l.shake(ctx, secure, r.at)}
}

// pinned is how to shake hands with nobody but the owner of that key; zero: with
// whoever is there.
func (l *links) pinned(pin [32]byte) *tls.Config {
	conf := l.client.Clone()
	conf.VerifyConnection = func(s tls.ConnectionState) error {
		if pin != [32]byte{} && fingerprintOf(s) != pin {
			return errWrongKey
		}
		return nil
	}
	return conf
}
