package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"flexphone/registry-client/wire"
)

// reserve is how many numbers one write to the disk covers, so that an
// announcement waits for no disk: a start costs at most as many unused ones.
const reserve = 1000

// A Sequence gives out rising numbers, across restarts too. It is safe for
// concurrent use.
type Sequence struct {
	path string
	mu   sync.Mutex
	next uint64 // to give out
	end  uint64 // the first that is not reserved on the disk
}

// OpenSequence continues the sequence kept in the file path, or begins one at
// 1. A file that cannot be understood begins anew as well: the storing server
// then tells the number that it has (see Above).
func OpenSequence(path string) (*Sequence, error) {
	s := &Sequence{path: path, next: 1}
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("registry: open sequence: %w", err)
	default:
		n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		if err == nil && n > 0 && n <= wire.MaxSequence-reserve {
			s.next = n
		}
	}
	if err := s.extend(); err != nil {
		return nil, err
	}
	return s, nil
}

// Next returns a number higher than all before.
func (s *Sequence) Next() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next >= s.end {
		if err := s.extend(); err != nil {
			return 0, err
		}
	}
	n := s.next
	s.next++
	return n, nil
}

// Above makes Next return more than n.
func (s *Sequence) Above(n uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n < s.next {
		return nil
	}
	if n >= wire.MaxSequence-reserve {
		return fmt.Errorf("registry: raise sequence above %d: out of numbers; the operator must forget this phone", n)
	}
	s.next = n + 1
	if s.next > s.end {
		return s.extend()
	}
	return nil
}

// extend reserves more numbers; s.mu is held, or s not shared yet.
func (s *Sequence) extend() error {
	end := s.next + reserve
	if err := writeDurably(s.path, []byte(strconv.FormatUint(end, 10)+"\n")); err != nil {
		return fmt.Errorf("registry: store sequence: %w", err)
	}
	s.end = end
	return nil
}
