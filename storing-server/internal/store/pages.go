package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"flexphone/registry-client/wire"
)

// A PageHash is the SHA-256 hash of what a browser keeps, so that it gets the same
// number again, and of whose it is.
type PageHash [32]byte

// Bounds of the browsers that have a number.
const (
	pagesOfLink     = 4  // by one link
	pagesOfOperator = 16 // by a login
	pageMACs        = 4  // places that a browser may have, of 16 million
)

// Refusals of a browser that wants to be called.
var (
	ErrTooManyPages = errors.New("too many browsers have a number by this already")
	ErrNoNumber     = errors.New("all short numbers are given out")
)

// A pageBody says whose browser it is. The row has its number, and whether a page is open.
type pageBody struct {
	Hash []byte `cbor:"1,keyasint"`
	Link []byte `cbor:"2,keyasint,omitempty"` // hash of its token; none: of a login
	Name string `cbor:"3,keyasint"`
	Made int64  `cbor:"4,keyasint"` // seconds of Unix time
}

func pageKey(mac wire.MAC) noteKey { return noteKey{pageNote, string(mac[:])} }

// OpenPage makes a browser one that phones call, for a lifetime from now on: its number is
// the one that it had, or a new one. by is the link that lets it, whose name it has; nil:
// it is of an operator who is logged in, and is called name.
func (s *Store) OpenPage(ctx context.Context, h PageHash, by *CallLinkHash, name string, lifetime time.Duration) (wire.Row, error) {
	var opened wire.Row // the plan may outlive ctx, and then nobody reads this
	err := s.do(ctx, func(v *view) error {
		b := pageBody{Hash: h[:], Name: name, Made: v.now.Unix()}
		if by != nil {
			k := callLinkKey(*by)
			link, ok := readNote[callLinkBody](v.note(k))
			if !ok {
				return fmt.Errorf("store: open page: %w", ErrNoCallLink)
			}
			if err := callLinkOf(k, link).Called(v.now); err != nil {
				return fmt.Errorf("store: open page: %w", err)
			}
			b.Link, b.Name = by[:], link.Name
		}
		row, err := v.openPage(b, lifetime, s.opts.Numbers)
		opened = row
		return err
	})
	if err != nil {
		return wire.Row{}, err
	}
	return opened, nil
}

func (v *view) openPage(b pageBody, lifetime time.Duration, numbers Numbers) (wire.Row, error) {
	mac, made, err := v.pagePlace(b.Hash)
	if err != nil {
		return wire.Row{}, err
	}
	rec, known := v.row(mac)
	next := record{MAC: mac, Number: rec.Number, Sequence: rec.Sequence + 1, Since: momentOf(v.now), Expiry: momentOf(v.now.Add(lifetime))}
	if known && rec.online(v.now) {
		next.Since = rec.Since
	}
	if !made {
		most := pagesOfLink
		if b.Link == nil {
			most = pagesOfOperator
		}
		if v.pagesOf(string(b.Link)) >= most {
			return wire.Row{}, fmt.Errorf("store: open page: %w", ErrTooManyPages)
		}
		if err := v.putNote(pageKey(mac), b); err != nil {
			return wire.Row{}, err
		}
	}
	if next.Number == "" {
		if next.Number = v.free(numbers, mac); next.Number == "" {
			return wire.Row{}, fmt.Errorf("store: open page: %w", ErrNoNumber)
		}
		v.setNumber(next.Number, mac)
		v.tell(Event{Event: EventPageMade, MAC: mac, Number: next.Number, Name: b.Name})
	}
	v.setRow(mac, &next)
	row := next.row(v.now)
	row.Name = b.Name
	return row, nil
}

// pagePlace returns the MAC of the browser with that hash, and whether it has a place
// there already. What is in the hash makes it, and so does any server of a cluster.
func (v *view) pagePlace(hash []byte) (mac wire.MAC, made bool, err error) {
	for i := range pageMACs {
		mac = wire.BrowserMAC([3]byte(hash[3*i:]))
		b, ok := readNote[pageBody](v.note(pageKey(mac)))
		if !ok || string(b.Hash) == string(hash) {
			return mac, ok, nil
		}
	}
	return mac, false, fmt.Errorf("store: open page: %w", ErrTooManyPages)
}

// pagesOf counts the browsers of a link, or of logins.
func (v *view) pagesOf(link string) (n int) {
	count := func(data []byte, by int) {
		if b, ok := readNote[pageBody](data); ok && string(b.Link) == link {
			n += by
		}
	}
	for key, data := range v.table.notesOf(pageNote) {
		count(data, 1)
		if c, ok := v.notes[noteKey{pageNote, key}]; ok {
			count(data, -1)
			count(c.to, 1)
		}
	}
	for k, c := range v.notes {
		if k.kind == pageNote && len(v.table.note(k).data) == 0 {
			count(c.to, 1)
		}
	}
	return n
}

// PageMAC returns the browser with that hash; ok is false when it has no number.
func (s *Store) PageMAC(h PageHash) (mac wire.MAC, ok bool) {
	for i := range pageMACs {
		mac = wire.BrowserMAC([3]byte(h[3*i:]))
		b, ok := readNote[pageBody](s.table.note(pageKey(mac)).data)
		if !ok {
			break
		}
		if string(b.Hash) == string(h[:]) {
			return mac, true
		}
	}
	return wire.MAC{}, false
}

// ClosePage is that no page of a browser is open any more, unless another says that one
// is when its turn comes: it keeps its number.
func (s *Store) ClosePage(ctx context.Context, mac wire.MAC, unless func() bool) error {
	return s.do(ctx, func(v *view) error {
		if unless() {
			return nil
		}
		rec, known := v.row(mac)
		if !known || !wire.IsBrowser(mac) || !rec.online(v.now) {
			return nil
		}
		next := rec
		next.Sequence++
		next.Released = momentOf(v.now)
		v.setRow(mac, &next)
		return nil
	})
}

// pagesOf returns the browsers that were let by the link with that ID.
func (s *Store) pagesOf(id string) (macs []wire.MAC) {
	for key, data := range s.table.notesOf(pageNote) {
		if b, ok := readNote[pageBody](data); ok && len(b.Link) > 0 && hex.EncodeToString(b.Link)[:tokenIDSize] == id {
			macs = append(macs, wire.MAC([]byte(key)))
		}
	}
	return macs
}
