package trust

import (
	"net/netip"
	"testing"
	"time"

	"flexphone/registry-client/wire"
)

func TestExempt(t *testing.T) {
	e, err := ParseExempt([]string{"192.0.2.7", "198.51.100.0/24", "2001:db8:1::/48", "2001:db8:2:3::9", "::ffff:203.0.113.1"})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"192.0.2.7": true, "192.0.2.8": false, "::ffff:192.0.2.7": true, "198.51.100.255": true, "198.51.101.0": false,
		"2001:db8:1:ffff::1": true, "2001:db8:2:3:4::": true, "2001:db8:2:4::": false, "203.0.113.1": true,
	} {
		if got := e.Has(NetworkOf(netip.MustParseAddr(text))); got != want {
			t.Errorf("Has(%s) = %v; want %v", text, got, want)
		}
	}
	if e.Has(Network{}) || Exempt(nil).Has(NetworkOf(netip.MustParseAddr("192.0.2.7"))) {
		t.Error("nobody is exempt")
	}
	for _, text := range []string{"", "x", "192.0.2.0/33", "fe80::1%eth0", "2001:db8::/65", "::ffff:192.0.2.0/120"} {
		if _, err := ParseExempt([]string{text}); err == nil {
			t.Errorf("ParseExempt(%q) succeeded", text)
		}
	}
}

// Who is exempt is not limited by its network, and by its key all the same.
func TestExemptLookups(t *testing.T) {
	now := time.Unix(1e9, 0)
	e, _ := ParseExempt([]string{"192.0.2.7"})
	at, other := NetworkOf(netip.MustParseAddr("192.0.2.7")), NetworkOf(netip.MustParseAddr("192.0.2.8"))
	l := NewLookups(0.001, e)
	for i := range 500 {
		if !l.Allow(wire.Fingerprint{}, at, now) {
			t.Fatalf("lookup %d of an exempt resolver is refused", i)
		}
	}
	allowed := func(key wire.Fingerprint, at Network) (n int) {
		for range 500 {
			if l.Allow(key, at, now) {
				n++
			}
		}
		return n
	}
	if n := allowed(wire.Fingerprint{}, other); n != 20 {
		t.Errorf("%d lookups of another; want 20", n)
	}
	if n := allowed(wire.Fingerprint{1}, at); n != 20 {
		t.Errorf("%d lookups of one key there; want 20", n)
	}
}

// New phones are limited by their network, and in all.
func TestEnrolments(t *testing.T) {
	now := time.Unix(1e9, 0)
	e, _ := ParseExempt([]string{"192.0.2.7"})
	p := Policy{Enrolments: NewEnrolments(100, e), MostRows: 1000}
	at, pbx := NetworkOf(netip.MustParseAddr("192.0.2.8")), NetworkOf(netip.MustParseAddr("192.0.2.7"))
	n := 0
	for range 1000 {
		if p.MayEnrol(at, 10, now) == nil {
			n++
		}
		if err := p.MayEnrol(pbx, 10, now); err != nil {
			t.Fatalf("an exempt network: %v", err)
		}
	}
	if n != 100 {
		t.Errorf("%d phones of one network enrolled at once; want 100", n)
	}
	for range 1000 {
		if p.MayEnrol(at, 10, now.Add(30*time.Minute)) == nil {
			n++
		}
	}
	if n != 150 {
		t.Errorf("%d after half an hour; want 150", n)
	}
	for rows, want := range map[int]error{999: nil, 1000: ErrRowsFull, 1001: ErrRowsFull} {
		if err := p.MayEnrol(pbx, rows, now); err != want {
			t.Errorf("with %d rows: %v; want %v", rows, err, want)
		}
	}
	if err := (Policy{}).MayEnrol(at, 1e9, now); err != nil {
		t.Errorf("without a policy: %v", err)
	}
}
