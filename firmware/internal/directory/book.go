package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/sip"
	"flexphone/internal/durable"
	"flexphone/internal/mac"
	"flexphone/registry-client/wire"
)

const (
	// mostPhones is how many phones are remembered, a household and its friends.
	mostPhones = 256
	// keptApart is how much later than on the disk a phone may have been met: the
	// order in which phones are forgotten needs no more, and flash wears.
	keptApart = 24 * time.Hour
)

// An acquaintance is what is remembered of a phone that was called from here, or that
// has called and was proved.
type acquaintance struct {
	Name string           `json:"name"` // what people call it: its short number, or its 15 digits
	MAC  mac.Address      `json:"mac"`
	Key  wire.Fingerprint `json:"key"` // by which its user knows it
	// New is another key that the number has now, which nobody has accepted yet;
	// nil: it has the one above. All zero: it has none any more.
	New    *wire.Fingerprint `json:"new_key,omitempty"`
	Addr   netip.AddrPort    `json:"address"`       // where it took calls over TLS last
	Way    sip.Way           `json:"way,omitempty"` // by what, as its row said last
	Met    time.Time         `json:"met"`
	Called bool              `json:"called"` // from here
}

// now is the key that the number has now.
func (a acquaintance) now() wire.Fingerprint {
	if a.New != nil {
		return *a.New
	}
	return a.Key
}

// was is the key that its user knows, if the number has another one now.
func (a acquaintance) was() wire.Fingerprint {
	if a.New != nil {
		return a.Key
	}
	return wire.Fingerprint{}
}

// A book is what this phone remembers of others. It lasts in a file, which is read
// and written by keep alone: nobody who makes a call waits for the disk.
type book struct {
	path  string
	dirty chan struct{} // one slot: something is not on the disk

	mu     sync.Mutex
	loaded bool
	phones []acquaintance
}

func newBook(path string) *book { return &book{path: path, dirty: make(chan struct{}, 1)} }

// find returns whom a dialled number means, as far as it is remembered.
func (b *book) find(to phone.Destination) (acquaintance, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := b.at(to.Number, to.MAC)
	if i < 0 || to.Addr.IsValid() {
		return acquaintance{}, false
	}
	return b.phones[i], true
}

// at finds who is called name, or else has that MAC (zero: nobody has), the one that
// was met last; b.mu is held.
func (b *book) at(name string, m mac.Address) int {
	if i := slices.IndexFunc(b.phones, func(a acquaintance) bool { return name != "" && a.Name == name }); i >= 0 {
		return i
	}
	found := -1
	for i, a := range b.phones {
		if a.MAC == m && m.Valid() && (found < 0 || a.Met.After(b.phones[found].Met)) {
			found = i
		}
	}
	return found
}

// compare returns the key by which the number of row is known here, if it is not the
// row's and nobody has accepted that; zero: there is nothing to tell. offered is the
// key that the row gives for calls; zero: none. What is new is remembered from the
// first time that it is seen.
func (b *book) compare(row wire.Row, offered wire.Fingerprint) wire.Fingerprint {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := b.at(Name(row.Number, row.MAC), row.MAC)
	if i < 0 {
		return wire.Fingerprint{}
	}
	a := &b.phones[i]
	if a.now() != offered {
		if a.New = &offered; a.Key == offered { // it is back
			a.New = nil
		}
		b.changed()
	}
	if way := wayOf(row); a.Way != way {
		a.Way = way
		b.changed()
	}
	return a.was()
}

// meet remembers a phone that is there, at that address, and has shown its key.
func (b *book) meet(name string, m mac.Address, key wire.Fingerprint, at netip.AddrPort, called bool, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.phones, func(a acquaintance) bool { return a.Name == name })
	if i < 0 {
		a := acquaintance{Name: name, MAC: m, Key: key}
		if same := b.at("", m); same >= 0 { // it had another number
			a.Key, a.New = b.phones[same].Key, b.phones[same].New
		}
		b.phones = append(b.phones, a)
		i = len(b.phones) - 1
	}
	a := b.phones[i]
	was := a
	a.MAC, a.Addr, a.Called = m, at, a.Called || called
	if a.now() != key {
		a.New = &key
	}
	if a.Key == key {
		a.New = nil
	}
	if a.Met = now; was.Addr == a.Addr && was.MAC == a.MAC && was.now() == a.now() && was.Called == a.Called && now.Sub(was.Met) < keptApart {
		a.Met = was.Met
	}
	b.phones[i] = a
	if a != was {
		b.changed()
	}
	b.trim()
}

