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

// writeResolvConf writes l's name servers to path, or to what path links to,
// when it does not hold them yet. A file that cannot be replaced, being a mount
// of its own, is overwritten.
func writeResolvConf(path string, l Lease) error {
	if len(l.DNS) == 0 {
		return nil
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	b := resolvConf(l)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, b) {
		return nil
	}
	err := replaceFile(path, b, 0o644)
	if err != nil {
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		return fmt.Errorf("netlink: write name servers: %w", err)
	}
	return nil
}
