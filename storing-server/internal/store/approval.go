package store

import (
	"context"
	"fmt"
	"time"

	"flexphone/registry-client/wire"
)

// approvalLasts is for how long a key that was let in may come.
const approvalLasts = 7 * 24 * time.Hour

// An approvalBody is the operator's word that one key may own one row: a note by
// MAC, which is used up by it, as a token is.
type approvalBody struct {
	Key     []byte `cbor:"1,keyasint"`
	Expires int64  `cbor:"2,keyasint"` // milliseconds of Unix time
}

func approvalKey(mac wire.MAC) noteKey { return noteKey{approvalNote, string(mac[:])} }

// Approve lets key own mac's row, which nobody may own, when it comes within a
// week. Another approval of the MAC is replaced.
func (s *Store) Approve(ctx context.Context, mac wire.MAC, key wire.Fingerprint) error {
	if mac == (wire.MAC{}) || key == (wire.Fingerprint{}) {
		return fmt.Errorf("store: let in %v: want a MAC and the fingerprint of its key: %w", mac, wire.ErrInvalid)
	}
	return s.do(ctx, func(v *view) error {
		rec, known := v.row(mac)
		if _, standard := v.phone(mac); standard || known && !v.ownerless(rec) {
			return fmt.Errorf("store: let in %v: %w", mac, ErrOwned)
		}
		v.tell(Event{Event: EventApproved, MAC: mac, Key: key})
		return v.putNote(approvalKey(mac), approvalBody{key[:], v.now.Add(approvalLasts).UnixMilli()})
	})
}

// approved reports whether the operator let key in, and uses that up.
func (v *view) approved(mac wire.MAC, key wire.Fingerprint) bool {
	b, ok := readNote[approvalBody](v.note(approvalKey(mac)))
	if !ok || string(b.Key) != string(key[:]) || v.now.UnixMilli() >= b.Expires {
		return false
	}
	v.setNote(approvalKey(mac), nil)
	return true
}
