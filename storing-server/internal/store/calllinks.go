package store

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"flexphone/registry-client/wire"
)

// A CallLinkHash is the SHA-256 hash of the token in a link by which somebody calls
// phones from a browser.
type CallLinkHash [32]byte

// A CallLink is what the operator has said of such a link.
type CallLink struct {
	ID      string   // its hash, shortened: for lists
	Name    string   // whom phones show as the caller
	Numbers []string // that may be called; none: all
	Times   int      // how many calls may be made; 0: any number
	Used    int      // how many were
	Made    time.Time
	Expires time.Time // it is worth nothing from then on; zero: never
	// Receives: it calls nobody, but whoever has opened it is called, in a browser, by a
	// number of its own.
	Receives bool
}

// Refusals of a link.
var (
	ErrNoCallLink      = errors.New("no such link")
	ErrCallLinkOver    = errors.New("the time of this link is over")
	ErrCallLinkUsed    = errors.New("this link is used up")
	ErrCallLinkNumber  = errors.New("this link is for other numbers")
	ErrCallLinkOther   = errors.New("this link is for being called, or for calling, and not for this")
	errCallLinkInvalid = errors.New("want a name of 1 to 40 printable characters, at most 16 numbers of 3 to 8 digits, and 0 to 1000000 calls; to be called no numbers and no calls")
)

// Bounds of what a link may be good for.
const (
	callLinkNumbers = 16
	callLinkTimes   = 1000000
)

type callLinkBody struct {
	Name    string   `cbor:"1,keyasint"`
	Made    int64    `cbor:"2,keyasint"` // seconds of Unix time
	Expires int64    `cbor:"3,keyasint,omitempty"`
	Numbers []string `cbor:"4,keyasint,omitempty"`
	Times   int      `cbor:"5,keyasint,omitempty"`
	Used    int      `cbor:"6,keyasint,omitempty"`
	// A server of before takes a link for being called as one that is used up, by Times
	// and Used.
	Receives bool `cbor:"7,keyasint,omitempty"`
}

func callLinkKey(h CallLinkHash) noteKey { return noteKey{callLinkNote, noPhone + string(h[:])} }

func callLinkOf(k noteKey, b callLinkBody) CallLink {
	l := CallLink{
		ID: hex.EncodeToString([]byte(k.key[len(noPhone):]))[:tokenIDSize], Name: b.Name, Numbers: b.Numbers,
		Times: b.Times, Used: b.Used, Made: time.Unix(b.Made, 0), Receives: b.Receives,
	}
	if l.Receives {
		l.Times, l.Used = 0, 0
	}
	if b.Expires != 0 {
		l.Expires = time.Unix(b.Expires, 0)
	}
	return l
}

// Calls is nil if the link may call a number at now, or says why not.
func (l CallLink) Calls(number string, now time.Time) error {
	switch {
	case l.Receives:
		return ErrCallLinkOther
	case l.over(now):
		return ErrCallLinkOver
	case l.Times > 0 && l.Used >= l.Times:
		return ErrCallLinkUsed
	case len(l.Numbers) > 0 && !slices.Contains(l.Numbers, number):
		return ErrCallLinkNumber
	}
	return nil
}

// Called is nil if whoever has the link may be called by it at now, or says why not.
func (l CallLink) Called(now time.Time) error {
	switch {
	case !l.Receives:
		return ErrCallLinkOther
	case l.over(now):
		return ErrCallLinkOver
	}
	return nil
}

func (l CallLink) over(now time.Time) bool { return !l.Expires.IsZero() && !now.Before(l.Expires) }

func (l CallLink) validate() error {
	if !wire.ValidBrowserName(l.Name) || len(l.Numbers) > callLinkNumbers || l.Times < 0 || l.Times > callLinkTimes ||
		l.Receives && (len(l.Numbers) > 0 || l.Times > 0) ||
		slices.ContainsFunc(l.Numbers, func(n string) bool { return !wire.ValidNumber(n) }) {
		return fmt.Errorf("store: make link for calls: %w", errCallLinkInvalid)
	}
	return nil
}

