package trust

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"flexphone/registry-client/wire"
)

// Bounds of the list of phones that wait to be let in.
const (
	waitingMost  = 1024
	waitingEach  = 64             // of them from one network
	waitingLasts = 24 * time.Hour // since a phone has asked last
)

// A Waiter is a phone that asked to enrol, and waits for the operator.
type Waiter struct {
	MAC   wire.MAC
	Key   wire.Fingerprint
	From  netip.Addr // where it asked last
	Since time.Time
	Last  time.Time // when that was
}

type waiterKey struct {
	mac wire.MAC
	key wire.Fingerprint
}

// Waiting are the phones that wait to be let in, as this server has heard of
// them: they ask again. It is safe for concurrent use.
type Waiting struct {
	exempt Exempt

	mu  sync.Mutex
	all map[waiterKey]Waiter
}

// NewWaiting returns an empty list; exempt networks may have all of it.
func NewWaiting(exempt Exempt) *Waiting {
	return &Waiting{exempt: exempt, all: map[waiterKey]Waiter{}}
}

// Ask notes that a phone has asked. Where there are too many, of its network or
// of all, the one gives way that has not asked for the longest time.
func (w *Waiting) Ask(mac wire.MAC, key wire.Fingerprint, from netip.Addr, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := waiterKey{mac, key}
	one, known := w.all[k]
	if !known {
		one = Waiter{MAC: mac, Key: key, Since: now}
		w.makeRoom(NetworkOf(from), now)
	}
	one.From, one.Last = from.Unmap(), now
	w.all[k] = one
}

func (w *Waiting) makeRoom(at Network, now time.Time) {
	same := 0
	var oldest, oldestSame waiterKey
	for k, x := range w.all {
		if now.Sub(x.Last) > waitingLasts {
			delete(w.all, k)
			continue
		}
		if first, ok := w.all[oldest]; !ok || x.Last.Before(first.Last) {
			oldest = k
		}
		if NetworkOf(x.From) == at {
			same++
			if first, ok := w.all[oldestSame]; !ok || x.Last.Before(first.Last) {
				oldestSame = k
			}
		}
	}
	switch {
	case same >= waitingEach && !w.exempt.Has(at):
		delete(w.all, oldestSame)
	case len(w.all) >= waitingMost:
		delete(w.all, oldest)
	}
}

// Drop takes a phone off the list: it was let in.
func (w *Waiting) Drop(mac wire.MAC, key wire.Fingerprint) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, waiterKey{mac, key})
}

// List returns who waits, the first to come first.
func (w *Waiting) List(now time.Time) (out []Waiter) {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.all {
		if now.Sub(x.Last) <= waitingLasts {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b Waiter) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		if c := slices.Compare(a.MAC[:], b.MAC[:]); c != 0 {
			return c
		}
		return slices.Compare(a.Key[:], b.Key[:])
	})
	return out
}
