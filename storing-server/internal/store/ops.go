package store

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"flexphone/registry-client/wire"
)

// An Error is a refusal: the request was understood, and the rows forbid it.
type Error struct {
	Reason   wire.Reason
	Sequence uint64 // with ReasonStale: the row's
	Text     string
}

// Error implements error.
func (e *Error) Error() string { return "store: " + e.Text }

// ErrNumberTaken: the short number belongs to another phone.
var ErrNumberTaken = errors.New("the number belongs to another phone")

// A view is what an operation sees and changes: the table, with the changes of
// the operations before it in the same batch.
type view struct {
	table   *table
	now     time.Time
	lowest  *int // no number below it is free
	given   int  // nor from there to here
	rows    map[wire.MAC]rowChange
	numbers map[string]numberChange
}

type rowChange struct {
	to   *record // nil: forgotten
	base uint64  // the place in the stream that the change replaces
}

type numberChange struct {
	to   wire.MAC // zero: freed
	base uint64
}

func newView(t *table, now time.Time, lowest *int) *view {
	return &view{table: t, now: now, lowest: lowest, rows: map[wire.MAC]rowChange{}, numbers: map[string]numberChange{}}
}

// size is how many messages the view's changes take.
func (v *view) size() int { return len(v.rows) + len(v.numbers) }

func (v *view) row(mac wire.MAC) (record, bool) {
	if c, ok := v.rows[mac]; ok {
		if c.to == nil {
			return record{}, false
		}
		return *c.to, true
	}
	e, ok := v.table.row(mac)
	return e.record, ok && !e.gone
}

func (v *view) setRow(mac wire.MAC, to *record) {
	c, ok := v.rows[mac]
	if !ok {
		e, _ := v.table.row(mac)
		c.base = e.seq
	}
	c.to = to
	v.rows[mac] = c
}

func (v *view) number(digits string) wire.MAC {
	if c, ok := v.numbers[digits]; ok {
		return c.to
	}
	return v.table.number(digits).mac
}

func (v *view) setNumber(digits string, to wire.MAC) {
	c, ok := v.numbers[digits]
	if !ok {
		c.base = v.table.number(digits).seq
	}
	c.to = to
	v.numbers[digits] = c
}

// Numbers is the range that short numbers are given out from.
type Numbers struct{ First, Last int }

// free returns the lowest number of n that nobody has, and none when all are
// taken.
func (v *view) free(n Numbers) string {
	*v.lowest = max(*v.lowest, n.First)
	for ; *v.lowest <= n.Last && v.table.number(strconv.Itoa(*v.lowest)).mac != (wire.MAC{}); *v.lowest++ {
	}
	for i := max(*v.lowest, v.given); i <= n.Last; i++ {
		if d := strconv.Itoa(i); v.number(d) == (wire.MAC{}) {
			v.given = i + 1
			return d
		}
	}
	return ""
}

// register replaces or creates the row. What was registered already, to the
// letter, is confirmed again: the answer was lost.
func (v *view) register(key wire.Fingerprint, r wire.Registration, numbers Numbers) (created bool, err error) {
	old, known := v.row(r.MAC)
	if known && old.Owner != key {
		return false, &Error{Reason: wire.ReasonForeign, Text: fmt.Sprintf("%v belongs to another key", r.MAC)}
	}
	if known && r.Sequence <= old.Sequence {
		if r.Sequence == old.Sequence && old.Released.IsZero() && old.Ports == r.Ports && slices.Equal(old.Addrs, r.Addrs) {
			return false, nil
		}
		return false, stale(r.MAC, r.Sequence, old.Sequence)
	}
	next := record{
		MAC: r.MAC, Owner: key, Number: old.Number, Addrs: r.Addrs, Ports: r.Ports,
		Sequence: r.Sequence, Since: v.now, Expiry: v.now.Add(r.Lifetime),
	}
	if known && old.online(v.now) {
		next.Since = old.Since
	}
	if !known {
		if next.Number = v.free(numbers); next.Number != "" {
			v.setNumber(next.Number, r.MAC)
		}
	}
	v.setRow(r.MAC, &next)
	return !known, nil
}

func stale(mac wire.MAC, got, have uint64) error {
	return &Error{Reason: wire.ReasonStale, Sequence: have, Text: fmt.Sprintf("%v: sequence %d, the row has %d", mac, got, have)}
}

// release takes the phone off the net.
func (v *view) release(key wire.Fingerprint, w wire.Withdrawal) error {
	old, known := v.row(w.MAC)
	switch {
	case !known:
		return unknown(w.MAC)
	case old.Owner != key:
		return &Error{Reason: wire.ReasonForeign, Text: fmt.Sprintf("%v belongs to another key", w.MAC)}
	case w.Sequence == old.Sequence && !old.Released.IsZero():
		return nil // the answer was lost
	case w.Sequence <= old.Sequence:
		return stale(w.MAC, w.Sequence, old.Sequence)
	}
	next := old
	next.Sequence = w.Sequence
	if old.online(v.now) {
		next.Released = v.now
	} else if old.Released.IsZero() {
		next.Released = old.Expiry
	}
	v.setRow(w.MAC, &next)
	return nil
}

func unknown(mac wire.MAC) error {
	return &Error{Reason: wire.ReasonUnknown, Text: fmt.Sprintf("%v was never registered", mac)}
}

// assign gives mac another number, which must be free.
func (v *view) assign(mac wire.MAC, digits string) error {
	old, known := v.row(mac)
	if !known {
		return unknown(mac)
	}
	if old.Number == digits {
		return nil
	}
	if has := v.number(digits); has != (wire.MAC{}) {
		return fmt.Errorf("store: give %s to %v: %v has it: %w", digits, mac, has, ErrNumberTaken)
	}
	v.vacate(old.Number)
	v.setNumber(digits, mac)
	next := old
	next.Number = digits
	v.setRow(mac, &next)
	return nil
}

// forget deletes mac's row, with its owner and number.
func (v *view) forget(mac wire.MAC) error {
	old, known := v.row(mac)
	if !known {
		return unknown(mac)
	}
	v.vacate(old.Number)
	v.setRow(mac, nil)
	return nil
}

func (v *view) vacate(digits string) {
	if digits == "" {
		return
	}
	v.setNumber(digits, wire.MAC{})
	if n, err := strconv.Atoi(digits); err == nil && strconv.Itoa(n) == digits {
		*v.lowest = min(*v.lowest, n)
		v.given = 0
	}
}
