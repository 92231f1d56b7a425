package store

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"flexphone/registry-client/wire"
)

// A Selection says which rows are wanted: those that all of its fields that
// are set say.
type Selection struct {
	MAC    string     // the first of its 12 lower-case hexadecimal digits
	Number string     // whole
	Addr   netip.Addr // announced
	Key    string     // the first of its fingerprint's lower-case hexadecimal digits
	State  wire.State // at the moment
	Text   string     // in its name, or whole one of its labels, in any case; or the user name of a standard phone
}

// Slow reports whether all rows, or all names, may have to be looked at for a
// few.
func (sel Selection) Slow() bool {
	return sel.Text != "" || (sel.Key != "" || sel.State != "") && sel.Number == "" && !sel.Addr.IsValid()
}

// stride is how many rows are looked at before others may change them.
const stride = 1024

// Page returns at most n rows of a selection, ordered by MAC: those after the
// MAC at, or with back those before it, and whether there are more. The zero
// MAC is before all others. By MAC, number and address it is quick however many
// rows there are; by key and state it looks at all rows, until ctx is done.
func (s *Store) Page(ctx context.Context, sel Selection, at wire.MAC, back bool, n int) (page []wire.Row, more bool, err error) {
	now := s.opts.Now()
	add := func(mac wire.MAC) bool {
		e, ok := s.table.row(mac)
		if !ok || e.gone || !sel.has(e.record) || sel.State != "" && e.row(now).State != sel.State {
			return true
		}
		if len(page) == n {
			more = true
			return false
		}
		page = append(page, e.row(now))
		return true
	}
	if macs, few := s.table.few(sel); few {
		if back {
			slices.Reverse(macs)
		}
		for _, m := range macs {
			order := slices.Compare(m[:], at[:])
			if (!back && order > 0 || back && order < 0) && !add(m) {
				break
			}
		}
	} else if err := s.walk(ctx, sel, at, back, add); err != nil {
		return nil, false, err
	}
	if back {
		slices.Reverse(page)
	}
	return page, more, nil
}

func (sel Selection) has(r record) bool {
	return strings.HasPrefix(r.MAC.Hex(), sel.MAC) &&
		(sel.Number == "" || r.Number == sel.Number) &&
		(!sel.Addr.IsValid() || slices.Contains(r.Addrs, sel.Addr)) &&
		(sel.Key == "" || strings.HasPrefix(r.Owner.String(), sel.Key))
}

// walk calls add with the MACs of rows from at on, until it has enough.
func (s *Store) walk(ctx context.Context, sel Selection, at wire.MAC, back bool, add func(wire.MAC) bool) error {
	if first := bound(sel.MAC, '0'); !back && slices.Compare(first[:], at[:]) > 0 {
		at = first
		if !add(at) { // the walk begins after it
			return nil
		}
	}
	for {
		macs := s.table.stride(at, back)
		for _, m := range macs {
			if hex := m.Hex(); !strings.HasPrefix(hex, sel.MAC) && (!back && hex > sel.MAC || back && hex < sel.MAC) || !add(m) {
				return nil
			}
			at = m
		}
		if len(macs) < stride {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// bound returns the MAC that begins with these digits, and goes on with pad.
func bound(digits string, pad byte) (m wire.MAC) {
	full := digits + strings.Repeat(string(pad), max(0, 2*len(m)-len(digits)))
	for i := range m {
		m[i] = nibble(full[2*i])<<4 | nibble(full[2*i+1])
	}
	return m
}

func nibble(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

// few returns, in order, the only MACs that a selection can have; ok is false
// when these may be many.
func (t *table) few(sel Selection) (macs []wire.MAC, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	switch {
	case sel.Text != "":
		macs = t.named(sel.Text)
		user := UserMAC(sel.Text)
		if p, ok := readNote[Phone](t.notes[noteKey{phoneNote, string(user[:])}].data); ok && p.User == sel.Text && !slices.Contains(macs, user) {
			macs = append(macs, user)
		}
	case sel.Number != "":
		macs = append(macs, t.numbers[keyOf(sel.Number)].holder().mac)
	case sel.Addr.IsValid():
		for id := range t.addrs.of(sel.Addr) {
			macs = append(macs, t.slabs.at(id).mac)
		}
	default:
		return nil, false
	}
	slices.SortFunc(macs, func(a, b wire.MAC) int { return slices.Compare(a[:], b[:]) })
	return macs, true
}

// stride returns the next MACs after at, in their order, or with back those
// before it, the nearest first.
func (t *table) stride(at wire.MAC, back bool) (macs []wire.MAC) {
	take := func(m wire.MAC) bool {
		if m != at {
			macs = append(macs, m)
		}
		return len(macs) < stride
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if back {
		t.order.Descend(at, take)
	} else {
		t.order.Ascend(at, take)
	}
	return macs
}
