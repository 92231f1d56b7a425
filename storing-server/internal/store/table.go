package store

import (
	"container/heap"
	"iter"
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
	seq    uint64
	queued moment // the earliest time it is on the list of expiries for; zero: it is not
	gone   bool
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
	numbers map[numberKey]holder
	resting restHeap // freed numbers, the first to be given out again first
	notes   map[noteKey]noteEntry
	kept    int // notes of them that are never dropped
	addrs   claims
	live    int                     // rows that are not gone
	order   *btree.BTreeG[wire.MAC] // of these
	due     dueHeap
	// loading: nobody asks yet, so what a change touches is not worked out, and
	// order and due are made at the end.
	loading bool
}

func newTable() *table {
	return &table{
		rows:    map[wire.MAC]*entry{},
		numbers: map[numberKey]holder{},
		notes:   map[noteKey]noteEntry{},
		addrs:   claims{newest: map[addrKey]wire.MAC{}, older: map[addrKey][]wire.MAC{}},
		order: btree.NewBTreeGOptions(func(a, b wire.MAC) bool { return slices.Compare(a[:], b[:]) < 0 },
			btree.Options{NoLocks: true}),
	}
}

// putRow stores what stands at seq for mac; a nil r forgets it. It adds to
// touched the queries whose answers may have changed, none when the table knew
// better.
func (t *table) putRow(touched []wire.Query, mac wire.MAC, r *record, seq uint64) []wire.Query {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.rows[mac]
	if e == nil {
		e = &entry{gone: true}
		t.rows[mac] = e
	} else if e.seq >= seq {
		return touched
	}
	if !t.loading {
		touched = appendTouched(touched, mac, e, r)
	}
	was := !e.gone
	if was {
		t.live--
		for _, a := range e.Addrs {
			t.addrs.drop(a, mac)
		}
	}
	// In place: nobody keeps e without holding mu.
	e.seq, e.gone = seq, r == nil
	if r == nil {
		t.order.Delete(mac)
		e.record = record{}
		return touched
	}
	e.record = *r
	t.live++
	for _, a := range r.Addrs {
		t.addrs.add(a, mac)
	}
	if t.loading {
		return touched
	}
	if !was {
		t.order.Set(mac)
	}
	t.await(e)
	return touched
}

// await puts e on the list of expiries, unless it is there for an earlier time:
// a phone renews its row many times before that comes.
func (t *table) await(e *entry) {
	if e.Released == 0 && (e.queued == 0 || e.Expiry < e.queued) {
		e.queued = e.Expiry
		heap.Push(&t.due, due{e.Expiry, e.MAC})
	}
}

// appendTouched adds the queries that lead to mac's row before a change of e,
// or after it; r may be nil.
func appendTouched(touched []wire.Query, mac wire.MAC, e *entry, r *record) []wire.Query {
	begin := len(touched)
	touched = append(touched, wire.Query{MAC: mac})
	if !e.gone {
		touched = appendKeys(touched, begin, &e.record)
	}
	if r != nil {
		touched = appendKeys(touched, begin, r)
	}
	return touched
}

// load begins to read some rows for the first time, and as many numbers.
func (t *table) load(some int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.loading = true
	t.rows = make(map[wire.MAC]*entry, some)
	t.numbers = make(map[numberKey]holder, some)
	t.addrs.newest = make(map[addrKey]wire.MAC, some)
}

// loaded ends what load began.
func (t *table) loaded() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.arrange()
	t.loading = false
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
		if e.Released == 0 {
			e.queued = e.Expiry
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
// are there from begin on.
func appendKeys(qs []wire.Query, begin int, r *record) []wire.Query {
	add := func(q wire.Query) {
		if !slices.Contains(qs[begin:], q) {
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

// putNumber stores what stands at seq for digits; the zero MAC frees it, to be
// given out again from the time rests. It adds to touched as putRow.
func (t *table) putNumber(touched []wire.Query, digits string, mac wire.MAC, rests int64, seq uint64) []wire.Query {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := keyOf(digits)
	if t.numbers[k].seq >= seq {
		return touched
	}
	t.numbers[k] = holder{mac, seq, rests}
	if rests != 0 {
		heap.Push(&t.resting, rest{rests, digits})
	}
	if t.loading {
		return touched
	}
	return append(touched, wire.Query{Number: digits})
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
		mac = t.numbers[keyOf(q.Number)].mac
	case q.Addr.IsValid():
		for m := range t.addrs.of(q.Addr) {
			if t.rows[m].online(now) {
				mac = m
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
	return t.numbers[keyOf(digits)]
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
		if d.at > momentOf(now) {
			return touched, d.at.time()
		}
		heap.Pop(&t.due)
		e := t.rows[d.mac]
		if e.queued != d.at {
			continue // it was put on the list again, for an earlier time
		}
		e.queued = 0
		switch {
		case e.gone || e.Released != 0:
		case e.online(now):
			t.await(e)
		default:
			begin := len(touched)
			touched = append(touched, wire.Query{MAC: d.mac})
			touched = appendKeys(touched, begin, &e.record)
		}
	}
	return touched, time.Time{}
}

// A due says when to see whether a row has expired.
type due struct {
	at  moment
	mac wire.MAC
}

type dueHeap []due

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at < h[j].at }
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
