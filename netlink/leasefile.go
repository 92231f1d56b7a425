package netlink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"flexphone/internal/durable"
)

// encodeLease is the inverse of decodeLease: what survives a restart is enough to
// ask for the address again (INIT-REBOOT), and to go on with it when no server
// answers.
func encodeLease(l Lease) ([]byte, error) {
	for _, t := range []*time.Time{&l.Start, &l.Renew, &l.Rebind, &l.Expiry} {
		*t = t.UTC()
	}
	b, err := json.MarshalIndent(l, "", "  ")
	return append(b, '\n'), err
}

// decodeLease reads a lease file. What it returns is as valid as what a server
// sends: a file cut short or edited gives an error, not a bad address.
func decodeLease(b []byte) (Lease, error) {
	var l Lease
	if err := json.Unmarshal(b, &l); err != nil {
		return Lease{}, err
	}
	if l.MAC == (MAC{}) {
		return Lease{}, errors.New("no MAC")
	}
	if !isHost(l.Prefix.Addr()) || l.Prefix.Bits() < 1 {
		return Lease{}, fmt.Errorf("bad prefix %v", l.Prefix)
	}
	if !isHost(l.Server) {
		return Lease{}, fmt.Errorf("bad server %v", l.Server)
	}
	if !inOrder(l) {
		return Lease{}, errors.New("bad times")
	}
	if code, ok := isStored(l); !ok {
		return Lease{}, fmt.Errorf("bad value of DHCP option %d", code)
	}
	return l, nil
}

// inOrder reports whether a lease begins, is renewed and ends one after the other.
func inOrder(l Lease) bool {
	endless := l.Expiry.IsZero()
	return !l.Start.IsZero() && (endless || l.Start.Before(l.Renew) && l.Renew.Before(l.Rebind) && l.Rebind.Before(l.Expiry))
}

// loadLease reads the lease of mac from path; its times are tied to now's
// monotonic clock, so that a later correction of the wall clock does not change
// them. No file is no lease.
func loadLease(path string, mac MAC, now time.Time) (Lease, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Lease{}, nil
	}
	if err != nil {
		return Lease{}, fmt.Errorf("netlink: load lease: %w", err)
	}
	l, err := decodeLease(b)
	if err != nil {
		return Lease{}, fmt.Errorf("netlink: load lease: %s: %w", path, err)
	}
	if l.MAC != mac {
		return Lease{}, nil
	}
	for _, t := range []*time.Time{&l.Start, &l.Renew, &l.Rebind, &l.Expiry} {
		if !t.IsZero() {
			*t = now.Add(t.Sub(now))
		}
	}
	return l, nil
}

// saveLease stores l so that a power cut leaves the old file or the new one.
func saveLease(path string, l Lease) error {
	if !l.Prefix.IsValid() {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("netlink: forget lease: %w", err)
		}
		return nil
	}
	b, err := encodeLease(l)
	if err == nil {
		err = durable.WriteFile(path, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("netlink: store lease: %w", err)
	}
	return nil
}
