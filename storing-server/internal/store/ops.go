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

// Refusals of a short number.
var (
	// ErrNumberTaken: it belongs to another phone.
	ErrNumberTaken = errors.New("the number belongs to another phone")
	// ErrNumberRests: another phone had it until lately.
	ErrNumberRests = errors.New("the number rests, since another phone had it; free it first, or choose another")
)

// A view is what an operation sees and changes: the table, with the changes of
// the operations before it in the same batch.
type view struct {
	table   *table
	now     time.Time
	lowest  *int // no number below it is free
	given   int  // nor from there to here
	rows    map[wire.MAC]rowChange
	numbers map[string]numberChange
	notes   map[noteKey]noteChange
	events  []Event
	by      string // whose the operation is that is being planned
	parts   int    // partitions that there are
	touched []int  // those that the running operation depends on
	spread  bool   // numbers are given out by chance, since other servers do it too
	under   *view  // on its way to the disk, and there before this one; may be nil
}

type rowChange struct {
	to   *record // nil: forgotten
	base uint64  // the place in the stream that the change replaces
}

type numberChange struct {
	to    wire.MAC // zero: freed
	rests int64    // then: until when
	base  uint64
}

// newView returns a view of t without changes.
func newView(t *table, now time.Time, lowest *int) *view {
	return &view{
		table: t, now: now, lowest: lowest,
		rows: map[wire.MAC]rowChange{}, numbers: map[string]numberChange{}, notes: map[noteKey]noteChange{}, parts: 1,
	}
}

// size is how many messages the view's changes take.
func (v *view) size() int { return len(v.rows) + len(v.numbers) + len(v.notes) }

func (v *view) row(mac wire.MAC) (record, bool) {
	v.touch(rowPart(mac, v.parts))
	c, ok := v.rows[mac]
	if !ok && v.under != nil {
		c, ok = v.under.rows[mac]
	}
	if ok {
		if c.to == nil {
			return record{}, false
		}
		return *c.to, true
	}
	e, ok := v.table.row(mac)
	return e.record, ok && !e.gone
}

func (v *view) setRow(mac wire.MAC, to *record) {
	v.touch(rowPart(mac, v.parts))
	c, ok := v.rows[mac]
	if !ok {
		e, _ := v.table.row(mac)
		c.base = e.seq
	}
	c.to = to
	v.rows[mac] = c
}

// holder returns who has digits.
func (v *view) holder(digits string) holder {
	c, ok := v.numbers[digits]
	if !ok && v.under != nil {
		c, ok = v.under.numbers[digits]
	}
	if ok {
		return holder{mac: c.to, rests: c.rests}
	}
	return v.table.number(digits)
}

func (v *view) number(digits string) wire.MAC { return v.holder(digits).mac }

func (v *view) setNumber(digits string, to wire.MAC) {
	v.touch(numberPart(digits, v.parts))
	c, ok := v.numbers[digits]
	if !ok {
		c.base = v.table.number(digits).seq
	}
	c.to, c.rests = to, 0
	v.numbers[digits] = c
}

// idle reports whether digits can be given out: nobody has them, and they do
// not rest.
func (v *view) idle(digits string) bool { return v.holder(digits).free(v.now) }

// vacant says why mac may not have digits.
func (v *view) vacant(digits string, mac wire.MAC) error {
	switch has := v.number(digits); has {
	case wire.MAC{}:
	case mac: // taken already, by an attempt that got no further
		return nil
	default:
		return fmt.Errorf("store: give %s to %v: %v has it: %w", digits, mac, has, ErrNumberTaken)
	}
	if !v.idle(digits) {
		return fmt.Errorf("store: give %s to %v: %w", digits, mac, ErrNumberRests)
	}
	return nil
}

// Numbers is the range that short numbers are given out from. Without one, none
// is given out.
type Numbers struct {
	First, Last int
	// Rest is for how long a freed number is given to nobody.
	Rest time.Duration
}

