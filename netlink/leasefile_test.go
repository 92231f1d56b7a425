package netlink

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func storedExample() Lease {
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	return Lease{
		MAC: simMAC, Prefix: netip.PrefixFrom(simAddr, 24), Router: simServer, DNS: []netip.Addr{simServer},
		Routes:    []Route{{Dst: netip.MustParsePrefix("198.51.100.0/24"), Via: simServer}, {Dst: netip.MustParsePrefix("203.0.113.0/24")}},
		Broadcast: netip.MustParseAddr("192.0.2.127"), Domains: []string{"eng.isp.example", "isp.example"},
		VoiceVLAN: 42,
		MTU:       1400, StoringServers: []string{"coaps://storing.example:5684", "192.0.2.9"}, Server: simServer,
		Start: at, Renew: at.Add(30 * time.Minute), Rebind: at.Add(50 * time.Minute), Expiry: at.Add(time.Hour),
	}
}

func TestLeaseFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lease")
	now := time.Now()
	if l, err := loadLease(path, simMAC, now); err != nil || l.Prefix.IsValid() {
		t.Errorf("no file is %+v, %v", l, err)
	}
	want := storedExample()
	if err := saveLease(path, want); err != nil {
		t.Fatal(err)
	}
	if l, err := loadLease(path, otherMAC, now); err != nil || l.Prefix.IsValid() {
		t.Errorf("another phone's lease is %+v, %v", l, err)
	}
	got, err := loadLease(path, simMAC, now)
	if err != nil || !got.Expiry.Equal(want.Expiry) || !got.Start.Equal(want.Start) {
		t.Errorf("times are %v and %v, %v", got.Start, got.Expiry, err)
	}
	got.Start, got.Renew, got.Rebind, got.Expiry = want.Start, want.Renew, want.Rebind, want.Expiry
	if !reflect.DeepEqual(got, want) {
		t.Errorf("lease is %+v; want %+v", got, want)
	}
	if err := os.WriteFile(path, []byte(`{"mac": "02:00`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadLease(path, simMAC, now); err == nil {
		t.Error("a file that was cut short is accepted")
	}
	if err := saveLease(path, Lease{}); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestLeaseFileRefuses: whatever is kept is checked, each option by its own row.
func TestLeaseFileRefuses(t *testing.T) {
	bad := netip.MustParseAddr("224.0.0.1")
	for name, edit := range map[string]func(*Lease){
		"no MAC":              func(l *Lease) { l.MAC = MAC{} },
		"no address":          func(l *Lease) { l.Prefix = netip.Prefix{} },
		"no network":          func(l *Lease) { l.Prefix = netip.PrefixFrom(simAddr, 0) },
		"no server":           func(l *Lease) { l.Server = netip.Addr{} },
		"no start":            func(l *Lease) { l.Start = time.Time{} },
		"an end before T2":    func(l *Lease) { l.Expiry = l.Renew },
		"router":              func(l *Lease) { l.Router = bad },
		"route":               func(l *Lease) { l.Routes[0].Via = bad },
		"route to everything": func(l *Lease) { l.Routes[0].Dst = netip.MustParsePrefix("0.0.0.0/0") },
		"name server":         func(l *Lease) { l.DNS[0] = bad },
		"domain":              func(l *Lease) { l.Domains[0] = "isp..example" },
		"MTU":                 func(l *Lease) { l.MTU = minMTU - 1 },
		"broadcast":           func(l *Lease) { l.Broadcast = bad },
		"VLAN":                func(l *Lease) { l.VoiceVLAN = 4095 },
		"storing server":      func(l *Lease) { l.StoringServers[0] = " storing.example" },
	} {
		l := storedExample()
		edit(&l)
		b, err := encodeLease(l)
		if err != nil {
			t.Fatal(err)
		}
		if l, err := decodeLease(b); err == nil {
			t.Errorf("%s: accepted as %+v", name, l)
		}
	}
	// And what options are read into is what is kept of them.
	kept := reflect.TypeFor[Lease]()
	known := storedExample()
	for i := range kept.NumField() {
		if f := kept.Field(i); f.Tag.Get("json") != "-" && reflect.ValueOf(known).Field(i).IsZero() {
			t.Errorf("the example of a stored lease has no %s", f.Name)
		}
	}
}

func FuzzDecodeLease(f *testing.F) {
	b, err := encodeLease(storedExample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"mac":"02:00:5e:00:53:01","prefix":"0.0.0.0/0"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := decodeLease(b)
		if err != nil {
			return
		}
		stored, err := encodeLease(l)
		if err != nil {
			t.Skip() // a year beyond RFC 3339
		}
		again, err := decodeLease(stored)
		if err != nil || again.Prefix != l.Prefix || again.Server != l.Server || !again.Expiry.Equal(l.Expiry) {
			t.Errorf("%+v became %+v, %v", l, again, err)
		}
	})
}
