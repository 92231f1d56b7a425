package netlink

import (
	"bytes"
	"fmt"
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

// resolvConf renders resolv.conf(5). What was there before (nil: nothing) is kept
// in comments, so that it is not lost with a process that is killed.
func resolvConf(l Lease, before []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, ourHead+"%v\n", l.Addr())
	if len(l.Domains) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(l.Domains, " "))
	}
	for _, a := range l.DNS[:min(len(l.DNS), 3)] { // resolv.conf(5): MAXNS
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
	return before[:len(before)-1] // resolvConf has ended the last line
}

// A nameServers is a resolv.conf(5) that is ours as long as a Source runs.
type nameServers struct {
	path   string // empty: there is none to write
	wrote  []byte // nil: nothing so far
	before []byte // what was there; nil: nothing
}

// write writes l's name servers to path, or to what path links to, when it does
// not hold them yet. A lease without any changes nothing.
func (n *nameServers) write(l Lease) error {
	if n.path == "" || len(l.DNS) == 0 {
		return nil
	}
	old, err := os.ReadFile(n.path)
	if n.wrote == nil && err == nil {
		n.before = original(old)
	}
	b := resolvConf(l, n.before)
	if err == nil && bytes.Equal(old, b) && n.wrote != nil {
		return nil
	}
	if err := n.put(b); err != nil {
		return fmt.Errorf("netlink: write name servers: %w", err)
	}
	n.wrote = b
	return nil
}

// restore puts back what was there before the first write, unless somebody has
// changed the file since.
func (n *nameServers) restore() error {
	now, err := os.ReadFile(n.path)
	if n.path == "" || n.wrote == nil || err != nil || !bytes.Equal(now, n.wrote) {
		return nil
	}
	if n.wrote = nil; n.before != nil {
		err = n.put(n.before)
	} else {
		err = os.Remove(n.target())
	}
	if err != nil {
		return fmt.Errorf("netlink: restore name servers: %w", err)
	}
	return nil
}

// put replaces the file. One that cannot be replaced, being a mount of its own,
// is overwritten.
func (n *nameServers) put(b []byte) error {
	path := n.target()
	if err := durable.WriteFile(path, b, 0o644); err == nil {
		return nil
	}
	return os.WriteFile(path, b, 0o644)
}

// target is the file behind path, which may be a link to where there is none
// yet: the root of an image cannot be written, and links to /run.
func (n *nameServers) target() string {
	if target, err := filepath.EvalSymlinks(n.path); err == nil {
		return target
	}
	switch target, err := os.Readlink(n.path); {
	case err != nil:
		return n.path
	case filepath.IsAbs(target):
		return target
	default:
		return filepath.Join(filepath.Dir(n.path), target)
	}
}
