package trust

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"flexphone/registry-client/wire"
)

// Expected are the MACs of phones that may enrol, in a file of the operator's:
// one a line, and after it anything, such as whose it is. An empty line, and one
// that begins with #, says nothing.
type Expected struct {
	path string
	macs atomic.Pointer[map[wire.MAC]struct{}]
}

// LoadExpected reads such a file.
func LoadExpected(path string) (*Expected, error) {
	e := &Expected{path: path}
	return e, e.Reload()
}

// Reload reads the file again. When it fails the list stays as it was.
func (e *Expected) Reload() error {
	text, err := os.ReadFile(e.path)
	if err != nil {
		return fmt.Errorf("trust: read expected phones: %w", err)
	}
	macs := map[wire.MAC]struct{}{}
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(string(text), "\ufeff")) {
		n++
		words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\r\n,;", r) })
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		mac, err := wire.ParseMAC(strings.Trim(words[0], `"`))
		if err != nil {
			return fmt.Errorf("trust: read expected phones: %s line %d: want a MAC such as 02:00:5e:00:53:01 at its beginning: %w", e.path, n, err)
		}
		macs[mac] = struct{}{}
	}
	e.macs.Store(&macs)
	return nil
}

// Has reports whether a phone is expected.
func (e *Expected) Has(mac wire.MAC) bool {
	if e == nil {
		return false
	}
	_, ok := (*e.macs.Load())[mac]
	return ok
}
