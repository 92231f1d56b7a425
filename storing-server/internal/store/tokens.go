package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"flexphone/registry-client/wire"
)

// A Claim is what a phone brings with an announcement.
type Claim struct {
	Key wire.Fingerprint
	// Entitled says that the key may own a row that nobody owns, and By why:
	// "open", or the name of an authority. Otherwise it takes a token.
	Entitled bool
	By       string
	// Approval says that the operator lets single keys in.
	Approval bool
	// Token is the one-time token that was shown; empty: none.
	Token string
}

// A Token allows one key to own one row that nobody owns. Only its hash is
// kept.
type Token struct {
	ID      string    // its hash, shortened: for the operator's lists
	MAC     wire.MAC  // the phone that it is for; zero: any
	Expires time.Time // it is worth nothing from then on
}

type tokenBody struct {
	Expires int64 `cbor:"9,keyasint"` // milliseconds of Unix time
}

const (
	tokenBytes  = 15 // random ones: 24 letters, which nobody guesses
	tokenGroup  = 6  // letters between dashes
	tokenIDSize = 8  // hexadecimal digits that name a token in lists
)

// ErrNoToken: no such token.
var ErrNoToken = errors.New("no such token")

var tokenLetters = base32.NewEncoding("abcdefghjkmnpqrstuvwxyz123456789").WithPadding(base32.NoPadding)

// tokenKey returns the key of the note of a token for mac, however it was
// typed.
func tokenKey(mac wire.MAC, token string) noteKey {
	bare := strings.ToLower(strings.Map(func(r rune) rune {
		if r == '-' || r == ' ' {
			return -1
		}
		return r
	}, token))
	h := sha256.Sum256([]byte(bare))
	return noteKey{tokenNote, string(mac[:]) + string(h[:16])}
}

// tokenID names the token with key k.
func tokenID(k noteKey) string {
	return hex.EncodeToString([]byte(k.key[len(wire.MAC{}):]))[:tokenIDSize]
}

// MakeToken makes a token that is worth something for valid, and returns its
// text, which is kept nowhere.
func (s *Store) MakeToken(ctx context.Context, mac wire.MAC, valid time.Duration) (string, Token, error) {
	raw := make([]byte, tokenBytes)
	rand.Read(raw) // never fails
	letters := tokenLetters.EncodeToString(raw)
	var groups []string
	for g := range slices.Chunk([]byte(letters), tokenGroup) {
		groups = append(groups, string(g))
	}
	text := strings.Join(groups, "-")
	k := tokenKey(mac, text)
	t := Token{ID: tokenID(k), MAC: mac}
	err := s.do(ctx, func(v *view) error {
		t.Expires = v.now.Add(valid).Truncate(time.Millisecond)
		v.tell(Event{Event: EventTokenMade, MAC: mac, Token: t.ID})
		return v.putNote(k, tokenBody{t.Expires.UnixMilli()})
	})
	if err != nil {
		return "", Token{}, err
	}
	return text, t, nil
}

// Tokens returns the tokens that were not used, the first to expire first.
func (s *Store) Tokens() []Token {
	var out []Token
	for key, data := range s.table.notesOf(tokenNote) {
		if b, ok := readNote[tokenBody](data); ok {
			t := Token{ID: tokenID(noteKey{tokenNote, key}), Expires: time.UnixMilli(b.Expires)}
			copy(t.MAC[:], key)
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b Token) int {
		if c := a.Expires.Compare(b.Expires); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// RevokeToken makes the token with that ID worth nothing.
func (s *Store) RevokeToken(ctx context.Context, id string) error {
	return s.do(ctx, func(v *view) error {
		for key := range v.table.notesOf(tokenNote) {
			k := noteKey{tokenNote, key}
			if tokenID(k) == id && len(v.note(k)) > 0 {
				v.setNote(k, nil)
				v.tell(Event{Event: EventTokenRevoked, Token: id})
				return nil
			}
		}
		return fmt.Errorf("store: revoke token %q: %w", id, ErrNoToken)
	})
}

// admit says whether c may own mac's row, which nobody owns, and by what. A
// token is used up by it.
func (v *view) admit(c Claim, mac wire.MAC) (by string, err error) {
	if c.Entitled {
		return c.By, nil
	}
	refuse := func(text string) (string, error) {
		return "", &Error{Reason: wire.ReasonPolicy, Text: text}
	}
	if c.Approval && v.approved(mac, c.Key) {
		return "approval", nil
	}
	if c.Approval && c.Token == "" {
		return refuse("the operator must let this phone in: it waits for that")
	}
	if c.Token == "" {
		return refuse("the operator must enrol this phone: it has no token, and no certificate of the operator's")
	}
	k := tokenKey(mac, c.Token)
	b, ok := readNote[tokenBody](v.note(k))
	if !ok {
		k = tokenKey(wire.MAC{}, c.Token)
		b, ok = readNote[tokenBody](v.note(k))
	}
	switch {
	case !ok:
		return refuse("the enrolment token is not known, was used, or is for another phone")
	case v.now.UnixMilli() >= b.Expires:
		return refuse("the enrolment token has expired")
	}
	v.setNote(k, nil)
	return "token " + tokenID(k), nil
}
