package store

import (
	"container/heap"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/tidwall/btree"

	"flexphone/registry-client/wire"
)

// An entry is a record and where it stands in the stream. A forgotten row
// keeps its place there: gone is set.
type entry struct {
	record
	seq  uint64
	gone bool
}

// A holder is who has a short number, and where that stands in the stream. A
// freed number keeps its place: its MAC is zero, and it rests until a time in
// milliseconds of Unix time.
type holder struct {
	mac   wire.MAC
	seq   uint64
	rests int64
}

// free reports whether the number can be given out at now.
func (h holder) free(now time.Time) bool { return h.mac == wire.MAC{} && h.rests <= now.UnixMilli() }

// A table is the rows in memory, with what finds them. It is a pure structure:
// it holds what the stream holds, and nothing is read from the disk to answer
// a lookup.
type table struct {
	mu      sync.RWMutex
	rows    map[wire.MAC]*entry
	numbers map[string]holder
	resting restHeap // freed numbers, the first to be given out again first
	notes   map[noteKey]noteEntry
	kept    int                       // notes of them that are never dropped
	addrs   map[netip.Addr][]wire.MAC // who announced it, in the order of announcing
	live    int                       // rows that are not gone
	order   *btree.BTreeG[wire.MAC]   // of these
	due     dueHeap
	// loading: nobody asks yet, so what a change touches is not worked out, and
	// order and due are made at the end.
	loading bool
}

func newTable() *table {
	return &table{
		rows:    map[wire.MAC]*entry{},
		numbers: map[string]holder{},
		notes:   map[noteKey]noteEntry{},
		addrs:   map[netip.Addr][]wire.MAC{},
		order: btree.NewBTreeGOptions(func(a, b wire.MAC) bool { return slices.Compare(a[:], b[:]) < 0 },
			btree.Options{NoLocks: true}),
	}
}

// putRow stores what stands at seq for mac; a nil r forgets it. It returns the
// queries whose answers may have changed, none when the table knew better.
func (t *table) putRow(mac wire.MAC, r *record, seq uint64) []wire.Query {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.rows[mac]
	if old != nil && old.seq >= seq {
		return nil
	}
	if old != nil && !old.gone {
		t.live--
		for _, a := range old.Addrs {
			t.dropAddr(a, mac)
		}
	}
	if r == nil {
		t.order.Delete(mac)
		t.rows[mac] = &entry{seq: seq, gone: true}
		return t.touched(mac, old, r)
	}
	t.live++
	t.rows[mac] = &entry{record: *r, seq: seq}
	for _, a := range r.Addrs {
		t.addrs[a] = append(t.addrs[a], mac)
	}
	if t.loading {
		return nil
	}
	t.order.Set(mac)
	if r.Released.IsZero() {
		heap.Push(&t.due, due{r.Expiry, mac})
		if len(t.due) > 64 && len(t.due) > 3*t.live {
			t.sweep()
		}
	}
	return t.touched(mac, old, r)
}

// touched returns the queries that lead to mac's row before a change or after
// it; old and r may be nil.
func (t *table) touched(mac wire.MAC, old *entry, r *record) []wire.Query {
	if t.loading {
		return nil
	}
	var few [8]wire.Query
	touched := append(few[:0], wire.Query{MAC: mac})
	if old != nil && !old.gone {
		touched = appendKeys(touched, &old.record)
	}
	if r != nil {
		touched = appendKeys(touched, r)
	}
	return slices.Clone(touched)
}

// load is true while the rows are read for the first time.
func (t *table) load(loading bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.loading && !loading {
		t.arrange()
	}
	t.loading = loading
}

// arrange makes order and due of the rows, which for many at once takes a
// fraction of what one row after the other does.
func (t *table) arrange() {
	macs := make([]wire.MAC, 0, t.live)
	t.due = make(dueHeap, 0, t.live)
	for mac, e := range t.rows {
		if e.gone {
			continue
		}
		macs = append(macs, mac)
		if e.Released.IsZero() {
			t.due = append(t.due, due{e.Expiry, mac})
		}
	}
	heap.Init(&t.due)
	slices.SortFunc(macs, func(a, b wire.MAC) int { return slices.Compare(a[:], b[:]) })
	for _, mac := range macs {
		t.order.Load(mac)
	}
}

