package netlink

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// resolvConf renders resolv.conf(5).
func resolvConf(l Lease) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# from the lease of %v\n", l.Addr())
	search := l.Search // RFC 3397 §4: it counts before option 15
	if len(search) == 0 && l.Domain != "" {
		search = []string{l.Domain}
	}
	if len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	for _, a := range l.DNS[:min(len(l.DNS), 3)] { // resolv.conf(5): MAXNS
		fmt.Fprintf(&b, "nameserver %v\n", a)
	}
	return b.Bytes()
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
	b := resolvConf(l)
	old, err := os.ReadFile(n.path)
	if err == nil && bytes.Equal(old, b) && n.wrote != nil {
		return nil
	}
	if n.wrote == nil && err == nil {
		n.before = append([]byte{}, old...)
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
	if n.wrote == nil || err != nil || !bytes.Equal(now, n.wrote) {
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
	if err := replaceFile(path, b, 0o644); err == nil {
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
