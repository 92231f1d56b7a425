package netlink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A storedLease is what survives a restart: enough to ask for the address again
// (INIT-REBOOT), and to go on with it when no server answers.
type storedLease struct {
	MAC           string        `json:"mac"`
	Prefix        netip.Prefix  `json:"prefix"`
	Router        netip.Addr    `json:"router,omitzero"`
	DNS           []netip.Addr  `json:"dns,omitempty"`
	Domain        string        `json:"domain,omitempty"`
	Routes        []storedRoute `json:"routes,omitempty"`
	MTU           int           `json:"mtu,omitempty"`
	Broadcast     netip.Addr    `json:"broadcast,omitzero"`
	Hostname      string        `json:"hostname,omitempty"`
	Search        []string      `json:"search,omitempty"`
	NTP           []netip.Addr  `json:"ntp,omitempty"`
	TimeZone      string        `json:"time_zone,omitempty"`
	BootFile      string        `json:"boot_file,omitempty"`
	Vendor        []byte        `json:"vendor,omitempty"`
	VoiceVLAN     int           `json:"voice_vlan,omitempty"`
	StoringServer string        `json:"storing_server,omitempty"`
	Server        netip.Addr    `json:"server"`
	Start         time.Time     `json:"start"`
	Renew         time.Time     `json:"renew,omitzero"`
	Rebind        time.Time     `json:"rebind,omitzero"`
	Expiry        time.Time     `json:"expiry,omitzero"`
}

type storedRoute struct {
	Dst netip.Prefix `json:"dst"`
	Via netip.Addr   `json:"via,omitzero"`
}

// encodeLease is the inverse of decodeLease.
func encodeLease(l Lease) ([]byte, error) {
	s := storedLease{
		MAC: l.MAC.String(), Prefix: l.Prefix, Router: l.Router, DNS: l.DNS, Domain: l.Domain, MTU: l.MTU,
		Broadcast: l.Broadcast, Hostname: l.Hostname, Search: l.Search, NTP: l.NTP, TimeZone: l.TimeZone,
		BootFile: l.BootFile, Vendor: l.Vendor, VoiceVLAN: l.VoiceVLAN,
		StoringServer: l.StoringServer, Server: l.Server,
		Start: l.Start.UTC(), Renew: l.Renew.UTC(), Rebind: l.Rebind.UTC(), Expiry: l.Expiry.UTC(),
	}
	for _, r := range l.Routes {
		s.Routes = append(s.Routes, storedRoute(r))
	}
	b, err := json.MarshalIndent(s, "", "  ")
	return append(b, '\n'), err
}

// decodeLease reads a lease file. What it returns is as valid as what a server
// sends: a file cut short or edited gives an error, not a bad address.
func decodeLease(b []byte) (Lease, error) {
	var s storedLease
	if err := json.Unmarshal(b, &s); err != nil {
		return Lease{}, err
	}
	hw, err := net.ParseMAC(s.MAC)
	if err != nil || len(hw) != len(MAC{}) {
		return Lease{}, fmt.Errorf("bad MAC %q", s.MAC)
	}
	switch {
	case !isHost(s.Prefix.Addr()) || s.Prefix.Bits() < 1:
		return Lease{}, fmt.Errorf("bad prefix %v", s.Prefix)
	case !isHost(s.Server):
		return Lease{}, fmt.Errorf("bad server %v", s.Server)
	case s.Router.IsValid() && !isHost(s.Router):
		return Lease{}, fmt.Errorf("bad router %v", s.Router)
	case s.Broadcast.IsValid() && !isHost(s.Broadcast):
		return Lease{}, fmt.Errorf("bad broadcast address %v", s.Broadcast)
	case zone([]byte(s.TimeZone)) != s.TimeZone || path(s.BootFile) != s.BootFile:
		return Lease{}, errors.New("bad time zone or boot file")
	case !isName(s.Domain) || !isName(s.StoringServer) || !isName(s.Hostname) || !isName(strings.Join(s.Search, "")):
		return Lease{}, errors.New("bad name")
	case s.MTU != 0 && (s.MTU < 576 || s.MTU > 0xffff):
		return Lease{}, fmt.Errorf("bad MTU %d", s.MTU)
	case s.VoiceVLAN < 0 || s.VoiceVLAN > 4094:
		return Lease{}, fmt.Errorf("bad VLAN %d", s.VoiceVLAN)
	case s.Start.IsZero() || !s.Expiry.IsZero() && !(s.Start.Before(s.Renew) && s.Renew.Before(s.Rebind) && s.Rebind.Before(s.Expiry)):
		return Lease{}, errors.New("bad times")
	}
	for _, a := range slices.Concat(s.DNS, s.NTP) {
		if !isHost(a) {
			return Lease{}, fmt.Errorf("bad DNS or time server %v", a)
		}
	}
	l := Lease{
		MAC: MAC(hw), Prefix: s.Prefix, Router: s.Router, DNS: s.DNS, Domain: s.Domain, MTU: s.MTU,
		Broadcast: s.Broadcast, Hostname: s.Hostname, Search: s.Search, NTP: s.NTP, TimeZone: s.TimeZone,
		BootFile: s.BootFile, Vendor: s.Vendor, VoiceVLAN: s.VoiceVLAN,
		StoringServer: s.StoringServer, Server: s.Server,
		Start: s.Start, Renew: s.Renew, Rebind: s.Rebind, Expiry: s.Expiry,
	}
	for _, r := range s.Routes {
		if !r.Dst.IsValid() || !r.Dst.Addr().Is4() || r.Dst != r.Dst.Masked() || r.Dst.Bits() == 0 || r.Via.IsValid() && !isHost(r.Via) {
			return Lease{}, fmt.Errorf("bad route %v via %v", r.Dst, r.Via)
		}
		l.Routes = append(l.Routes, Route(r))
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
		err = replaceFile(path, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("netlink: store lease: %w", err)
	}
	return nil
}

// replaceFile writes a file beside path, and renames it to path once it is on
// disk.
func replaceFile(path string, b []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
