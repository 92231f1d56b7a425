package netlink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
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
	switch {
	case l.MAC == MAC{}:
		return Lease{}, errors.New("no MAC")
	case !isHost(l.Prefix.Addr()) || l.Prefix.Bits() < 1:
		return Lease{}, fmt.Errorf("bad prefix %v", l.Prefix)
	case !isHost(l.Server):
		return Lease{}, fmt.Errorf("bad server %v", l.Server)
	case l.Router.IsValid() && !isGateway(l.Router):
		return Lease{}, fmt.Errorf("bad router %v", l.Router)
	case l.Broadcast.IsValid() && !isHost(l.Broadcast):
		return Lease{}, fmt.Errorf("bad broadcast address %v", l.Broadcast)
	case zone([]byte(l.TimeZone)) != l.TimeZone || path([]byte(l.BootFile)) != l.BootFile:
		return Lease{}, errors.New("bad time zone or boot file")
	case name([]byte(l.Hostname)) != l.Hostname:
		return Lease{}, fmt.Errorf("bad host name %q", l.Hostname)
	case l.MTU != 0 && (l.MTU < minMTU || l.MTU > 0xffff):
		return Lease{}, fmt.Errorf("bad MTU %d", l.MTU)
	case l.VoiceVLAN < 0 || l.VoiceVLAN > 4094:
		return Lease{}, fmt.Errorf("bad VLAN %d", l.VoiceVLAN)
	case l.Start.IsZero() || !l.Expiry.IsZero() && !(l.Start.Before(l.Renew) && l.Renew.Before(l.Rebind) && l.Rebind.Before(l.Expiry)):
		return Lease{}, errors.New("bad times")
	}
	for _, a := range slices.Concat(l.DNS, l.NTP) {
		if !isHost(a) {
			return Lease{}, fmt.Errorf("bad DNS or time server %v", a)
		}
	}
	for _, d := range l.Domains {
		if !isDomain(d) {
			return Lease{}, fmt.Errorf("bad domain %q", d)
		}
	}
	for _, s := range l.StoringServers {
		if s == "" || serverText([]byte(s)) != s {
			return Lease{}, fmt.Errorf("bad storing server %q", s)
		}
	}
	for _, r := range l.Routes {
		if !r.Dst.IsValid() || !r.Dst.Addr().Is4() || r.Dst != r.Dst.Masked() || r.Dst.Bits() == 0 || r.Via.IsValid() && !isGateway(r.Via) {
			return Lease{}, fmt.Errorf("bad route %v via %v", r.Dst, r.Via)
		}
	}
	return l, nil
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
