package registry

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"flexphone/internal/ownkey"
	"flexphone/netlink"
)

// Names in the data folder beside keyFile and CertificateFile.
const (
	sequenceFile = "sequence"
	pinsFile     = "servers.json"
)

// ErrKeyReplaced: the device key could not be understood, and another was made.
var ErrKeyReplaced = errors.New("the device key was replaced")

// A Folder keeps what a phone must not forget: its key, its sequence number and
// its servers' keys. A phone whose disk is full, read-only or damaged goes on with
// what can be read, and with what it makes in memory for the rest: each method says
// what is wrong, and mends it when it is called again and the disk is mended.
type Folder struct {
	dir      string
	sequence *Sequence
	pins     *FilePins
	trouble  chan struct{} // one slot

	mu       sync.Mutex
	spare    ed25519.PrivateKey // while the disk gives and takes none
	replaced error              // for the rest of this life
}

// OpenFolder returns the folder dir. It touches no disk.
func OpenFolder(dir string) *Folder {
	f := &Folder{dir: dir, trouble: make(chan struct{}, 1)}
	f.sequence = &Sequence{path: filepath.Join(dir, sequenceFile), next: 1, forgiving: f.tellTrouble}
	f.pins = &FilePins{path: filepath.Join(dir, pinsFile), forgiving: f.tellTrouble}
	return f
}

// Sequence returns the sequence that is kept in the folder, by Keep: nobody who
// takes a number waits for the disk. While that cannot be read or written the
// numbers are of this life alone: the storing server tells the number that it has,
// if it is higher (see Above).
func (f *Folder) Sequence() *Sequence { return f.sequence }

// Pins returns the servers' keys that are kept in the folder. A server that is
// first seen while the disk cannot be written is pinned for this life, and on the
// disk when it is mended. A file that cannot be understood is kept aside, and the
// servers are seen for the first time again; so they are in a life in which it
// cannot be read.
func (f *Folder) Pins() Pins { return f.pins }

// Trouble receives when something is not kept: Keep does it, or tells what is wrong.
func (f *Folder) Trouble() <-chan struct{} { return f.trouble }

func (f *Folder) tellTrouble() {
	select {
	case f.trouble <- struct{}{}:
	default:
	}
}

// Keep makes the folder when it is missing, and writes what is not on the disk
// yet, but for the key, which is Identity's. It returns what is wrong.
func (f *Folder) Keep() error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("registry: make the data folder: %w; what the phone learns lasts until it is switched off; set `data` to a folder that may be written", err)
	}
	if err := errors.Join(f.sequence.keep(), f.pins.keep()); err != nil {
		return fmt.Errorf("%w; what the phone learns lasts until it is switched off", err)
	}
	return nil
}

// Identity returns the identity of the phone with this MAC: that of the folder's
// key and certificate (LoadIdentity), or one that serves while something is wrong,
// which the error says. Only without any identity, which no disk can cause, the
// certificate is missing.
//
// A key that cannot be read, or cannot be written, is tried again by the next
// call, and meanwhile there is one in memory. A key that can be read but not
// understood, such as an empty file, is lost: it is kept aside, another is made,
// and the error wraps ErrKeyReplaced from then on.
func (f *Folder) Identity(mac netlink.MAC) (Identity, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key, wrong := f.key()
	if key == nil {
		return Identity{}, wrong
	}
	id, err := identityOf(f.dir, key, mac)
	if err != nil { // the certificate of the operator's authority
		wrong = errors.Join(wrong, fmt.Errorf("registry: load identity: %w; the phone signs its certificate itself", err))
		cert, err := selfSigned(key, mac)
		if err != nil {
			return Identity{}, fmt.Errorf("registry: load identity: %w", err)
		}
		id = identity(cert, mac)
	}
	return id, errors.Join(wrong, f.replaced)
}

// key returns the key to use now, and what is wrong with the one on the disk.
// f.mu is held.
func (f *Folder) key() (ed25519.PrivateKey, error) {
	path := filepath.Join(f.dir, keyFile)
	key, err := ownkey.Read(path)
	if errors.Is(err, ownkey.ErrNone) {
		aside, asideErr := setAside(path)
		if asideErr != nil {
			return f.inMemory(fmt.Errorf("%w, and cannot be kept aside: %w", err, asideErr))
		}
		f.replaced = fmt.Errorf("registry: load identity: %w: %w: it is kept as %s; the storing server gives the row of this phone to the old key until its operator forgets that (storing-server forget)",
			ErrKeyReplaced, err, aside)
		err = fs.ErrNotExist
	}
	switch {
	case err == nil:
		f.spare = nil
		return key, nil
	case !errors.Is(err, fs.ErrNotExist):
		return f.inMemory(err)
	}
	if key, err = f.make(); err != nil {
		return nil, err
	}
	if err := ownkey.Store(path, key); err != nil {
		return f.inMemory(err)
	}
	f.spare = nil
	return key, nil
}

// inMemory returns a key of this life, and says why.
func (f *Folder) inMemory(why error) (ed25519.PrivateKey, error) {
	key, err := f.make()
	if err != nil {
		return nil, err
	}
	return key, fmt.Errorf("registry: load identity: %w; the phone has a key that lasts until it is switched off", why)
}

// make returns the key in memory, and makes one first when there is none.
func (f *Folder) make() (ed25519.PrivateKey, error) {
	if f.spare == nil {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("registry: make key: %w", err)
		}
		f.spare = key
	}
	return f.spare, nil
}

// setAside renames a file that cannot be understood, for whoever can: to its name
// with .bad, or .bad2 and so on where that is taken already.
func setAside(path string) (string, error) {
	for n := 1; ; n++ {
		aside := path + ".bad"
		if n > 1 {
			aside += strconv.Itoa(n)
		}
		if _, err := os.Lstat(aside); err == nil && n < maxAside {
			continue
		}
		return aside, os.Rename(path, aside)
	}
}

// maxAside bounds how many spoiled files are kept; the last is then replaced.
const maxAside = 9
