package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"flexphone/registry-client/wire"
)

// What the operator proves itself with is kept as notes, of no phone: so all
// servers of a cluster know it, and a backup has it. Only hashes are kept.

// An APITokenHash is the SHA-256 hash of a token with which a program uses the
// API.
type APITokenHash [32]byte

// An APIToken is a token of the API, for the operator's lists.
type APIToken struct {
	ID   string // its hash, shortened
	Name string // what it is for
	Made time.Time
}

type apiTokenBody struct {
	Name string `cbor:"1,keyasint"`
	Made int64  `cbor:"2,keyasint"` // seconds of Unix time
}

type passwordBody struct {
	Hash string `cbor:"1,keyasint"`
}

// noPhone begins the keys of notes that are about no phone.
var noPhone = string(make([]byte, len(wire.MAC{})))

func passwordKey() noteKey               { return noteKey{passwordNote, noPhone} }
func apiTokenKey(h APITokenHash) noteKey { return noteKey{apiTokenNote, noPhone + string(h[:])} }
func apiTokenOf(k noteKey, b apiTokenBody) APIToken {
	return APIToken{ID: hex.EncodeToString([]byte(k.key[len(noPhone):]))[:tokenIDSize], Name: b.Name, Made: time.Unix(b.Made, 0)}
}

// Password returns the hash of the password of the operator's pages; empty:
// there is none.
func (s *Store) Password() string {
	b, _ := readNote[passwordBody](s.table.note(passwordKey()).data) // or there is none
	return b.Hash
}

// SetPassword makes that what Password returns.
func (s *Store) SetPassword(ctx context.Context, hash string) error {
	return s.do(ctx, func(v *view) error {
		v.tell(Event{Event: EventPasswordSet})
		return v.putNote(passwordKey(), passwordBody{hash})
	})
}

// AddAPIToken lets who has the token with that hash use the API.
func (s *Store) AddAPIToken(ctx context.Context, h APITokenHash, name string) (APIToken, error) {
	var made APIToken // the plan may outlive ctx, and then nobody reads this
	err := s.do(ctx, func(v *view) error {
		b := apiTokenBody{name, v.now.Unix()}
		made = apiTokenOf(apiTokenKey(h), b)
		v.tell(Event{Event: EventAPITokenMade, Token: made.ID, Name: name})
		return v.putNote(apiTokenKey(h), b)
	})
	if err != nil {
		return APIToken{}, err
	}
	return made, nil
}

// APIToken returns the token with that hash; ok is false when there is none.
func (s *Store) APIToken(h APITokenHash) (t APIToken, ok bool) {
	k := apiTokenKey(h)
	b, ok := readNote[apiTokenBody](s.table.note(k).data)
	if !ok {
		return APIToken{}, false
	}
	return apiTokenOf(k, b), true
}

// APITokens returns all tokens of the API, in the order of their making.
func (s *Store) APITokens() []APIToken {
	var out []APIToken
	for key, data := range s.table.notesOf(apiTokenNote) {
		if b, ok := readNote[apiTokenBody](data); ok {
			out = append(out, apiTokenOf(noteKey{apiTokenNote, key}, b))
		}
	}
	slices.SortFunc(out, func(a, b APIToken) int {
		if c := a.Made.Compare(b.Made); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// RevokeAPIToken makes the token of the API with that ID worth nothing.
func (s *Store) RevokeAPIToken(ctx context.Context, id string) error {
	return s.do(ctx, func(v *view) error {
		for key := range v.table.notesOf(apiTokenNote) {
			k := noteKey{apiTokenNote, key}
			b, ok := readNote[apiTokenBody](v.note(k))
			if t := apiTokenOf(k, b); ok && t.ID == id {
				v.setNote(k, nil)
				v.tell(Event{Event: EventAPITokenRevoked, Token: id, Name: t.Name})
				return nil
			}
		}
		return fmt.Errorf("store: revoke API token %q: %w", id, ErrNoToken)
	})
}
