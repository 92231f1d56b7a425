package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"flexphone/registry-client/wire"
)

// Bounds of what the operator calls a phone, in characters.
const (
	MaxName   = 64
	MaxLabel  = 32
	MaxLabels = 8 // of one phone
)

// A Naming is what the operator calls a phone, for people: nobody is called by
// it. It is kept as a note, and goes with the row.
type Naming struct {
	Name   string   `cbor:"1,keyasint,omitempty"`
	Labels []string `cbor:"2,keyasint,omitempty"` // in their order, each once
}

// Clean returns n as it is kept: without spaces around, its labels in order and
// once. What cannot be printed, or is too much, is an error.
func (n Naming) Clean() (Naming, error) {
	out := Naming{Name: strings.TrimSpace(n.Name)}
	if !printable(out.Name, MaxName) {
		return Naming{}, fmt.Errorf("store: name %q: want at most %d characters that can be printed: %w", n.Name, MaxName, wire.ErrInvalid)
	}
	for _, l := range n.Labels {
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		if !printable(l, MaxLabel) || strings.Contains(l, ",") {
			return Naming{}, fmt.Errorf("store: label %q: want at most %d characters that can be printed, and no comma: %w", l, MaxLabel, wire.ErrInvalid)
		}
		out.Labels = append(out.Labels, l)
	}
	slices.Sort(out.Labels)
	if out.Labels = slices.Compact(out.Labels); len(out.Labels) > MaxLabels {
		return Naming{}, fmt.Errorf("store: %d labels: want at most %d: %w", len(out.Labels), MaxLabels, wire.ErrInvalid)
	}
	return out, nil
}

// printable refuses what moves a terminal's cursor or turns the direction of
// writing, as well as what is no UTF-8.
func printable(text string, most int) bool {
	return utf8.ValidString(text) && utf8.RuneCountInString(text) <= most &&
		!strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// matches reports whether text, in lower case, stands in the name or is one of
// the labels.
func (n Naming) matches(text string) bool {
	return strings.Contains(strings.ToLower(n.Name), text) ||
		slices.ContainsFunc(n.Labels, func(l string) bool { return strings.ToLower(l) == text })
}

func namingKey(mac wire.MAC) noteKey { return noteKey{namingNote, string(mac[:])} }

// SetNaming gives a phone that has a row, or may have one, a name and labels in
// place of those that it had; none takes them away.
func (s *Store) SetNaming(ctx context.Context, mac wire.MAC, n Naming) error {
	n, err := n.Clean()
	if err != nil {
		return err
	}
	return s.do(ctx, func(v *view) error {
		_, known := v.row(mac)
		if _, standard := v.phone(mac); !known && !standard {
			return unknown(mac)
		}
		v.tell(Event{Event: EventNamed, MAC: mac, Name: n.Name, Labels: n.Labels})
		if n.Name == "" && n.Labels == nil {
			v.unname(mac)
			return nil
		}
		return v.putNote(namingKey(mac), n)
	})
}

// unname takes name and labels away, if there are any.
func (v *view) unname(mac wire.MAC) {
	if len(v.note(namingKey(mac))) > 0 {
		v.setNote(namingKey(mac), nil)
	}
}

// Naming returns what a phone is called; the zero Naming: nothing.
func (s *Store) Naming(mac wire.MAC) Naming {
	n, _ := readNote[Naming](s.table.note(namingKey(mac)).data) // or there is none
	return n
}

// named returns the phones that are called so. It looks at all notes, under
// the table's lock.
func (t *table) named(text string) (macs []wire.MAC) {
	text = strings.ToLower(text)
	for k, e := range t.notes {
		if k.kind != namingNote || len(k.key) != len(wire.MAC{}) {
			continue
		}
		if n, ok := readNote[Naming](e.data); ok && n.matches(text) {
			macs = append(macs, wire.MAC([]byte(k.key)))
		}
	}
	return macs
}
