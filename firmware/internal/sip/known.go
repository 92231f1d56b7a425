package sip

import (
	"container/list"
	"context"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

// A class of callers has room of its own, so that a lower one cannot take that of
// a higher one: neither by being there first, nor by being many.
type class int

const (
	anybody class = iota // over plain SIP, for which sending packets is enough
	keyed                // over TLS, with a key that anybody can make
	known                // with the key of a phone that was called by it, or was vouched for
	classes
)

const (
	maxKnown         = 256 // keys that are remembered, a household and its friends
	invitesPerKey    = 20  // a second, of one known phone
	invitesKeyBurst  = 60
	maxPendingPerKey = 4 // calls of one known phone that nobody has answered yet
)

// acquaintances are the keys of phones that have been proved to be who they say.
type acquaintances struct {
	mu   sync.Mutex
	keys map[[32]byte]*list.Element
	used *list.List // of *acquaintance, the latest first
}

type acquaintance struct {
	key     [32]byte
	invites *rate.Limiter
}

func newAcquaintances() *acquaintances {
	return &acquaintances{keys: make(map[[32]byte]*list.Element), used: list.New()}
}

// add remembers a key. Of too many the one that was not heard of for the longest
// time is forgotten.
func (q *acquaintances) add(key [32]byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.keys[key]; e != nil {
		q.used.MoveToFront(e)
		return
	}
	if len(q.keys) >= maxKnown {
		last := q.used.Back()
		delete(q.keys, q.used.Remove(last).(*acquaintance).key)
	}
	q.keys[key] = q.used.PushFront(&acquaintance{key, rate.NewLimiter(invitesPerKey, invitesKeyBurst)})
}

// of is the class of whoever shows a key; zero: over plain SIP.
func (q *acquaintances) of(key [32]byte) class {
	if key == [32]byte{} {
		return anybody
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.keys[key] != nil {
		return known
	}
	return keyed
}

// allows reports whether a known phone may call once more now.
func (q *acquaintances) allows(key [32]byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.keys[key]
	return e != nil && e.Value.(*acquaintance).invites.Allow()
}

// Vouch tells that the peer of a secure call is who it says. Calls of that phone
// find room from now on that strangers cannot take, and so do its connections.
func (c *Call) Vouch() {
	key := c.key()
	if key == [32]byte{} {
		return
	}
	c.a.known.add(key)
	c.box.post(func(context.Context) {
		if c.link != nil && c.link.stream != nil {
			c.link.stream.known.Store(true)
		}
	})
}

// hasRoom reports whether one more call of a class, by key from source, may wait to
// be answered. One host cannot fill the room of those who have any key, nor one key
// that of those who are known. a.mu is held.
func (a *Agent) hasRoom(key [32]byte, source netip.Addr) bool {
	is := a.known.of(key)
	all, same := 0, 0
	for _, o := range a.calls {
		if !o.incoming || o.settled.Load() || a.known.of(o.key()) != is {
			continue
		}
		all++
		switch {
		case is == keyed && sameHost(o.source, source), is == known && o.key() == key:
			same++
		}
	}
	switch is {
	case keyed:
		return all < maxPending && same < maxPendingPerHost
	case known:
		return all < maxPending && same < maxPendingPerKey
	}
	return all < maxPending
}