// appendKeys appends the queries other than by MAC that lead to r, unless they
// are there.
func appendKeys(qs []wire.Query, r *record) []wire.Query {
	add := func(q wire.Query) {
		if !slices.Contains(qs, q) {
			qs = append(qs, q)
		}
	}
	if r.Number != "" {
		add(wire.Query{Number: r.Number})
	}
	for _, a := range r.Addrs {
		add(wire.Query{Addr: a})
	}
	return qs
}

func (t *table) dropAddr(a netip.Addr, mac wire.MAC) {
	left := slices.DeleteFunc(t.addrs[a], func(m wire.MAC) bool { return m == mac })
	if len(left) == 0 {
		delete(t.addrs, a)
		return
	}
	t.addrs[a] = left
}

// putNumber stores what stands at seq for digits; the zero MAC frees it, to be
// given out again from the time rests.
func (t *table) putNumber(digits string, mac wire.MAC, rests int64, seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.numbers[digits].seq >= seq {
		return
	}
	t.numbers[digits] = holder{mac, seq, rests}
	if rests != 0 {
		heap.Push(&t.resting, rest{rests, digits})
	}
}

// rested takes the numbers that have rested by now off the list, and returns
// them.
func (t *table) rested(now time.Time) (digits []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.resting) > 0 && t.resting[0].until <= now.UnixMilli() {
		digits = append(digits, heap.Pop(&t.resting).(rest).digits)
	}
	return digits
}

// find returns the row that q asks for as it is at now. By address it is the
// phone that announced it last among those that are online: a phone that lost
// its lease without a word does not hide the one that has it now.
func (t *table) find(q wire.Query, now time.Time) (wire.Row, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	mac := q.MAC
	switch {
	case q.Number != "":
		mac = t.numbers[q.Number].mac
	case q.Addr.IsValid():
		claims := t.addrs[q.Addr]
		for i := len(claims) - 1; i >= 0; i-- {
			if t.rows[claims[i]].online(now) {
				mac = claims[i]
				break
			}
		}
	}
	e := t.rows[mac]
	if e == nil || e.gone {
		return wire.Row{}, false
	}
	return e.record.row(now), true
}

// row returns mac's entry; ok is false when there was never one.
func (t *table) row(mac wire.MAC) (entry, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if e := t.rows[mac]; e != nil {
		return *e, true
	}
	return entry{}, false
}

func (t *table) number(digits string) holder {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.numbers[digits]
}

// size returns how many rows there are.
func (t *table) size() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.live
}

// all yields the rows, ordered by MAC.
func (t *table) all(now time.Time) iter.Seq[wire.Row] {
	return func(yield func(wire.Row) bool) {
		for macs := t.stride(wire.MAC{}, false); len(macs) > 0; macs = t.stride(macs[len(macs)-1], false) {
			for _, m := range macs {
				if r, ok := t.find(wire.Query{MAC: m}, now); ok && !yield(r) {
					return
				}
			}
		}
	}
}

// expired takes the rows that have expired by now off the list of those that
// will, and returns the queries that lead to them, and when to ask again: the
// zero time when nothing is going to expire.
func (t *table) expired(now time.Time) (touched []wire.Query, next time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.due) > 0 {
		d := t.due[0]
		e := t.rows[d.mac]
		current := !e.gone && e.Released.IsZero() && e.Expiry.Equal(d.at)
		if current && d.at.After(now) {
			return touched, d.at
		}
		heap.Pop(&t.due)
		if current {
			touched = append(touched, wire.Query{MAC: d.mac})
			touched = append(touched, appendKeys(nil, &e.record)...)
		}
	}
	return touched, time.Time{}
}

// sweep drops what has been overtaken from the list of expiries.
func (t *table) sweep() {
	kept := t.due[:0]
	seen := make(map[wire.MAC]bool, t.live)
	for _, d := range t.due {
		e := t.rows[d.mac]
		if !seen[d.mac] && !e.gone && e.Released.IsZero() && e.Expiry.Equal(d.at) {
			seen[d.mac] = true
			kept = append(kept, d)
		}
	}
	t.due = kept
	heap.Init(&t.due)
}

// A due says when a row will expire, unless it changes before.
type due struct {
	at  time.Time
	mac wire.MAC
}

type dueHeap []due

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(due)) }
func (h *dueHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// A rest says until when a freed number is not given out.
type rest struct {
	until  int64 // milliseconds of Unix time
	digits string
}

type restHeap []rest

func (h restHeap) Len() int           { return len(h) }
func (h restHeap) Less(i, j int) bool { return h[i].until < h[j].until }
func (h restHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *restHeap) Push(x any)        { *h = append(*h, x.(rest)) }
func (h *restHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
