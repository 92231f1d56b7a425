package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"flexphone/internal/durable"
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
	// forgiving is called when the disk fails, or the file cannot be understood:
	// keys are then pinned nevertheless. Nil: no server is right then.
	forgiving func()

	mu     sync.Mutex
	unkept map[string]wire.Fingerprint // not on the disk yet
	aside  error                       // the file that could not be understood; told once
}

// NewFilePins keeps pins in the file path, which need not exist yet.
func NewFilePins(path string) *FilePins { return &FilePins{path: path} }

// Check implements Pins. The first key of a server is on the disk when Check
// returns.
func (p *FilePins) Check(server string, key wire.Fingerprint) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	pins, err := p.read()
	if err != nil && p.forgiving == nil {
		return fmt.Errorf("registry: check server key: %w", err)
	}
	pinned, ok := pins[server]
	if own, mine := p.unkept[server]; !ok && mine {
		pinned, ok = own, true
	}
	switch {
	case ok && pinned != key:
		return fmt.Errorf("registry: check server key: %s shows %v, pinned is %v (if the server was really replaced, delete its line in %s): %w",
			server, key, pinned, p.path, ErrServerKey)
	case ok:
		return nil
	}
	if err == nil {
		pins[server] = key
		err = p.write(pins)
	}
	if err != nil && p.forgiving == nil {
		return fmt.Errorf("registry: pin server key: %w", err)
	}
	if err != nil {
		if p.unkept == nil {
			p.unkept = map[string]wire.Fingerprint{}
		}
		p.unkept[server] = key
		p.forgiving()
	}
	return nil
}

// keep brings to the disk what a forgiving Check could not.
func (p *FilePins) keep() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	pins, err := p.read()
	if err == nil && len(p.unkept) > 0 {
		for server, key := range p.unkept {
			if _, ok := pins[server]; !ok {
				pins[server] = key
			}
		}
		if err = p.write(pins); err == nil {
			p.unkept = nil
		}
	}
	if err != nil {
		return fmt.Errorf("registry: keep server keys: %w", err)
	}
	err, p.aside = p.aside, nil
	return err
}

// read returns the pins of the file. One that cannot be understood is kept aside
// if p is forgiving, and there are none then.
func (p *FilePins) read() (map[string]wire.Fingerprint, error) {
	pins := map[string]wire.Fingerprint{}
	b, err := os.ReadFile(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return pins, nil
	case err != nil:
		return pins, err
	}
	if err = json.Unmarshal(b, &pins); err == nil {
		if pins == nil { // null
			pins = map[string]wire.Fingerprint{}
		}
		return pins, nil
	}
	err = fmt.Errorf("read %s: %w", p.path, err)
	if p.forgiving == nil {
		return nil, err
	}
	aside, asideErr := setAside(p.path)
	if asideErr != nil {
		return map[string]wire.Fingerprint{}, fmt.Errorf("%w, and cannot be kept aside: %w", err, asideErr)
	}
	p.aside = fmt.Errorf("registry: keep server keys: %w; it is kept as %s, and each server's key is believed once more", err, aside)
	p.forgiving()
	return map[string]wire.Fingerprint{}, nil
}

func (p *FilePins) write(pins map[string]wire.Fingerprint) error {
	out, err := json.MarshalIndent(pins, "", "\t")
	if err != nil {
		return err
	}
	return durable.WriteFile(p.path, append(out, '\n'), 0o600)
}
