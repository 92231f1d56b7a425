package usage

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A Part is where memory came from.
type Part int

// The parts. What belongs to no file is Go's heap, or all else: Go's own books, C's heap and the
// stacks of threads.
const (
	Code      Part = iota // the program's instructions
	Tables                // its constants, and what Go knows of its functions and types
	Variables             // its variables, where they have been written to
	GoHeap
	Anonymous
	Shared  // with other processes, such as a sound server
	Card    // libraries of the sound card, and of the languages that they are written in
	Codecs  // libraries of codecs and of what cancels echoes
	Library // C's, and all others
	Parts   = iota
)

// String returns what a part is called.
func (p Part) String() string {
	return [Parts]string{"code", "tables", "variables", "Go's heap", "other anonymous", "shared", "card's libraries", "codecs", "other libraries"}[p]
}

// PartsOf returns the resident bytes of pid and its children and theirs by where they came from,
// of which those that are shared count for each of their users in part (PSS).
func PartsOf(pid int) (sum [Parts]int64) {
	for _, p := range Family(pid) {
		program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", p))
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", p)) // none: it has ended
		for part, bytes := range partsIn(string(text), program) {
			sum[part] += bytes
		}
	}
	return sum
}

// partsIn adds up the mappings of smaps (proc(5)) of a program.
func partsIn(smaps, program string) (sum [Parts]int64) {
	var m mapping
	stack := uint64(0)
	if before, _, ok := strings.Cut(smaps, "[stack]"); ok {
		stack = mappingOf(before[strings.LastIndexByte(before, '\n')+1:]).begin
	}
	part := Anonymous
	for line := range strings.Lines(smaps) {
		if next := mappingOf(line); next.end > 0 {
			if part = next.part(program, stack); part == Anonymous && next.begin == m.end && m.file == program {
				part = Variables // that are zero at first
			}
			m = next
			continue
		}
		if v, ok := strings.CutPrefix(line, "Pss:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			sum[part] += kib << 10
		}
	}
	return sum
}

// A mapping is a piece of memory.
type mapping struct {
	begin, end        uint64
	permissions, file string
}

// mappingOf reads the first line of a mapping; others are none.
func mappingOf(line string) (m mapping) {
	fields := strings.Fields(line)
	if len(fields) < 5 || strings.HasSuffix(fields[0], ":") {
		return m
	}
	from, to, _ := strings.Cut(fields[0], "-")
	begin, failed := strconv.ParseUint(from, 16, 64)
	end, err := strconv.ParseUint(to, 16, 64)
	if failed != nil || err != nil {
		return m
	}
	return mapping{begin, end, fields[1], strings.Join(fields[5:], " ")}
}

// Go's heap begins at a whole number of these, and on processors of 64 bits far from where the
// kernel puts what has no place of its own, which is within a TiB of the stack. On others it
// is anonymous like all else.
const (
	goPiece = 4 << 20
	goFar   = 2 << 40
)

// part tells where a mapping came from.
func (m mapping) part(program string, stack uint64) Part {
	is := func(names ...string) bool {
		for _, n := range names {
			if strings.HasPrefix(filepath.Base(m.file), n) {
				return true
			}
		}
		return false
	}
	switch {
	case m.file == program && strings.Contains(m.permissions, "x"):
		return Code
	case m.file == program && strings.Contains(m.permissions, "w"):
		return Variables
	case m.file == program:
		return Tables
	case strings.HasSuffix(m.permissions, "s"):
		return Shared
	case m.file == "" && m.begin%goPiece == 0 && m.begin+goFar < stack:
		return GoHeap
	case m.file == "" || strings.HasPrefix(m.file, "["):
		return Anonymous
	case is("libjack", "libportaudio", "libasound", "libpulse", "libdb-", "libstdc++", "libgcc_s"):
		return Card
	case is("libopus", "libspeex"):
		return Codecs
	}
	return Library
}
