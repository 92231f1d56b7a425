package web

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"unicode"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
)

// errSearch: nothing can be called so.
var errSearch = errors.New("search for a number, a MAC or its beginning, an address, a key's fingerprint or its beginning, the user name of a SIP phone, a name or a part of it, or a label, with name: before it where it might be something else; online or offline before it, or alone")

// searchMost bounds what is searched for, in bytes.
const searchMost = 100

// selectionOf reads what was typed into the search.
func selectionOf(text string) (store.Selection, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return store.Selection{}, nil
	}
	if len(text) > searchMost {
		return store.Selection{}, errSearch
	}
	// A state may stand before what else is searched for, or alone.
	if word, rest, _ := strings.Cut(text, " "); word == string(wire.Online) || word == string(wire.Offline) {
		sel, err := selectionOf(rest)
		if err == nil && sel.State != "" {
			return store.Selection{}, errSearch
		}
		sel.State = wire.State(word)
		return sel, err
	}
	if name, ok := strings.CutPrefix(text, "name:"); ok {
		return named(strings.TrimSpace(name))
	}
	if m, err := wire.ParseMAC(text); err == nil {
		return store.Selection{MAC: m.Hex()}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return store.Selection{Addr: a.Unmap()}, nil
	}
	if m, err := wire.ParseDigits(text); err == nil {
		return store.Selection{MAC: m.Hex()}, nil
	}
	if wire.ValidNumber(text) {
		return store.Selection{Number: text}, nil
	}
	const hex = "0123456789abcdef"
	bare := strings.NewReplacer(":", "", "-", "").Replace(strings.ToLower(text))
	switch most := 2 * len(wire.Fingerprint{}); {
	case bare != "" && strings.Trim(bare, hex) == "" && len(bare) <= 2*len(wire.MAC{}):
		return store.Selection{MAC: bare}, nil
	case bare != "" && strings.Trim(bare, hex) == "" && len(bare) <= most:
		return store.Selection{Key: bare}, nil
	}
	return named(text)
}

// named selects by a name or a label, in which there is a letter or a digit.
func named(text string) (store.Selection, error) {
	if !strings.ContainsFunc(text, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) {
		return store.Selection{}, errSearch
	}
	return store.Selection{Text: text}, nil
}

// A place is where a page of rows begins or ends.
type place struct {
	at   wire.MAC
	back bool // the page ends before at, rather than begin after it
}

// lastMAC is behind all.
var lastMAC = wire.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func placeOf(q url.Values) (p place, err error) {
	for _, name := range []string{"after", "before"} {
		if text := q.Get(name); text != "" {
			p.back = name == "before"
			if p.at, err = wire.ParseMAC(text); err != nil {
				return place{}, err
			}
		}
	}
	return p, nil
}