// free returns a number of n that nobody has, for mac, and none when all are
// taken. A server that is alone with its rows gives out the lowest.
func (v *view) free(n Numbers, mac wire.MAC) string {
	if n.First == 0 {
		return ""
	}
	if v.spread || v.parts > 1 {
		return v.pick(n, mac)
	}
	for _, d := range v.table.rested(v.now) {
		v.reconsider(d)
	}
	*v.lowest = max(*v.lowest, n.First)
	// What rests is passed over too: it comes back by the list of those.
	// What is taken on its way to the disk is not: it may not come there.
	for ; *v.lowest <= n.Last; *v.lowest++ {
		d := strconv.Itoa(*v.lowest)
		if v.table.number(d).free(v.now) || v.idle(d) {
			break
		}
	}
	for i := max(*v.lowest, v.given); i <= n.Last; i++ {
		if d := strconv.Itoa(i); v.idle(d) {
			v.given = i + 1
			return d
		}
	}
	return ""
}

// register replaces or creates the row. What was registered already, to the
// letter, is confirmed again: the answer was lost.
func (v *view) register(c Claim, r wire.Registration, numbers Numbers) (created bool, err error) {
	old, known := v.row(r.MAC)
	_, standard := v.phone(r.MAC)
	if owned := standard || known && !v.ownerless(old); owned {
		again, err := old.repeats(c.Key, r, standard)
		if again || err != nil {
			return false, err
		}
		v.setRow(r.MAC, v.owners(old, c.Key, r))
		return false, nil
	}
	by, err := v.admit(c, r.MAC)
	if err != nil {
		return false, err
	}
	if !known {
		if old.Number = v.free(numbers, r.MAC); old.Number != "" {
			v.setNumber(old.Number, r.MAC)
		}
	}
	v.tell(Event{Event: EventEnrolled, MAC: r.MAC, Key: c.Key, Number: old.Number, By: by})
	v.setRow(r.MAC, v.owners(old, c.Key, r))
	return true, nil
}

// repeats reports whether a registration by key of a row that is owned says what
// the row says already. An error says that it may not be made: the row belongs to
// another key or, standard, to a phone that has none; or it is no newer.
func (r *record) repeats(key wire.Fingerprint, reg wire.Registration, standard bool) (bool, error) {
	same := reg.Sequence == r.Sequence && r.Released == 0 && r.Ports == reg.Ports && r.Reach == reg.Reach && slices.Equal(r.Addrs, reg.Addrs)
	switch {
	case standard:
		return false, foreign(reg.MAC)
	case r.Owner != key && same && reg.Next == r.Owner: // the owner of before, which had named this one
		return true, nil
	case r.Owner != key:
		return false, foreign(reg.MAC)
	case same && reg.Next == (wire.Fingerprint{}):
		return true, nil
	case reg.Sequence <= r.Sequence:
		return false, stale(reg.MAC, reg.Sequence, r.Sequence)
	}
	return false, nil
}

// owners is the row that the owner of key registers in the place of old, and
// leaves to another key where r names one.
func (v *view) owners(old record, key wire.Fingerprint, r wire.Registration) *record {
	next := record{
		MAC: r.MAC, Owner: key, Number: old.Number, Addrs: r.Addrs, Ports: r.Ports,
		Sequence: r.Sequence, Since: momentOf(v.now), Expiry: momentOf(v.now.Add(r.Lifetime)),
		Trail: old.trailTo(r.Addrs, v.now), Reach: r.Reach,
	}
	if old.online(v.now) {
		next.Since = old.Since
	}
	if r.Next != (wire.Fingerprint{}) && r.Next != key {
		next.Owner = r.Next
		v.tell(Event{Event: EventRotated, MAC: r.MAC, Key: r.Next, Old: key, By: "owner"})
	}
	return &next
}

// ownerless reports whether nobody owns the row: its key was forgotten.
func (v *view) ownerless(r record) bool {
	_, standard := v.phone(r.MAC)
	return r.Owner == wire.Fingerprint{} && !standard
}

