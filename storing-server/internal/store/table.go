package store

import (
	"container/heap"
	"encoding/binary"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/btree"

	"flexphone/registry-client/wire"
)

// An entry is a record and its place with the engine. A forgotten row keeps its
// place there: gone is set.
type entry struct {
	record
	seq  uint64
	gone bool
}

// A holder is who has a short number, and the place of that. A freed number keeps
// its place: its MAC is zero, and it rests until a time in milliseconds of Unix
// time.
type holder struct {
	mac   wire.MAC
	seq   uint64
	rests int64
}

// A held is a holder as the table keeps it, in less room: what is not a MAC, by
// the bit restBit, is a time.
type held struct{ seq, who uint64 }

const restBit = 1 << 63

func (h holder) pack() held {
	if h.mac != (wire.MAC{}) {
		return held{h.seq, binary.BigEndian.Uint64(append([]byte{0, 0}, h.mac[:]...))}
	}
	return held{h.seq, restBit | uint64(h.rests)}
}

func (h held) holder() holder {
	if h.who&restBit != 0 {
		return holder{seq: h.seq, rests: int64(h.who &^ restBit)}
	}
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], h.who)
	return holder{seq: h.seq, mac: wire.MAC(b[2:])}
}

// free reports whether the number can be given out at now.
func (h holder) free(now time.Time) bool { return h.mac == wire.MAC{} && h.rests <= now.UnixMilli() }

// A table is the rows in memory, with what finds them. It is a pure structure:
// it holds what the stream holds, and nothing is read from the disk to answer
// a lookup.
type table struct {
	mu      sync.RWMutex
	rows    map[wire.MAC]rowID
	slabs   slabs
	numbers map[numberKey]held
	resting restHeap // freed numbers, the first to be given out again first
	notes   map[noteKey]noteEntry
	kept    int // notes of them that are never dropped
	addrs   claims
	live    int                         // rows that are not gone
	order   *btree.BTreeG[wire.MAC]     // of these
	regions atomic.Pointer[regionTable] // what the notes of regions say
	due     dueHeap
	// loading: nobody asks yet, so what a change touches is not worked out, and
	// order and due are made at the end.
	loading bool
}

func newTable() *table {
	return &table{
		rows:    map[wire.MAC]rowID{},
		slabs:   slabs{extras: map[rowID]extra{}},
		numbers: map[numberKey]held{},
		notes:   map[noteKey]noteEntry{},
		addrs:   newClaims(0),
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
	id, known := t.rows[mac]
	if !known {
		id, _ = t.slabs.add(mac)
		t.rows[mac] = id
	}
	e := t.slabs.at(id)
	if known && e.seq >= seq {
		return touched
	}
	old := t.slabs.get(id)
	if !t.loading {
		touched = appendTouched(touched, mac, &old, r)
	}
	if !old.gone {
		t.live--
		for _, a := range old.Addrs {
			t.addrs.drop(a, id)
		}
	}
	e.seq = seq
	t.slabs.put(id, r)
	if r == nil {
		t.order.Delete(mac)
		return touched
	}
	t.live++
	for _, a := range r.Addrs {
		t.addrs.add(a, id)
	}
	if t.loading {
		return touched
	}
	if old.gone {
		t.order.Set(mac)
	}
	t.await(id)
	return touched
}

// await puts a row on the list of expiries, unless it is there for an earlier
// time: a phone renews its row many times before that comes.
func (t *table) await(id rowID) {
	e := t.slabs.at(id)
	if e.released == 0 && (e.queued == 0 || e.expiry < e.queued) {
		e.queued = e.expiry
		heap.Push(&t.due, due{e.expiry, id})
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
	t.rows = make(map[wire.MAC]rowID, some)
	t.numbers = make(map[numberKey]held, some)
	t.addrs = newClaims(some)
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
	for mac, id := range t.rows {
		e := t.slabs.at(id)
		if e.flags&slotGone != 0 {
			continue
		}
		macs = append(macs, mac)
		if e.released == 0 {
			e.queued = e.expiry
			t.due = append(t.due, due{e.expiry, id})
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
	t.numbers[k] = holder{mac, seq, rests}.pack()
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
		mac = t.numbers[keyOf(q.Number)].holder().mac
	case q.Addr.IsValid():
		for id := range t.addrs.of(q.Addr) {
			if e := t.slabs.at(id); e.online(momentOf(now)) {
				mac = e.mac
				break
			}
		}
	}
	id, ok := t.rows[mac]
	if !ok {
		return wire.Row{}, false
	}
	e := t.slabs.get(id)
	if e.gone {
		return wire.Row{}, false
	}
	row := e.record.row(now)
	if wire.IsBrowser(mac) {
		p, _ := readNote[pageBody](t.notes[pageKey(mac)].data) // or it is nobody's
		row.Name = p.Name
	}
	return row, true
}

// row returns mac's entry; ok is false when there was never one.
func (t *table) row(mac wire.MAC) (entry, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if id, ok := t.rows[mac]; ok {
		return t.slabs.get(id), true
	}
	return entry{}, false
}

func (t *table) number(digits string) holder {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.numbers[keyOf(digits)].holder()
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
		e := t.slabs.at(d.row)
		if e.queued != d.at {
			continue // it was put on the list again, for an earlier time
		}
		e.queued = 0
		switch {
		case e.flags&slotGone != 0 || e.released != 0:
		case e.online(momentOf(now)):
			t.await(d.row)
		default:
			begin := len(touched)
			touched = append(touched, wire.Query{MAC: e.mac})
			r := t.slabs.get(d.row).record
			touched = appendKeys(touched, begin, &r)
		}
	}
	return touched, time.Time{}
}

// A due says when to see whether a row has expired.
type due struct {
	at  moment
	row rowID
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
