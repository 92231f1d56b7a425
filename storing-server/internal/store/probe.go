package store

import "context"

// probeNote is of no phone, and says nothing.
const probeNote = "probe"

// Probe makes a change that changes nothing, and reports why it did not get to
// the disk.
func (s *Store) Probe(ctx context.Context) error {
	return s.do(ctx, func(v *view) error {
		v.setNote(noteKey{probeNote, noPhone}, nil)
		return nil
	})
}
