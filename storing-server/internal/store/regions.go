package store

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"flexphone/registry-client/wire"
)

// Which server keeps which phones is kept as notes, of no phone: so all servers of
// a cluster know it. Those of different clusters tell each other (regionshare.go); of two who changed the same span the later change counts, and what
// was removed is remembered as such.

// MaxRegions bounds how many spans there may be, those that were removed too.
const MaxRegions = 1024

// A Span is the phones of a region: MACs from one to another, or the numbers that
// begin with some digits.
type Span struct {
	From, To wire.MAC // both belong to it; zero: it is of numbers
	Prefix   string   // 1 to 8 digits
}

// ParseSpan reads MAC, MAC-MAC, or digits.
func ParseSpan(s string) (Span, error) {
	if s != "" && len(s) <= wire.MaxNumber && strings.Trim(s, "0123456789") == "" {
		return Span{Prefix: s}, nil
	}
	// A MAC may be written with dashes: the one in the middle counts.
	from, to := s, s
	if n := len(s) / 2; len(s)%2 == 1 && s[n] == '-' && n > len("0123456789") {
		from, to = s[:n], s[n+1:]
	}
	var sp Span
	var err error
	if sp.From, err = wire.ParseMAC(from); err == nil {
		sp.To, err = wire.ParseMAC(to)
	}
	if err != nil {
		return Span{}, fmt.Errorf("store: %q is neither a MAC, nor MAC-MAC, nor the first digits of numbers: %w", s, wire.ErrInvalid)
	}
	if ordinal(sp.From) > ordinal(sp.To) {
		return Span{}, fmt.Errorf("store: %q ends before it begins: %w", s, wire.ErrInvalid)
	}
	return sp, nil
}

// String is what ParseSpan reads.
func (s Span) String() string {
	switch {
	case s.Prefix != "":
		return s.Prefix
	case s.From == s.To:
		return s.From.String()
	}
	return s.From.String() + "-" + s.To.String()
}

func ordinal(m wire.MAC) uint64 {
	var b [8]byte
	copy(b[len(b)-len(m):], m[:])
	return binary.BigEndian.Uint64(b[:])
}

// compare puts narrower spans first.
func (s Span) compare(o Span) int {
	return cmp.Or(
		cmp.Compare(len(o.Prefix), len(s.Prefix)),
		cmp.Compare(ordinal(s.To)-ordinal(s.From), ordinal(o.To)-ordinal(o.From)),
		cmp.Compare(ordinal(s.From), ordinal(o.From)), strings.Compare(s.Prefix, o.Prefix))
}

// A Region is who keeps the rows of a span.
type Region struct {
	Span
	wire.Referral           // zero: nobody in particular, since Changed
	Changed       time.Time // to the millisecond
}

type regionBody struct {
	Server  string `cbor:"1,keyasint,omitempty"`
	Key     []byte `cbor:"2,keyasint,omitempty"`
	Changed int64  `cbor:"3,keyasint"` // milliseconds of Unix time
}

// Of the keys of notes of regions, behind noPhone.
const (
	spanOfMACs    = 'm'
	spanOfNumbers = 'n'
)

func regionKey(s Span) noteKey {
	if s.Prefix != "" {
		return noteKey{regionNote, noPhone + string(spanOfNumbers) + s.Prefix}
	}
	return noteKey{regionNote, noPhone + string(spanOfMACs) + string(s.From[:]) + string(s.To[:])}
}

func regionOf(key string, data []byte) (Region, bool) {
	b, ok := readNote[regionBody](data)
	key = strings.TrimPrefix(key, noPhone)
	if !ok || key == "" {
		return Region{}, false
	}
	r := Region{Referral: wire.Referral{Server: b.Server}, Changed: time.UnixMilli(b.Changed)}
	switch copy(r.Key[:], b.Key); {
	case key[0] == spanOfNumbers:
		r.Prefix = key[1:]
	case key[0] == spanOfMACs && len(key) == 1+len(r.From)+len(r.To):
		copy(r.From[:], key[1:])
		copy(r.To[:], key[1+len(r.From):])
	default:
		return Region{}, false
	}
	return r, true
}

// gone reports whether the span was given back.
func (r Region) gone() bool { return r.Referral == wire.Referral{} }

// after reports whether r is the one of two that counts.
func (r Region) after(o Region) bool {
	return cmp.Or(r.Changed.Compare(o.Changed), strings.Compare(r.Server, o.Server), slices.Compare(r.Key[:], o.Key[:])) > 0
}

func (v *view) region(s Span) (Region, bool) {
	k := regionKey(s)
	return regionOf(k.key, v.note(k))
}

func (v *view) putRegion(r Region) error {
	b := regionBody{Server: r.Server, Changed: r.Changed.UnixMilli()}
	if !r.gone() {
		b.Key = r.Key[:]
	}
	return v.putNote(regionKey(r.Span), b)
}

