package store

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"flexphone/registry-client/wire"
)

// A note is a small thing that the operator has put beside the rows: a token,
// a password of a standard phone's or its own, or where such a phone registered
// from. Notes are kept as rows are: in the stream, checked and committed in the
// same batches, and in the table.

const notePrefix = "flexphone.note." // and kind, dot, key in hexadecimal

// Kinds of notes.
const (
	tokenNote    = "token"    // by MAC, zero for any, and the hash of the token
	phoneNote    = "phone"    // by MAC
	bindingNote  = "binding"  // by MAC
	namingNote   = "naming"   // by MAC
	approvalNote = "approval" // by MAC
	passwordNote = "password" // of no phone
	apiTokenNote = "api"      // of no phone, by the hash of the token
	regionNote   = "region"   // of no phone, by the span
	callLinkNote = "call"     // of no phone, by the hash of the token
	pageNote     = "page"     // by MAC, that of a browser that is called
)

// A noteKey names a note. Its key begins with the MAC that it is about, so
// that it is in the partition of that row.
type noteKey struct {
	kind string
	key  string // bytes
}

func (k noteKey) subject() string {
	return notePrefix + k.kind + "." + hex.EncodeToString([]byte(k.key))
}

func parseNoteKey(s string) (noteKey, error) {
	kind, key, ok := strings.Cut(s, ".")
	raw, err := hex.DecodeString(key)
	if !ok || err != nil || len(raw) < len(wire.MAC{}) {
		return noteKey{}, fmt.Errorf("note %q", s)
	}
	return noteKey{kind, string(raw)}, nil
}

// A noteEntry is a note and where it stands in the stream. One that was
// deleted has no data.
type noteEntry struct {
	data []byte
	seq  uint64
}

type noteChange struct {
	to   []byte // empty: deleted
	base uint64
}

func (t *table) putNote(k noteKey, data []byte, seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k.kind == tokenNote && len(data) == 0 {
		delete(t.notes, k) // a token never comes again, so its place need not be known
		return
	}
	if old, known := t.notes[k]; old.seq < seq {
		if !known && k.kind != tokenNote {
			t.kept++
		}
		t.notes[k] = noteEntry{append([]byte(nil), data...), seq}
		if k.kind == regionNote {
			t.putRegion(k, data)
		}
	}
}

func (t *table) note(k noteKey) noteEntry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.notes[k]
}

// notesOf returns the data of all notes of a kind, by key.
func (t *table) notesOf(kind string) map[string][]byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := map[string][]byte{}
	for k, e := range t.notes {
		if k.kind == kind && len(e.data) > 0 {
			out[k.key] = e.data
		}
	}
	return out
}

func (v *view) note(k noteKey) []byte {
	c, ok := v.notes[k]
	if !ok && v.under != nil {
		c, ok = v.under.notes[k]
	}
	if ok {
		return c.to
	}
	return v.table.note(k).data
}

func (v *view) setNote(k noteKey, to []byte) {
	v.touch(notePart(k, v.parts))
	c, ok := v.notes[k]
	if !ok {
		c.base = v.table.note(k).seq
	}
	c.to = to
	v.notes[k] = c
}

// putNote sets a note to what x is in CBOR.
func (v *view) putNote(k noteKey, x any) error {
	b, err := cbor.Marshal(x)
	if err != nil {
		return fmt.Errorf("store: encode %s: %w", k.kind, err)
	}
	v.setNote(k, b)
	return nil
}

// readNote reads what putNote wrote; ok is false when there is none.
func readNote[T any](data []byte) (x T, ok bool) {
	if len(data) == 0 {
		return x, false // mostly: no phone but a standard one has notes
	}
	read := new(T)
	if decoder().Unmarshal(data, read) != nil {
		return x, false
	}
	return *read, true
}