// moved notes another address of the phone with that key.
func (b *book) moved(m mac.Address, key wire.Fingerprint, to netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.phones {
		if a := &b.phones[i]; a.MAC == m && a.now() == key && a.Addr != to {
			a.Addr = to
			b.changed()
		}
	}
}

// accept makes key the one by which the number called name is known, or that MAC.
func (b *book) accept(name string, m mac.Address, key wire.Fingerprint) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := b.at(name, m)
	if i < 0 || b.phones[i].New == nil || *b.phones[i].New != key {
		return false
	}
	b.phones[i].Key, b.phones[i].New = key, nil
	b.changed()
	return true
}

// trim forgets whom there is no room for: first of those who have only called the one
// that was not met for the longest time; b.mu is held.
func (b *book) trim() {
	for len(b.phones) > mostPhones {
		oldest := 0
		for i, a := range b.phones {
			if o := b.phones[oldest]; a.Called == o.Called && a.Met.Before(o.Met) || o.Called && !a.Called {
				oldest = i
			}
		}
		b.phones = slices.Delete(b.phones, oldest, oldest+1)
	}
}

func (b *book) changed() {
	select {
	case b.dirty <- struct{}{}:
	default:
	}
}

// keep reads the file once, and writes it whenever something has changed, until ctx
// is done or the disk fails. Called again it goes on where it has failed.
func (b *book) keep(ctx context.Context, works func()) error {
	if err := b.load(); err != nil {
		return err
	}
	for {
		works()
		select {
		case <-b.dirty:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := b.write(); err != nil {
			b.changed()
			return fmt.Errorf("directory: keep known phones: %w; what the phone learns of others lasts until it is switched off", err)
		}
	}
}

func (b *book) write() error {
	b.mu.Lock()
	text, err := json.MarshalIndent(b.phones, "", "\t")
	b.mu.Unlock()
	if err != nil {
		return err
	}
	return durable.WriteFile(b.path, append(text, '\n'), 0o600)
}

// load reads the file, unless that is done. One that cannot be understood is kept
// aside, and each phone's key is believed once more; the error says so, once.
func (b *book) load() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.loaded {
		return nil
	}
	text, err := os.ReadFile(b.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("directory: read known phones: %w; a key that has changed is not seen until they are read", err)
	}
	var read []acquaintance
	if err == nil {
		read, err = parseBook(text)
	} else {
		err = nil
	}
	if err != nil {
		aside := b.path + ".bad"
		err = fmt.Errorf("directory: read known phones: %w; the file is kept as %s, and each phone's key is believed once more", err, aside)
		if moved := os.Rename(b.path, aside); moved != nil {
			err = fmt.Errorf("%w; it cannot be kept aside: %w", err, moved)
		}
	}
	b.loaded = true
	met := b.phones // since the phone was started
	b.phones = read
	for _, a := range met {
		i := slices.IndexFunc(b.phones, func(o acquaintance) bool { return o.Name == a.Name })
		if i < 0 {
			b.phones = append(b.phones, a)
			continue
		}
		now := a.now()
		if b.phones[i].Addr, b.phones[i].Met = a.Addr, a.Met; b.phones[i].now() != now {
			b.phones[i].New = &now
		}
	}
	b.trim()
	return err
}

// parseBook reads what write has written. Of what makes no sense nothing is taken.
func parseBook(text []byte) ([]acquaintance, error) {
	var read []acquaintance
	if err := json.Unmarshal(text, &read); err != nil {
		return nil, err
	}
	for _, a := range read {
		if a.Name == "" || !a.MAC.Valid() || a.Key == (wire.Fingerprint{}) {
			return nil, fmt.Errorf("%q is no phone", a.Name)
		}
	}
	return read, nil
}

// knows reports whether a phone with that key was met.
func (b *book) knows(key wire.Fingerprint) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.phones, func(a acquaintance) bool { return a.now() == key })
}

// peerOf is how a is called.
func peerOf(a acquaintance) phone.Peer {
	return phone.Peer{Name: a.Name, Target: sip.Target{User: a.MAC.Hex(), Addr: a.Addr, Pin: a.now(), Way: a.Way}, Was: a.was()}
}
