package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"flexphone/internal/durable"
	"flexphone/netlink"
	"flexphone/registry-client/wire"
)

// nextKeyFile is the name in the data folder of the key that is to be the
// device key, from its making until the storing server has taken it.
const nextKeyFile = "device.next.key"

// Rotate makes another device key for the phone whose data folder is dir, has
// the storing server of cfg take it for the owner of mac's row, and then puts it
// in the place of the old one. r is what is announced with it; its sequence is
// from seq. The phone must not run: it would go on with the old key.
//
// It may be cut short at any moment, and is then run again: the next key is on
// the disk before the server hears of it, and replaces the old one after.
func Rotate(ctx context.Context, cfg Config, dir string, mac netlink.MAC, seq *Sequence, r wire.Registration) (wire.Fingerprint, error) {
	if _, err := os.Lstat(filepath.Join(dir, CertificateFile)); !errors.Is(err, fs.ErrNotExist) {
		return wire.Fingerprint{}, fmt.Errorf("registry: rotate key: %s is for the old key: have the authority issue one, and enrol anew", CertificateFile)
	}
	old, err := LoadIdentity(dir, mac)
	if err != nil {
		return wire.Fingerprint{}, err
	}
	key, err := loadKey(filepath.Join(dir, nextKeyFile))
	if err != nil {
		return wire.Fingerprint{}, fmt.Errorf("registry: rotate key: %w", err)
	}
	cert, err := selfSigned(key, mac)
	if err != nil {
		return wire.Fingerprint{}, fmt.Errorf("registry: rotate key: %w", err)
	}
	next := Identity{MAC: mac, Certificate: cert, Fingerprint: FingerprintOf(cert.Leaf)}
	r.Next = next.Fingerprint
	err = registerAs(ctx, cfg, old, seq, r)
	if errors.Is(err, ErrForeign) { // an earlier attempt got through
		r.Next = wire.Fingerprint{}
		if again := registerAs(ctx, cfg, next, seq, r); again == nil {
			err = nil
		}
	}
	if err != nil {
		return wire.Fingerprint{}, fmt.Errorf("registry: rotate key: %w", err)
	}
	if err := os.Rename(filepath.Join(dir, nextKeyFile), filepath.Join(dir, keyFile)); err != nil {
		return wire.Fingerprint{}, fmt.Errorf("registry: rotate key: %w", err)
	}
	if err := durable.SyncDir(dir); err != nil {
		return wire.Fingerprint{}, fmt.Errorf("registry: rotate key: %w", err)
	}
	return next.Fingerprint, nil
}

// registerAs announces r with a key, above the sequence that the row has.
func registerAs(ctx context.Context, cfg Config, id Identity, seq *Sequence, r wire.Registration) error {
	cfg.Identity = id
	c, err := NewClient(cfg)
	if err != nil {
		return err
	}
	defer c.Close()
	for range 2 {
		if r.Sequence, err = seq.Next(); err != nil {
			return err
		}
		_, err = c.Register(ctx, r)
		var stale *StaleError
		if !errors.As(err, &stale) {
			return err
		}
		if err := seq.Above(stale.Sequence); err != nil {
			return err
		}
	}
	return err
}
