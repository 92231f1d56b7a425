// Package resolvconf lends a resolv.conf(5) to somebody who knows name servers, and
// leaves it as it was found, even after he was killed. It knows the file and its links,
// and refuses to know where the names come from.
package resolvconf

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"flexphone/internal/durable"
)

// How a file of ours begins, and what stands before each line of it that was
// there before us.
const (
	ourHead = "# from the lease of "
	theirs  = "#| "
)

// A Network is what is known of names somewhere.
type Network struct {
	Leased  netip.Addr // by which somebody who reads the file knows whose it is
	Domains []string   // to search
	DNS     []netip.Addr
}

// render renders resolv.conf(5). What was there before (nil: nothing) is kept
// in comments, so that it is not lost with a process that is killed.
func (n Network) render(before []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, ourHead+"%v\n", n.Leased)
	if len(n.Domains) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(n.Domains, " "))
	}
	for _, a := range n.DNS[:min(len(n.DNS), 3)] { // resolv.conf(5): MAXNS
		fmt.Fprintf(&b, "nameserver %v\n", a)
	}
	if before != nil {
		for line := range bytes.Lines(append(bytes.Clone(before), '\n')) {
			b.WriteString(theirs)
			b.Write(line)
		}
	}
	return b.Bytes()
}

// original returns what was there before us, from a file as it is now: nil:
// nothing.
func original(now []byte) []byte {
	if !bytes.HasPrefix(now, []byte(ourHead)) {
		return append([]byte{}, now...)
	}
	var before []byte
	for line := range bytes.Lines(now) {
		if line, ok := bytes.CutPrefix(line, []byte(theirs)); ok {
			before = append(before, line...)
		}
	}
	if before == nil {
		return nil
	}
	return before[:len(before)-1] // render has ended the last line
}

// A File is a resolv.conf(5) that is ours from the first Write until Restore.
type File struct {
	Path   string // empty: there is none to write
	wrote  []byte // nil: nothing so far
	before []byte // what was there; nil: nothing
}

// Write writes the name servers of a network to Path, or to what Path links to, when
// it does not hold them yet. A network without any changes nothing.
func (f *File) Write(n Network) error {
	if f.Path == "" || len(n.DNS) == 0 {
		return nil
	}
	old, err := os.ReadFile(f.Path)
	if f.wrote == nil && err == nil {
		f.before = original(old)
	}
	b := n.render(f.before)
	if err == nil && bytes.Equal(old, b) && f.wrote != nil {
		return nil
	}
	if err := f.put(b); err != nil {
		return fmt.Errorf("netlink: write name servers: %w", err)
	}
	f.wrote = b
	return nil
}

// Restore puts back what was there before the first write, unless somebody has
// changed the file since.
func (f *File) Restore() error {
	now, err := os.ReadFile(f.Path)
	if f.Path == "" || f.wrote == nil || err != nil || !bytes.Equal(now, f.wrote) {
		return nil
	}
	if f.wrote = nil; f.before != nil {
		err = f.put(f.before)
	} else {
		err = os.Remove(f.target())
	}
	if err != nil {
		return fmt.Errorf("netlink: restore name servers: %w", err)
	}
	return nil
}

// put replaces the file. One that cannot be replaced, being a mount of its own,
// is overwritten.
func (f *File) put(b []byte) error {
	path := f.target()
	if err := durable.WriteFile(path, b, 0o644); err == nil {
		return nil
	}
	return os.WriteFile(path, b, 0o644)
}

// target is the file behind path, which may be a link to where there is none
// yet: the root of an image cannot be written, and links to /run.
func (f *File) target() string {
	if target, err := filepath.EvalSymlinks(f.Path); err == nil {
		return target
	}
	switch target, err := os.Readlink(f.Path); {
	case err != nil:
		return f.Path
	case filepath.IsAbs(target):
		return target
	default:
		return filepath.Join(filepath.Dir(f.Path), target)
	}
}
