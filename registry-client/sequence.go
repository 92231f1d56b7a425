package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"flexphone/internal/durable"
	"flexphone/registry-client/wire"
)

// reserve is how many numbers one write to the disk covers, so that an
// announcement waits for no disk: a start costs at most as many unused ones.
const reserve = 1000

// A Sequence gives out rising numbers, across restarts too. It is safe for
// concurrent use.
type Sequence struct {
	path string
	// forgiving is called when numbers are given out that are not reserved on the
	// disk: keep does that. Nil: none are.
	forgiving func()

	writing sync.Mutex // held by keep

	mu   sync.Mutex
	next uint64 // to give out
	end  uint64 // the first that is not reserved
	kept bool   // end is on the disk, if forgiving
	read bool   // the file was read, or there is none, if forgiving
}

// OpenSequence continues the sequence kept in the file path, or begins one at
// 1. A file that cannot be understood begins anew as well: the storing server
// then tells the number that it has (see Above).
func OpenSequence(path string) (*Sequence, error) {
	s := &Sequence{path: path, next: 1}
	if err := s.load(); err != nil {
		return nil, err
	}
	if err := s.extend(); err != nil {
		return nil, err
	}
	return s, nil
}

// load goes on from the number in the file, if that is higher.
func (s *Sequence) load() error {
	b, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("registry: open sequence: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err == nil && n > s.next && n <= wire.MaxSequence-reserve {
		s.next = n
	}
	return nil
}

// keep brings a forgiving sequence to the disk, if it is not there. Numbers are
// given out meanwhile: an announcement waits for no disk. After a power cut within
// that time the next life gives them out once more, and the storing server tells
// the number that it has (see Above).
func (s *Sequence) keep() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	end, err := s.unkept()
	if err != nil || end == 0 {
		return err
	}
	if err := s.store(end); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = s.end == end
	return nil
}

// unkept returns what keep is to write, 0 for nothing.
func (s *Sequence) unkept() (end uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept {
		return 0, nil
	}
	if !s.read {
		if err := s.load(); err != nil {
			return 0, err
		}
		s.read = true
	}
	if s.next >= s.end {
		s.end = s.next + reserve
	}
	return s.end, nil
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
	if s.forgiving != nil {
		if !s.read { // the first time
			s.read = s.load() == nil
		}
		s.end, s.kept = s.next+reserve, false
		s.forgiving()
		return nil
	}
	end := s.next + reserve
	if err := s.store(end); err != nil {
		return err
	}
	s.end = end
	return nil
}

func (s *Sequence) store(end uint64) error {
	if err := durable.WriteFile(s.path, []byte(strconv.FormatUint(end, 10)+"\n"), 0o600); err != nil {
		return fmt.Errorf("registry: store sequence: %w", err)
	}
	return nil
}