// forgetKey leaves the row without an owner: the next key that may enrol owns
// it, with its number.
func (v *view) forgetKey(mac wire.MAC) error {
	old, known := v.row(mac)
	if _, standard := v.phone(mac); !known || standard {
		return unknown(mac)
	}
	if old.Owner == (wire.Fingerprint{}) {
		return nil
	}
	next := old
	next.Owner = wire.Fingerprint{}
	v.setRow(mac, &next)
	v.tell(Event{Event: EventKeyForgotten, MAC: mac, Old: old.Owner, Number: old.Number})
	return nil
}

func foreign(mac wire.MAC) error {
	return &Error{Reason: wire.ReasonForeign, Text: fmt.Sprintf("%v belongs to another key", mac)}
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
		return foreign(w.MAC)
	case w.Sequence == old.Sequence && old.Released != 0:
		return nil // the answer was lost
	case w.Sequence <= old.Sequence:
		return stale(w.MAC, w.Sequence, old.Sequence)
	}
	next := old
	next.Sequence = w.Sequence
	if old.online(v.now) {
		next.Released = momentOf(v.now)
	} else if old.Released == 0 {
		next.Released = old.Expiry
	}
	v.setRow(w.MAC, &next)
	return nil
}

func unknown(mac wire.MAC) error {
	return &Error{Reason: wire.ReasonUnknown, Text: fmt.Sprintf("%v was never registered", mac)}
}

// assign gives mac another number, which must be free.
func (v *view) assign(mac wire.MAC, digits string, rest time.Duration) error {
	old, known := v.row(mac)
	p, standard := v.phone(mac)
	if !known && !standard {
		return unknown(mac)
	}
	had := p.Number
	if known {
		had = old.Number
	}
	if had == digits {
		return nil
	}
	if err := v.vacant(digits, mac); err != nil {
		return err
	}
	v.vacate(had, rest)
	v.setNumber(digits, mac)
	v.tell(Event{Event: EventNumber, MAC: mac, Key: old.Owner, Old: old.Owner, Number: digits, User: p.User})
	if known {
		next := old
		next.Number = digits
		v.setRow(mac, &next)
		return nil
	}
	p.Number = digits
	return v.putNote(noteKey{phoneNote, string(mac[:])}, p)
}

// forget deletes mac's row, with its owner, its number, and what a standard
// phone has besides.
func (v *view) forget(mac wire.MAC, rest time.Duration) error {
	old, known := v.row(mac)
	p, standard := v.phone(mac)
	if !known && !standard {
		return unknown(mac)
	}
	number := p.Number
	if known {
		number = old.Number
		v.setRow(mac, nil)
	}
	v.vacate(number, rest)
	v.unname(mac)
	if len(v.note(pageKey(mac))) > 0 {
		v.setNote(pageKey(mac), nil)
	}
	if standard {
		v.setNote(noteKey{phoneNote, string(mac[:])}, nil)
		v.setNote(noteKey{bindingNote, string(mac[:])}, nil)
	}
	v.tell(Event{Event: EventForgotten, MAC: mac, Old: old.Owner, Number: number, User: p.User})
	return nil
}

// freeNumber ends the rest of a number.
func (v *view) freeNumber(digits string) error {
	if has := v.number(digits); has != (wire.MAC{}) {
		return fmt.Errorf("store: free %s: %v has it: %w", digits, has, ErrNumberTaken)
	}
	if v.idle(digits) {
		return nil
	}
	v.setNumber(digits, wire.MAC{})
	v.reconsider(digits)
	v.tell(Event{Event: EventNumberFreed, Number: digits})
	return nil
}

// vacate takes digits from who has them, and lets them rest.
func (v *view) vacate(digits string, rest time.Duration) {
	if digits == "" {
		return
	}
	v.setNumber(digits, wire.MAC{})
	if rest > 0 {
		c := v.numbers[digits]
		c.rests = v.now.Add(rest).UnixMilli()
		v.numbers[digits] = c
		return
	}
	v.reconsider(digits)
}

// reconsider lets the search for a free number pass by digits again.
func (v *view) reconsider(digits string) {
	if n, err := strconv.Atoi(digits); err == nil && strconv.Itoa(n) == digits {
		*v.lowest = min(*v.lowest, n)
		v.given = 0
	}
}