// AddCallLink lets who has the token with that hash call as l says: its name, its
// numbers, how often and until when.
func (s *Store) AddCallLink(ctx context.Context, h CallLinkHash, l CallLink) (CallLink, error) {
	if err := l.validate(); err != nil {
		return CallLink{}, err
	}
	var made CallLink // the plan may outlive ctx, and then nobody reads this
	err := s.do(ctx, func(v *view) error {
		b := callLinkBody{Name: l.Name, Made: v.now.Unix(), Numbers: l.Numbers, Times: l.Times}
		if !l.Expires.IsZero() {
			b.Expires = l.Expires.Unix()
		}
		if b.Receives = l.Receives; b.Receives {
			b.Times, b.Used = 1, 1
		}
		made = callLinkOf(callLinkKey(h), b)
		v.tell(Event{Event: EventCallLinkMade, Token: made.ID, Name: l.Name})
		return v.putNote(callLinkKey(h), b)
	})
	if err != nil {
		return CallLink{}, err
	}
	return made, nil
}

// CallLink returns the link with that hash, good or not; ok is false when there is
// none.
func (s *Store) CallLink(h CallLinkHash) (l CallLink, ok bool) {
	k := callLinkKey(h)
	b, ok := readNote[callLinkBody](s.table.note(k).data)
	if !ok {
		return CallLink{}, false
	}
	return callLinkOf(k, b), true
}

// UseCallLink counts a call to a number, unless the link is not good for one more.
func (s *Store) UseCallLink(ctx context.Context, h CallLinkHash, number string) error {
	return s.do(ctx, func(v *view) error {
		k := callLinkKey(h)
		b, ok := readNote[callLinkBody](v.note(k))
		if !ok {
			return fmt.Errorf("store: use link for calls: %w", ErrNoCallLink)
		}
		if err := callLinkOf(k, b).Calls(number, v.now); err != nil {
			return fmt.Errorf("store: use link for calls: %w", err)
		}
		b.Used++
		return v.putNote(k, b)
	})
}

// CallLinks returns all links, in the order of their making.
func (s *Store) CallLinks() []CallLink {
	var out []CallLink
	for key, data := range s.table.notesOf(callLinkNote) {
		if b, ok := readNote[callLinkBody](data); ok {
			out = append(out, callLinkOf(noteKey{callLinkNote, key}, b))
		}
	}
	slices.SortFunc(out, func(a, b CallLink) int { return cmp.Or(a.Made.Compare(b.Made), cmp.Compare(a.ID, b.ID)) })
	return out
}

// RevokeCallLink makes the link with that ID worth nothing, and takes their numbers from
// the browsers that were called by it.
func (s *Store) RevokeCallLink(ctx context.Context, id string) error {
	if err := s.revokeCallLink(ctx, id); err != nil {
		return err
	}
	for _, mac := range s.pagesOf(id) {
		var gone *Error
		if err := s.Forget(ctx, mac); err != nil && !(errors.As(err, &gone) && gone.Reason == wire.ReasonUnknown) {
			return fmt.Errorf("the link is worth nothing, and the number of its browser %v is left: %w", mac, err)
		}
	}
	return nil
}

func (s *Store) revokeCallLink(ctx context.Context, id string) error {
	return s.do(ctx, func(v *view) error {
		for key := range v.table.notesOf(callLinkNote) {
			k := noteKey{callLinkNote, key}
			b, ok := readNote[callLinkBody](v.note(k))
			if l := callLinkOf(k, b); ok && l.ID == id {
				v.setNote(k, nil)
				v.tell(Event{Event: EventCallLinkRevoked, Token: id, Name: l.Name})
				return nil
			}
		}
		return fmt.Errorf("store: revoke link %q: %w", id, ErrNoCallLink)
	})
}
