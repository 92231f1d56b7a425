package testbed

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A place where something may be found.
type place struct {
	name string
	open func() (io.ReadCloser, error)
}

// longestFind is what a match is at most: what is searched is read in pieces, which
// overlap by as much.
const longestFind = 1 << 10

// memory are the parts of a program's memory that can be read.
func (p *process) memory() ([]place, error) {
	pid := p.cmd.Process.Pid
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, fmt.Errorf("testbed: search memory of %s: %w", p.name, err)
	}
	var all []place
	for lines := bufio.NewScanner(bytes.NewReader(maps)); lines.Scan(); {
		var from, to int64
		var rights string
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &rights); n != 3 || rights[0] != 'r' || strings.Contains(lines.Text(), "[v") {
			continue // of the kernel's own pages nothing is the program's
		}
		used, err := resident(pid, from, to)
		if err != nil {
			return nil, fmt.Errorf("testbed: search memory of %s: %w", p.name, err)
		}
		for _, u := range used {
			all = append(all, place{fmt.Sprintf("memory of %s, %x-%x of %s", p.name, u.from, u.to, lines.Text()), func() (io.ReadCloser, error) {
				mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
				if err != nil {
					return nil, err
				}
				return section{io.NewSectionReader(mem, u.from, u.to-u.from), mem}, nil
			}})
		}
	}
	return all, nil
}

// A span is of addresses in a program.
type span struct{ from, to int64 }

// resident returns where pages are in memory, or in the swap: what a program has asked
// for and never used has none, and the race detector asks for a lot.
func resident(pid int, from, to int64) (used []span, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Of each page a number, whose two highest bits say so (Linux, admin-guide/mm/pagemap).
	page, entries := int64(os.Getpagesize()), make([]byte, 8<<16)
	for at := from; at < to; {
		n, err := f.ReadAt(entries[:min(int64(len(entries)), (to-at)/page*8)], at/page*8)
		if n < 8 {
			return used, err
		}
		for e := entries[:n&^7]; len(e) > 0; e, at = e[8:], at+page {
			switch last := len(used) - 1; {
			case binary.NativeEndian.Uint64(e)>>62 == 0:
			case last >= 0 && used[last].to == at:
				used[last].to += page
			default:
				used = append(used, span{at, at + page})
			}
		}
	}
	return used, nil
}

type section struct {
	*io.SectionReader
	io.Closer
}

// files are all of a folder.
func files(dir string) (all []place, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		all = append(all, place{path, opener(path)})
		return nil
	})
	return all, err
}

// matching looks for what pattern matches.
func matching(pattern string) func(in []byte) [][]byte {
	compiled := regexp.MustCompile(pattern)
	return func(in []byte) [][]byte { return compiled.FindAll(in, -1) }
}

// holding looks for bytes.
func holding(needles ...string) func(in []byte) [][]byte {
	return func(in []byte) (found [][]byte) {
		for _, n := range needles {
			if bytes.Contains(in, []byte(n)) {
				found = append(found, []byte(n))
			}
		}
		return found
	}
}

// lookIn looks where there is anything: of what a program has asked for most was never
// used.
func lookIn(window []byte, look func(in []byte) [][]byte) [][]byte {
	if len(bytes.TrimLeft(window, "\x00")) == 0 {
		return nil
	}
	return look(window)
}

// search returns what look finds there, each once, and how much was read.
func search(where []place, look func(in []byte) [][]byte) (found []string, read int64, err error) {
	for _, p := range where {
		f, err := p.open()
		if err != nil {
			return nil, read, fmt.Errorf("testbed: search %s: %w", p.name, err)
		}
		window := make([]byte, 0, 256<<10+longestFind)
		for {
			n, err := f.Read(window[len(window):cap(window)])
			window, read = window[:len(window)+n], read+int64(n)
			for _, m := range lookIn(window, look) {
				if !slices.Contains(found, string(m)) {
					found = append(found, string(m))
				}
			}
			if n == 0 || err != nil { // the end, or memory that went meanwhile
				break
			}
			if keep := window[max(0, len(window)-longestFind):]; len(window) == cap(window) {
				window = window[:copy(window[:longestFind], keep)]
			}
		}
		f.Close()
	}
	return found, read, nil
}

// opener opens a file.
func opener(path string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return os.Open(path) }
}