// SetRegion says which server keeps the rows of a span; the zero Referral says that
// nobody in particular does.
func (s *Store) SetRegion(ctx context.Context, span Span, to wire.Referral) error {
	if to != (wire.Referral{}) {
		if err := to.Validate(); err != nil {
			return err
		}
	}
	err := s.do(ctx, func(v *view) error {
		old, known := v.region(span)
		if to == (wire.Referral{}) && (!known || old.gone()) {
			return fmt.Errorf("store: no region is set for %v", span)
		}
		if !known && len(s.table.regionsNow().all) >= MaxRegions {
			return fmt.Errorf("store: there are %d regions already, or were: take wider ones", MaxRegions)
		}
		r := Region{Span: span, Referral: to, Changed: v.now.Truncate(time.Millisecond)}
		if !r.Changed.After(old.Changed) { // another clock is ahead
			r.Changed = old.Changed.Add(time.Millisecond)
		}
		e := Event{Event: EventRegionSet, Name: span.String(), Server: to.Server, Key: to.Key}
		if r.gone() {
			e.Event = EventRegionRemoved
		}
		v.tell(e)
		return v.putRegion(r)
	})
	if err == nil {
		select {
		case s.regionsChanged <- struct{}{}:
		default:
		}
	}
	return err
}

// Regions returns who keeps which rows, narrower spans first.
func (s *Store) Regions() []Region { return s.table.regionsNow().live }

// RegionOf returns who keeps what q asks for: of several spans the narrowest counts.
// It returns false when nobody has said.
func (s *Store) RegionOf(q wire.Query) (wire.Referral, bool) {
	r := s.table.regionsNow()
	i := -1
	if q.Number != "" {
		i = slices.IndexFunc(r.live, func(r Region) bool { return r.Prefix != "" && strings.HasPrefix(q.Number, r.Prefix) })
	} else if q.MAC != (wire.MAC{}) {
		n := ordinal(q.MAC)
		i = slices.IndexFunc(r.ranges, func(r macRange) bool { return r.from <= n && n <= r.to })
	}
	if i < 0 {
		return wire.Referral{}, false
	}
	return r.live[i].Referral, true
}

// LearnRegions takes what another cluster has of regions, as far as it is newer.
// News reports whether this one has something that the other has not.
func (s *Store) LearnRegions(ctx context.Context, theirs []Region) (news bool, err error) {
	own := s.table.regionsNow().all
	var newer []Region
	for _, r := range theirs {
		if old, known := own.find(r.Span); (known || len(own)+len(newer) < MaxRegions) && r.after(old) {
			newer = append(newer, r)
		}
	}
	for some := range slices.Chunk(newer, operationMost) {
		if err = s.do(ctx, func(v *view) error {
			for _, r := range some {
				if old, _ := v.region(r.Span); !r.after(old) {
					continue
				}
				v.tell(Event{Event: EventRegionLearned, Name: r.String(), Server: r.Server, Key: r.Key})
				if err := v.putRegion(r); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return news, err
		}
	}
	for _, r := range own {
		if other, known := regionList(theirs).find(r.Span); !known || r.after(other) {
			news = true
		}
	}
	return news, nil
}

type regionList []Region

func (l regionList) find(s Span) (Region, bool) {
	if i := slices.IndexFunc(l, func(r Region) bool { return r.Span == s }); i >= 0 {
		return l[i], true
	}
	return Region{}, false
}

// A regionTable is the notes of regions, read.
type regionTable struct {
	all  regionList // those that were removed too
	live regionList
	// ranges are those of live, since each announcement looks at them.
	ranges []macRange
}

// A macRange is a span of MACs; none is in that of a span of numbers.
type macRange struct{ from, to uint64 }

// regionsNow returns the regions as they are; nobody changes what it returns.
func (t *table) regionsNow() regionTable {
	if r := t.regions.Load(); r != nil {
		return *r
	}
	return regionTable{}
}

// putRegion takes a note of a region as it is now; t.mu is held.
func (t *table) putRegion(k noteKey, data []byte) {
	r, ok := regionOf(k.key, data)
	if !ok {
		return
	}
	all := slices.Clone(t.regionsNow().all)
	at, known := slices.BinarySearchFunc(all, r, func(a, b Region) int { return a.compare(b.Span) })
	if known {
		all[at] = r
	} else {
		all = slices.Insert(all, at, r)
	}
	now := &regionTable{all: all, live: slices.DeleteFunc(slices.Clone(all), Region.gone)}
	for _, r := range now.live {
		m := macRange{ordinal(r.From), ordinal(r.To)}
		if r.Prefix != "" {
			m = macRange{from: 1}
		}
		now.ranges = append(now.ranges, m)
	}
	t.regions.Store(now)
}
