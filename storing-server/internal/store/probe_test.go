package store

import (
	"errors"
	"testing"
	"time"
)

// A probe is written as any change is, and is refused as any change is.
func TestProbe(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		s := open(t, dir, nil)
		for range 3 {
			if err := s.Probe(t.Context()); err != nil {
				t.Errorf("Probe() = %v", err)
			}
		}
		if s.Size() != 0 {
			t.Errorf("%d rows after probes", s.Size())
		}
		s.disk.asked.Store(time.Now().UnixNano())
		s.disk.full.Store(true)
		if err := s.Probe(t.Context()); !errors.Is(err, ErrFull) {
			t.Errorf("Probe() on a full disk = %v; want ErrFull", err)
		}
		s.Close()
	}
}
