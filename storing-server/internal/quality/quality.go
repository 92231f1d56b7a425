// Package quality keeps what phones have told of their last calls: how well those were
// heard, for the operator who is asked why a phone sounds bad.
//
// It knows phones by their MAC, and the figures of their calls. It keeps them in
// memory, as many as it is told, and forgets them when the server ends: rows are what
// must not be lost. It refuses to know whom a call was with, which no phone tells.
package quality

import (
	"slices"
	"sync"
	"time"

	"flexphone/registry-client/wire"
)

// A Call is one that a phone has told of.
type Call struct {
	wire.Heard
	Told time.Time // by an announcement, which comes when there is another reason for it, or after wire.MaxHeard calls
}

// A Book keeps the last wire.MaxHeard calls of each phone. Its methods may be called
// by any goroutine.
type Book struct {
	most  int // phones
	count func(wire.Heard)

	mu    sync.Mutex
	calls map[wire.MAC]page
}

// A page is a phone's.
type page struct {
	sequence uint64 // of the announcement that told last
	calls    []Call // newest first
	ways     Ways
}

// Ways are how many calls went which way, by wire.Way.
type Ways [len(wire.Ways)]uint64

// NewBook returns a Book of at most so many phones. count is told of each call, once.
func NewBook(most int, count func(wire.Heard)) *Book {
	return &Book{most: most, count: count, calls: make(map[wire.MAC]page)}
}

// Tell takes what a phone tells in an announcement that is on the disk. One that was
// answered before tells nothing new.
func (b *Book) Tell(r wire.Registration, now time.Time) {
	if len(r.Heard) == 0 {
		return
	}
	b.mu.Lock()
	p, known := b.calls[r.MAC]
	if known && r.Sequence <= p.sequence {
		b.mu.Unlock()
		return
	}
	if !known && len(b.calls) >= b.most {
		for other := range b.calls { // whichever: all of them were told of
			delete(b.calls, other)
			break
		}
	}
	next := page{sequence: r.Sequence, ways: p.ways}
	for _, h := range slices.Backward(r.Heard) {
		next.ways[h.Way]++
		next.calls = append(next.calls, Call{h, now})
	}
	next.calls = append(next.calls, p.calls...)
	next.calls = next.calls[:min(len(next.calls), wire.MaxHeard)]
	b.calls[r.MAC] = next
	b.mu.Unlock()
	for _, h := range r.Heard {
		b.count(h)
	}
}

// Of returns what a phone has told of its last calls, newest first, and how many of all went
// which way.
func (b *Book) Of(mac wire.MAC) ([]Call, Ways) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.calls[mac]
	return slices.Clone(p.calls), p.ways
}
