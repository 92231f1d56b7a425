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
	ID      string // its hash, shortened
	Name    string // what it is for
	Made    time.Time
	Role    Role
	Expires time.Time // zero: never
}

// A Role says what a program may do, or who has logged in.
type Role string

// The roles, each of which may do what those before it may.
const (
	RoleRead    Role = "read"    // read everything
	RoleNumbers Role = "numbers" // change short numbers
	RoleAll     Role = "all"     // everything
)

// Roles are all that there are, from the least on.
func Roles() []Role { return []Role{RoleRead, RoleNumbers, RoleAll} }

// May reports whether who has the role may do what another is for.
func (r Role) May(what Role) bool {
	order := Roles()
	own := slices.Index(order, r)
	return own >= 0 && own >= slices.Index(order, what)
}

type apiTokenBody struct {
	Name    string `cbor:"1,keyasint"`
	Made    int64  `cbor:"2,keyasint"`           // seconds of Unix time
	Role    Role   `cbor:"3,keyasint,omitempty"` // none: everything, as before there were roles
	Expires int64  `cbor:"4,keyasint,omitempty"` // seconds of Unix time
}

type passwordBody struct {
	Hash    string `cbor:"1,keyasint"`
	Expires int64  `cbor:"2,keyasint,omitempty"` // seconds of Unix time
}

// noPhone begins the keys of notes that are about no phone.
var noPhone = string(make([]byte, len(wire.MAC{})))

// passwordKey is, for everything, as it was before there were roles.
func passwordKey(role Role) noteKey {
	if role == RoleAll {
		return noteKey{passwordNote, noPhone}
	}
	return noteKey{passwordNote, noPhone + string(role)}
}

func apiTokenKey(h APITokenHash) noteKey { return noteKey{apiTokenNote, noPhone + string(h[:])} }
func apiTokenOf(k noteKey, b apiTokenBody) APIToken {
	t := APIToken{ID: hex.EncodeToString([]byte(k.key[len(noPhone):]))[:tokenIDSize], Name: b.Name, Made: time.Unix(b.Made, 0), Role: b.Role}
	if t.Role == "" {
		t.Role = RoleAll
	}
	if b.Expires != 0 {
		t.Expires = time.Unix(b.Expires, 0)
	}
	return t
}

// Password returns the hash of the password that lets into the operator's pages
// in a role; empty: there is none, or its time is over.
func (s *Store) Password(role Role) string {
	b, _ := readNote[passwordBody](s.table.note(passwordKey(role)).data) // or there is none
	if b.Expires != 0 && s.opts.Now().Unix() >= b.Expires {
		return ""
	}
	return b.Hash
}

// SetPassword makes that what Password returns for a role, until expires; zero:
// for ever. An empty hash takes it away.
func (s *Store) SetPassword(ctx context.Context, role Role, hash string, expires time.Time) error {
	if !role.May(RoleRead) {
		return fmt.Errorf("store: set password: role %q: want read, numbers or all", role)
	}
	return s.do(ctx, func(v *view) error {
		if hash == "" {
			v.tell(Event{Event: EventPasswordRemoved, Name: string(role)})
			v.setNote(passwordKey(role), nil)
			return nil
		}
		b := passwordBody{Hash: hash}
		if !expires.IsZero() {
			b.Expires = expires.Unix()
		}
		v.tell(Event{Event: EventPasswordSet, Name: string(role)})
		return v.putNote(passwordKey(role), b)
	})
}

// AddAPIToken lets who has the token with that hash use the API, by the name, in
// the role and until the time that t has. Without a role it is everything.
func (s *Store) AddAPIToken(ctx context.Context, h APITokenHash, t APIToken) (APIToken, error) {
	if t.Role != "" && !t.Role.May(RoleRead) {
		return APIToken{}, fmt.Errorf("store: make API token: role %q: want read, numbers or all", t.Role)
	}
	var made APIToken // the plan may outlive ctx, and then nobody reads this
	err := s.do(ctx, func(v *view) error {
		b := apiTokenBody{Name: t.Name, Made: v.now.Unix(), Role: t.Role}
		if !t.Expires.IsZero() {
			b.Expires = t.Expires.Unix()
		}
		made = apiTokenOf(apiTokenKey(h), b)
		v.tell(Event{Event: EventAPITokenMade, Token: made.ID, Name: t.Name})
		return v.putNote(apiTokenKey(h), b)
	})
	if err != nil {
		return APIToken{}, err
	}
	return made, nil
}

// APIToken returns the token with that hash; ok is false when there is none, or
// its time is over.
func (s *Store) APIToken(h APITokenHash) (t APIToken, ok bool) {
	k := apiTokenKey(h)
	b, ok := readNote[apiTokenBody](s.table.note(k).data)
	if !ok {
		return APIToken{}, false
	}
	t = apiTokenOf(k, b)
	return t, t.Expires.IsZero() || s.opts.Now().Before(t.Expires)
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
