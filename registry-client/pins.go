package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"flexphone/registry-client/wire"
)

// ErrServerKey: the storing server shows another key than the one it showed
// this phone first.
var ErrServerKey = errors.New("the storing server's key has changed")

// Pins decides whether a server's key is the right one.
type Pins interface {
	// Check returns nil when key may be server's, and an error that wraps
	// ErrServerKey when it is not. server is a host:port.
	Check(server string, key wire.Fingerprint) error
}

// FilePins pins each server's key when it is first seen, in a JSON file: an
// object from host:port to fingerprint. To accept a server's new key, its line
// is deleted.
type FilePins struct {
	path string
	mu   sync.Mutex
}

// NewFilePins keeps pins in the file path, which need not exist yet.
func NewFilePins(path string) *FilePins { return &FilePins{path: path} }

// Check implements Pins. The first key of a server is on the disk when Check
// returns.
func (p *FilePins) Check(server string, key wire.Fingerprint) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	pins := map[string]wire.Fingerprint{}
	b, err := os.ReadFile(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("registry: check server key: %w", err)
	default:
		if err := json.Unmarshal(b, &pins); err != nil {
			return fmt.Errorf("registry: check server key: read %s: %w", p.path, err)
		}
	}
	if pinned, ok := pins[server]; ok {
		if pinned != key {
			return fmt.Errorf("registry: check server key: %s shows %v, pinned is %v (if the server was really replaced, delete its line in %s): %w",
				server, key, pinned, p.path, ErrServerKey)
		}
		return nil
	}
	pins[server] = key
	out, err := json.MarshalIndent(pins, "", "\t")
	if err != nil {
		return fmt.Errorf("registry: pin server key: %w", err)
	}
	if err := writeDurably(p.path, append(out, '\n')); err != nil {
		return fmt.Errorf("registry: pin server key: %w", err)
	}
	return nil
}
