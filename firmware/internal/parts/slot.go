package parts

import (
	"context"
	"sync"
)

// A Slot is a place for what one part makes and another uses: empty at first, and
// filled anew when the part was made again.
type Slot[T any] struct {
	mu      sync.Mutex
	value   T
	full    bool
	changed chan struct{} // closed at the next change; nil: nobody waits
}

// Set fills the slot.
func (s *Slot[T]) Set(v T) { s.change(v, true) }

// Clear empties the slot.
func (s *Slot[T]) Clear() {
	var none T
	s.change(none, false)
}

func (s *Slot[T]) change(v T, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value, s.full = v, full
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// Now returns what is in the slot, and whether there is anything.
func (s *Slot[T]) Now() (T, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.value, s.full
}

// Get waits until there is something in the slot. It returns that, and a channel
// that is closed when the slot changes; or ctx's error.
func (s *Slot[T]) Get(ctx context.Context) (v T, changed <-chan struct{}, err error) {
	for {
		s.mu.Lock()
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		v, full, changed := s.value, s.full, s.changed
		s.mu.Unlock()
		if full {
			return v, changed, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return v, nil, ctx.Err()
		}
	}
}
