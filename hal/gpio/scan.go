package gpio

import (
	"cmp"
	"math/bits"
	"slices"
	"time"
)

// A scanner turns pictures of a key matrix into moves of its keys. It is pure:
// what time it is and what the matrix looks like is told to it.
//
// # Ghosts
//
// A matrix without diodes cannot tell three keys at the corners of a rectangle
// from all four: current finds its way backwards through the third. A key that
// appears as such a corner is therefore not believed, whichever it is, until
// the rectangle is gone; keys that were down before stay down. So the fourth
// corner is never reported, and the third not before it is certain.
type scanner struct {
	cols     int
	debounce time.Duration
	down     uint64        // keys that were reported down; bit row*cols+col
	unsure   uint64        // keys that differ from down, but not for long enough yet
	since    [64]time.Time // of the unsure ones: when they began to differ
}

// A move is one key of the matrix that went down or up.
type move struct {
	key  int // row*cols+col
	down bool
	at   time.Time
}

// step looks at the matrix once. now never goes back. It returns the moves that
// have become certain, in the order in which they began, and when it wants to
// look again: zero means not before a column changes, since no key is down.
func (s *scanner) step(now time.Time, matrix uint64) (moves []move, again time.Duration) {
	differ := (matrix &^ (s.ghosts(matrix) &^ s.down)) ^ s.down
	for m := differ; m != 0; m &= m - 1 {
		key := bits.TrailingZeros64(m)
		switch bit := uint64(1) << key; {
		case s.unsure&bit == 0:
			s.since[key] = now
		case now.Sub(s.since[key]) >= s.debounce:
			s.down ^= bit
			differ &^= bit
			moves = append(moves, move{key: key, down: s.down&bit != 0, at: s.since[key]})
		}
	}
	s.unsure = differ
	slices.SortStableFunc(moves, func(a, b move) int { return cmp.Or(a.at.Compare(b.at), a.key-b.key) })
	switch {
	case s.unsure != 0:
		return moves, s.debounce / 4 // several looks a debounce time, so that no bounce hides between two
	case s.down != 0 || matrix != 0:
		return moves, 2 * s.debounce // a held key: unhurried
	}
	return moves, 0
}

// ghosts returns the keys of matrix that are a corner of a rectangle whose
// corners all are in matrix.
func (s *scanner) ghosts(matrix uint64) (ghosts uint64) {
	row := uint64(1)<<s.cols - 1
	for a := 0; a < 64 && matrix>>a != 0; a += s.cols {
		for b := a + s.cols; b < 64 && matrix>>b != 0; b += s.cols {
			if both := matrix >> a & matrix >> b & row; bits.OnesCount64(both) > 1 {
				ghosts |= both<<a | both<<b
			}
		}
	}
	return ghosts
}
